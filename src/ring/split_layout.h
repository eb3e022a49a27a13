// SPDX-License-Identifier: MIT
// What a split virtqueue looks like in guest memory (virtio 1.3, section 2.7), for both sides.
#ifndef VBALLOON_SRC_RING_SPLIT_LAYOUT_H_
#define VBALLOON_SRC_RING_SPLIT_LAYOUT_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "ring/device_memory.h"
#include "ring/ring_field.h"
#include "vballoon/device_queue.h"

namespace vballoon {

struct Descriptor {
  std::uint64_t address = 0;
  std::uint32_t length = 0;
  std::uint16_t flags = 0;
  std::uint16_t next = 0;
};
static_assert(sizeof(Descriptor) == 16);

inline constexpr std::uint16_t kAvailNoInterrupt = 1;
inline constexpr std::uint16_t kUsedNoNotify = 1;

struct UsedElement {
  std::uint32_t id = 0;
  std::uint32_t length = 0;
};
static_assert(sizeof(UsedElement) == 8);

constexpr std::uint64_t descriptor_table_bytes(std::uint16_t size) {
  return sizeof(Descriptor) * std::uint64_t{size};
}
// Flags, index, one head an entry, used_event.
constexpr std::uint64_t available_ring_bytes(std::uint16_t size) {
  return 6 + 2 * std::uint64_t{size};
}
// Flags, index, one element an entry, avail_event.
constexpr std::uint64_t used_ring_bytes(std::uint16_t size) {
  return 6 + sizeof(UsedElement) * std::uint64_t{size};
}

// Whether moving an index from `before` to `now` passed the entry that the other side waits for.
constexpr bool passes_event(std::uint16_t event, std::uint16_t now, std::uint16_t before) {
  return static_cast<std::uint16_t>(now - event - 1) < static_cast<std::uint16_t>(now - before);
}

// The three parts of a queue, in this process. Indices wrap by themselves.
class SplitLayout {
 public:
  using Field = GuestField<std::uint16_t>;

  // Nothing when the size, an alignment or a place is not allowed. The memory must outlive it.
  [[nodiscard]] static std::optional<SplitLayout> locate(const DeviceMemory& memory,
                                                         const QueueConfig& config);

  [[nodiscard]] std::uint16_t size() const { return size_; }

  [[nodiscard]] Descriptor load_descriptor(std::uint16_t index) const;
  void store_descriptor(std::uint16_t index, const Descriptor& descriptor) const;

  [[nodiscard]] Field avail_flags() const { return Field(available_); }
  [[nodiscard]] Field avail_index() const { return Field(available_ + 2); }
  [[nodiscard]] Field avail_head(std::uint16_t index) const {
    return Field(available_ + 4 + std::size_t{2} * slot(index));
  }
  [[nodiscard]] Field used_event() const { return Field(available_ + 4 + std::size_t{2} * size_); }

  [[nodiscard]] Field used_flags() const { return Field(used_); }
  [[nodiscard]] Field used_index() const { return Field(used_ + 2); }
  [[nodiscard]] UsedElement load_used(std::uint16_t index) const;
  void store_used(std::uint16_t index, UsedElement element) const;
  [[nodiscard]] Field avail_event() const { return Field(used_ + 4 + sizeof(UsedElement) * size_); }

 private:
  SplitLayout() = default;

  [[nodiscard]] std::uint16_t slot(std::uint16_t index) const {
    return static_cast<std::uint16_t>(index & (size_ - 1));
  }

  std::byte* descriptors_ = nullptr;
  std::byte* available_ = nullptr;
  std::byte* used_ = nullptr;
  std::uint16_t size_ = 0;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_RING_SPLIT_LAYOUT_H_
