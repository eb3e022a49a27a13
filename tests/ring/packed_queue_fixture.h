// SPDX-License-Identifier: MIT
// A packed device queue of eight entries in 1 MiB of guest memory, driven by hand.
#ifndef VBALLOON_TESTS_RING_PACKED_QUEUE_FIXTURE_H_
#define VBALLOON_TESTS_RING_PACKED_QUEUE_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "ring/raw_packed_ring.h"
#include "test_memory.h"
#include "vballoon/device_queue.h"
#include "vballoon/error.h"
#include "vballoon/guest_memory.h"

namespace vballoon::testing {

class PackedQueueFixture : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kMemoryBytes = 1 << 20;
  static constexpr std::uint16_t kSize = 8;
  static constexpr std::uint64_t kTable = 0x20000;    // for indirect tables
  static constexpr std::uint64_t kPayload = 0x30000;  // for what descriptors name

  PackedQueueFixture() { start(config_); }

  void start(const QueueConfig& config) {
    config_ = config;
    ring_ = RawPackedRing(memory_, config_);
    if (!queue_.start(memory_, config_)) throw std::runtime_error("queue does not start");
  }
  void start_with_indirect() {
    config_.indirect = true;
    start(config_);
  }
  void start_with_event_index() {
    config_.event_index = true;
    start(config_);
  }

  // The next chain; there must be one.
  DescriptorChain pop_chain() {
    auto popped = queue_.pop();
    if (!popped || !*popped) throw std::runtime_error("no chain");
    return std::move(**popped);
  }
  std::optional<Errc> pop_error() {
    const auto popped = queue_.pop();
    return popped ? std::nullopt : std::optional(popped.error().code);
  }
  bool pop_is_empty() {
    const auto popped = queue_.pop();
    return popped && !*popped;
  }
  // The malformed list's error; what the driver got back is on the ring then.
  std::optional<Errc> pop_error_and_publish() {
    const auto error = pop_error();
    (void)queue_.publish();
    return error;
  }
  void offer(std::uint16_t id) { ring_.append({kPayload, 16, id, 0}); }
  // Takes and returns the next chain, without showing it to the driver.
  void answer(std::uint32_t written = 0) { pop_chain().complete(written); }
  // Offers, takes and returns `count` buffers, one after the other.
  void turn(std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      offer(0);
      answer();
      (void)queue_.publish();
    }
  }
  [[nodiscard]] bool is_used(std::uint16_t index, bool wrap) const {
    const std::uint16_t both = kAvail | kUsed;
    return (ring_.read(index).flags & both) == (wrap ? both : 0);
  }

  std::shared_ptr<const GuestMemory> memory_ = memory_of(kMemoryBytes);
  QueueConfig config_ = raw_packed_config(kSize);
  RawPackedRing ring_{memory_, config_};
  DeviceQueue queue_;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_RING_PACKED_QUEUE_FIXTURE_H_
