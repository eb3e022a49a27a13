// SPDX-License-Identifier: MIT
// One device's view of both rings, for tests of what a driver does whatever the ring is.
#ifndef VBALLOON_TESTS_RING_HAND_DEVICE_H_
#define VBALLOON_TESTS_RING_HAND_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "ring/raw_packed_ring.h"
#include "ring/raw_ring.h"
#include "vballoon/device_queue.h"
#include "vballoon/guest_memory.h"

namespace vballoon::testing {

class HandDevice {
 public:
  virtual ~HandDevice() = default;

  // How many buffers the driver has made available so far.
  std::size_t available() {
    look();
    return buffers_.size();
  }
  // Answers a buffer. The first one that the driver made available has number 0.
  void use(std::size_t number, std::uint32_t written = 0) {
    look();
    const Buffer& buffer = buffers_.at(number);
    answer({buffer.id, written}, buffer.places);
  }
  // In order: answers the first `count` buffers by one used entry, which names the last of them.
  void use_first(std::size_t count, std::uint32_t written = 0) {
    look();
    std::size_t places = 0;
    for (std::size_t i = 0; i < count; ++i) places += buffers_.at(i).places;
    answer({buffers_.at(count - 1).id, written}, places);
  }
  // Answers what the driver may not have given out.
  void use_id(std::uint16_t id) {
    look();
    answer({id, 0}, 1);
  }

 protected:
  struct Buffer {
    std::uint16_t id = 0;
    std::size_t places = 0;  // that the driver goes on by when the buffer is used
  };

  // Adds what became available to buffers_; to be called before an answer takes its place.
  virtual void look() = 0;
  // Writes a used entry, and goes on to where the next one comes.
  virtual void answer(const RawUsed& used, std::size_t places) = 0;

  std::vector<Buffer> buffers_;
};

class SplitHandDevice final : public HandDevice {
 public:
  SplitHandDevice(const std::shared_ptr<const GuestMemory>& memory, const QueueConfig& config)
      : ring_(memory, config) {}

 private:
  void look() override {
    while (next_available_ != ring_.avail_index()) {
      buffers_.push_back({ring_.offered(next_available_++), 1});
    }
  }
  void answer(const RawUsed& used, std::size_t places) override {
    ring_.set_used(ring_.used_index(), used);
    ring_.set_used_index(static_cast<std::uint16_t>(ring_.used_index() + places));
  }

  RawRing ring_;
  std::uint16_t next_available_ = 0;
};

class PackedHandDevice final : public HandDevice {
 public:
  PackedHandDevice(const std::shared_ptr<const GuestMemory>& memory, const QueueConfig& config)
      : ring_(memory, config), size_(config.size) {}

 private:
  // A list's id stands in its last descriptor.
  void look() override {
    for (auto descriptor = ring_.read(next_available_.index);
         is_available_at(next_available_, descriptor);
         descriptor = ring_.read(next_available_.index)) {
      std::size_t entries = 1;
      while ((descriptor.flags & kNext) != 0) {
        next_available_.advance(1, size_);
        descriptor = ring_.read(next_available_.index);
        ++entries;
      }
      next_available_.advance(1, size_);
      buffers_.push_back({descriptor.id, entries});
    }
  }
  void answer(const RawUsed& used, std::size_t places) override {
    const int bits = (next_used_.wrap ? kAvail | kUsed : 0) | (used.length != 0 ? kWrite : 0);
    ring_.write(next_used_.index, {0, used.length, static_cast<std::uint16_t>(used.id),
                                   static_cast<std::uint16_t>(bits)});
    next_used_.advance(places, size_);
  }

  RawPackedRing ring_;
  std::uint16_t size_;
  RawPlace next_available_;
  RawPlace next_used_;
};

inline std::unique_ptr<HandDevice> make_hand_device(
    const std::shared_ptr<const GuestMemory>& memory, const QueueConfig& config) {
  if (config.packed) return std::make_unique<PackedHandDevice>(memory, config);
  return std::make_unique<SplitHandDevice>(memory, config);
}

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_RING_HAND_DEVICE_H_
