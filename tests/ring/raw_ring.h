// SPDX-License-Identifier: MIT
// A split ring written by hand: a driver that may be as hostile as a test needs.
//
// The offsets are computed here, from virtio 1.3, section 2.7, and not with the library's own.
#ifndef VBALLOON_TESTS_RING_RAW_RING_H_
#define VBALLOON_TESTS_RING_RAW_RING_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <utility>

#include "vballoon/device_queue.h"
#include "vballoon/guest_memory.h"

namespace vballoon::testing {

inline constexpr std::uint16_t kNext = 1;
inline constexpr std::uint16_t kWrite = 2;
inline constexpr std::uint16_t kIndirect = 4;

struct RawDescriptor {
  std::uint64_t address = 0;
  std::uint32_t length = 0;
  std::uint16_t flags = 0;
  std::uint16_t next = 0;
  friend bool operator==(const RawDescriptor&, const RawDescriptor&) = default;
};

struct RawUsed {
  std::uint32_t id = 0;
  std::uint32_t length = 0;
  friend bool operator==(const RawUsed&, const RawUsed&) = default;
};

// A queue whose three parts lie one page or more apart from `base` on.
inline QueueConfig raw_config(std::uint16_t size, std::uint64_t base = 0) {
  const auto pages = [](std::uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; };
  QueueConfig config;
  config.size = size;
  config.descriptor_table = base;
  config.available_ring = base + pages(std::uint64_t{16} * size);
  config.used_ring = config.available_ring + pages(6 + std::uint64_t{2} * size);
  return config;
}

// What a ring written by hand stands in; all that a test puts there must be inside.
class RawMemory {
 protected:
  explicit RawMemory(std::shared_ptr<const GuestMemory> memory) : memory_(std::move(memory)) {}

  template <typename T>
  void put(std::uint64_t address, const T& value) {
    if (!memory_->write(address, std::as_bytes(std::span(&value, 1)))) {
      throw std::out_of_range("RawMemory: outside guest memory");
    }
  }
  template <typename T>
  [[nodiscard]] T get(std::uint64_t address) const {
    T value{};
    if (!memory_->read(address, std::as_writable_bytes(std::span(&value, 1)))) {
      throw std::out_of_range("RawMemory: outside guest memory");
    }
    return value;
  }

 private:
  std::shared_ptr<const GuestMemory> memory_;
};

class RawRing : private RawMemory {
 public:
  RawRing(std::shared_ptr<const GuestMemory> memory, const QueueConfig& config)
      : RawMemory(std::move(memory)), config_(config) {}

  void describe(std::uint16_t index, const RawDescriptor& descriptor) {
    put(config_.descriptor_table + std::uint64_t{16} * index, descriptor);
  }
  // An entry of an indirect table.
  void describe_at(std::uint64_t table, std::uint16_t index, const RawDescriptor& descriptor) {
    put(table + std::uint64_t{16} * index, descriptor);
  }

  // Puts a head on the available ring and moves the index.
  void offer(std::uint16_t head) {
    put(config_.available_ring + 4 + 2 * (avail_index() % config_.size), head);
    set_avail_index(static_cast<std::uint16_t>(avail_index() + 1));
  }
  // describe(index) and offer(index).
  void offer(std::uint16_t index, const RawDescriptor& descriptor) {
    describe(index, descriptor);
    offer(index);
  }

  [[nodiscard]] std::uint16_t avail_index() const {
    return get<std::uint16_t>(config_.available_ring + 2);
  }
  void set_avail_index(std::uint16_t value) { put(config_.available_ring + 2, value); }
  void set_avail_flags(std::uint16_t value) { put(config_.available_ring, value); }
  void set_used_event(std::uint16_t value) {
    put(config_.available_ring + 4 + std::uint64_t{2} * config_.size, value);
  }

  [[nodiscard]] std::uint16_t used_flags() const { return get<std::uint16_t>(config_.used_ring); }
  [[nodiscard]] std::uint16_t used_index() const {
    return get<std::uint16_t>(config_.used_ring + 2);
  }
  void set_used_index(std::uint16_t value) { put(config_.used_ring + 2, value); }
  void set_used_flags(std::uint16_t value) { put(config_.used_ring, value); }
  [[nodiscard]] RawUsed used(std::uint16_t index) const {
    return get<RawUsed>(config_.used_ring + 4 + std::uint64_t{8} * (index % config_.size));
  }
  void set_used(std::uint16_t index, const RawUsed& element) {
    put(config_.used_ring + 4 + std::uint64_t{8} * (index % config_.size), element);
  }
  [[nodiscard]] std::uint16_t avail_event() const {
    return get<std::uint16_t>(config_.used_ring + 4 + std::uint64_t{8} * config_.size);
  }
  void set_avail_event(std::uint16_t value) {
    put(config_.used_ring + 4 + std::uint64_t{8} * config_.size, value);
  }
  [[nodiscard]] std::uint16_t avail_flags() const {
    return get<std::uint16_t>(config_.available_ring);
  }
  [[nodiscard]] std::uint16_t used_event() const {
    return get<std::uint16_t>(config_.available_ring + 4 + std::uint64_t{2} * config_.size);
  }
  // The head in an entry of the available ring.
  [[nodiscard]] std::uint16_t offered(std::uint16_t index) const {
    return get<std::uint16_t>(config_.available_ring + 4 + 2 * (index % config_.size));
  }
  [[nodiscard]] RawDescriptor descriptor(std::uint16_t index) const {
    return get<RawDescriptor>(config_.descriptor_table + std::uint64_t{16} * index);
  }

 private:
  QueueConfig config_;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_RING_RAW_RING_H_
