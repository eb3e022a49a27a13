// SPDX-License-Identifier: MIT
// A packed ring written by hand: a driver that may be as hostile as a test needs.
//
// The offsets and flags are those of virtio 1.3, section 2.8, and not the library's own.
#ifndef VBALLOON_TESTS_RING_RAW_PACKED_RING_H_
#define VBALLOON_TESTS_RING_RAW_PACKED_RING_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "ring/raw_ring.h"
#include "vballoon/device_queue.h"
#include "vballoon/guest_memory.h"

namespace vballoon::testing {

inline constexpr std::uint16_t kAvail = 0x80;
inline constexpr std::uint16_t kUsed = 0x8000;

struct RawPackedDescriptor {
  std::uint64_t address = 0;
  std::uint32_t length = 0;
  std::uint16_t id = 0;
  std::uint16_t flags = 0;
  friend bool operator==(const RawPackedDescriptor&, const RawPackedDescriptor&) = default;
};

// An event suppression structure: a place (bit 15 is the wrap counter) and flags.
struct RawEvent {
  std::uint16_t place = 0;
  std::uint16_t flags = 0;
  friend bool operator==(const RawEvent&, const RawEvent&) = default;
};

inline constexpr std::uint16_t kEnable = 0;
inline constexpr std::uint16_t kDisable = 1;
inline constexpr std::uint16_t kSpecific = 2;
inline constexpr std::uint16_t kWrap = 0x8000;

// A queue whose three parts lie one page or more apart from `base` on.
inline QueueConfig raw_packed_config(std::uint16_t size, std::uint64_t base = 0) {
  QueueConfig config;
  config.size = size;
  config.packed = true;
  config.descriptor_table = base;
  config.available_ring = base + (std::uint64_t{16} * size + 4095) / 4096 * 4096;
  config.used_ring = config.available_ring + 4096;
  return config;
}

// A place in the ring and the wrap counter that belongs to it.
struct RawPlace {
  std::uint16_t index = 0;
  bool wrap = true;

  // At most one round.
  void advance(std::size_t entries, std::uint16_t size) {
    const std::size_t next = index + entries;
    wrap = wrap != (next >= size);
    index = static_cast<std::uint16_t>(next % size);
  }
};

inline bool is_available_at(RawPlace place, const RawPackedDescriptor& descriptor) {
  return (descriptor.flags & (kAvail | kUsed)) == (place.wrap ? kAvail : kUsed);
}
inline bool is_used_at(RawPlace place, const RawPackedDescriptor& descriptor) {
  const int both = kAvail | kUsed;
  return (descriptor.flags & both) == (place.wrap ? both : 0);
}

class RawPackedRing : private RawMemory {
 public:
  RawPackedRing(std::shared_ptr<const GuestMemory> memory, const QueueConfig& config)
      : RawMemory(std::move(memory)), config_(config) {}

  void write(std::uint16_t index, const RawPackedDescriptor& descriptor) {
    put(config_.descriptor_table + std::uint64_t{16} * index, descriptor);
  }
  [[nodiscard]] RawPackedDescriptor read(std::uint16_t index) const {
    return get<RawPackedDescriptor>(config_.descriptor_table + std::uint64_t{16} * index);
  }
  // An entry of an indirect table.
  void write_at(std::uint64_t table, std::uint16_t index, const RawPackedDescriptor& descriptor) {
    put(table + std::uint64_t{16} * index, descriptor);
  }

  // Makes the next descriptor of the ring available: with the two bits of its round.
  void append(RawPackedDescriptor descriptor) {
    descriptor.flags = static_cast<std::uint16_t>(descriptor.flags | (next_.wrap ? kAvail : kUsed));
    write(next_.index, descriptor);
    next_.advance(1, config_.size);
  }

  void set_driver_event(RawEvent event) { put(config_.available_ring, event); }
  [[nodiscard]] RawEvent driver_event() const { return get<RawEvent>(config_.available_ring); }
  void set_device_event(RawEvent event) { put(config_.used_ring, event); }
  [[nodiscard]] RawEvent device_event() const { return get<RawEvent>(config_.used_ring); }

 private:
  QueueConfig config_;
  RawPlace next_;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_RING_RAW_PACKED_RING_H_
