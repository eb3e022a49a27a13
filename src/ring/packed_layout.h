// SPDX-License-Identifier: MIT
// What a packed virtqueue looks like in guest memory (virtio 1.3, section 2.8), for both sides.
#ifndef VBALLOON_SRC_RING_PACKED_LAYOUT_H_
#define VBALLOON_SRC_RING_PACKED_LAYOUT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "ring/device_memory.h"
#include "ring/ring_field.h"
#include "vballoon/device_queue.h"

namespace vballoon {

struct PackedDescriptor {
  std::uint64_t address = 0;
  std::uint32_t length = 0;
  std::uint16_t id = 0;
  std::uint16_t flags = 0;
};
static_assert(sizeof(PackedDescriptor) == 16);

inline constexpr std::uint16_t kPackedAvail = 1 << 7;
inline constexpr std::uint16_t kPackedUsed = 1 << 15;

constexpr std::uint64_t packed_ring_bytes(std::uint16_t size) {
  return sizeof(PackedDescriptor) * std::uint64_t{size};
}
inline constexpr std::uint64_t kPackedEventBytes = 4;

// A place in the ring with the wrap counter that belongs to it. A side steps over the end of the
// ring to its beginning and turns its counter over; so a place comes again after two rounds, and
// two places that are at most a round apart are told apart.
class PackedPlace {
 public:
  constexpr PackedPlace() = default;  // where a ring begins
  constexpr PackedPlace(std::uint16_t index, bool wrap)
      : word_(static_cast<std::uint16_t>(index | (wrap ? kWrapBit : 0))) {}

  // As event structures have it: the index in 15 bits, the counter above.
  [[nodiscard]] static constexpr PackedPlace of_word(std::uint16_t word) {
    PackedPlace place;
    place.word_ = word;
    return place;
  }
  [[nodiscard]] constexpr std::uint16_t word() const { return word_; }

  [[nodiscard]] constexpr std::uint16_t index() const {
    return static_cast<std::uint16_t>(word_ & ~kWrapBit);
  }
  [[nodiscard]] constexpr bool wrap() const { return (word_ & kWrapBit) != 0; }

  constexpr void advance(std::uint16_t entries, std::uint16_t size) {
    const std::uint32_t next = std::uint32_t{index()} + entries;
    const bool over = next >= size;
    *this = {static_cast<std::uint16_t>(over ? next - size : next), wrap() != over};
  }
  friend constexpr bool operator==(const PackedPlace&, const PackedPlace&) = default;

 private:
  static constexpr std::uint16_t kWrapBit = 1 << 15;

  // One word: it is written and read as a whole all the time.
  std::uint16_t word_ = kWrapBit;
};

// How many entries lie between two places, going forward: less than two rounds.
constexpr std::uint32_t packed_distance(PackedPlace from, PackedPlace to, std::uint16_t size) {
  const std::uint32_t begin = from.index() + (from.wrap() ? 0u : size);
  const std::uint32_t end = to.index() + (to.wrap() ? 0u : size);
  return end >= begin ? end - begin : end + 2u * size - begin;
}

// A descriptor is available when AVAIL, and not USED, is as the wrap counter of the place; it is
// used when both are.
constexpr std::uint16_t available_bits(bool wrap) { return wrap ? kPackedAvail : kPackedUsed; }
constexpr std::uint16_t used_bits(bool wrap) {
  return wrap ? kPackedAvail | kPackedUsed : std::uint16_t{0};
}
constexpr bool is_available(std::uint16_t flags, bool wrap) {
  return (flags & (kPackedAvail | kPackedUsed)) == available_bits(wrap);
}
constexpr bool is_used(std::uint16_t flags, bool wrap) {
  return (flags & (kPackedAvail | kPackedUsed)) == used_bits(wrap);
}

// Event suppression (2.8.10): both halves in one word, so that they are never seen apart. The place
// is in the low half, and means something with kEventSpecific only.
inline constexpr std::uint16_t kEventEnable = 0;
inline constexpr std::uint16_t kEventDisable = 1;
inline constexpr std::uint16_t kEventSpecific = 2;

constexpr std::uint32_t event_word(std::uint16_t flags,
                                   PackedPlace place = PackedPlace::of_word(0)) {
  return std::uint32_t{place.word()} | std::uint32_t{flags} << 16;
}

// Whether going on from `before` to `now`, at most one round, has to be told to a side that left
// `event`. Flags and places that mean nothing ask for it: one time too many does no harm.
constexpr bool wants_packed_event(std::uint32_t event, bool event_index, PackedPlace before,
                                  PackedPlace now, std::uint16_t size) {
  const auto flags = static_cast<std::uint16_t>(event >> 16 & 3);
  if (flags == kEventDisable) return false;
  if (flags != kEventSpecific || !event_index) return true;
  const PackedPlace awaited = PackedPlace::of_word(static_cast<std::uint16_t>(event));
  return awaited.index() >= size ||
         packed_distance(before, awaited, size) < packed_distance(before, now, size);
}

// The three parts of a queue, in this process.
class PackedLayout {
 public:
  using Flags = GuestField<std::uint16_t>;
  using Event = GuestField<std::uint32_t>;

  // Nothing when the size, an alignment or a place is not allowed. The memory must outlive it.
  [[nodiscard]] static std::optional<PackedLayout> locate(const DeviceMemory& memory,
                                                          const QueueConfig& config);

  [[nodiscard]] std::uint16_t size() const { return size_; }

  // The flags of an entry say whose it is: the side that gives it away stores them last, with
  // release, and the other reads them first, with acquire.
  [[nodiscard]] Flags flags(std::uint16_t index) const {
    return Flags(descriptors_ + sizeof(PackedDescriptor) * index +
                 offsetof(PackedDescriptor, flags));
  }
  // The rest of an entry, beside flags that were read before.
  [[nodiscard]] PackedDescriptor load_descriptor(std::uint16_t index, std::uint16_t flags) const {
    std::byte* const at = descriptors_ + sizeof(PackedDescriptor) * index;
    return {GuestField<std::uint64_t>(at + offsetof(PackedDescriptor, address)).load(),
            GuestField<std::uint32_t>(at + offsetof(PackedDescriptor, length)).load(),
            GuestField<std::uint16_t>(at + offsetof(PackedDescriptor, id)).load(), flags};
  }
  // Everything but the flags.
  void store_descriptor(std::uint16_t index, const PackedDescriptor& descriptor) const {
    std::byte* const at = descriptors_ + sizeof(PackedDescriptor) * index;
    GuestField<std::uint64_t>(at + offsetof(PackedDescriptor, address)).store(descriptor.address);
    store_used(index, descriptor.id, descriptor.length);
  }
  // A used descriptor has no address.
  void store_used(std::uint16_t index, std::uint16_t id, std::uint32_t length) const {
    std::byte* const at = descriptors_ + sizeof(PackedDescriptor) * index;
    GuestField<std::uint32_t>(at + offsetof(PackedDescriptor, length)).store(length);
    GuestField<std::uint16_t>(at + offsetof(PackedDescriptor, id)).store(id);
  }

  [[nodiscard]] Event driver_event() const { return Event(driver_event_); }
  [[nodiscard]] Event device_event() const { return Event(device_event_); }

 private:
  PackedLayout() = default;

  std::byte* descriptors_ = nullptr;
  std::byte* driver_event_ = nullptr;
  std::byte* device_event_ = nullptr;
  std::uint16_t size_ = 0;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_RING_PACKED_LAYOUT_H_
