// SPDX-License-Identifier: MIT
// A device queue of eight entries in 1 MiB of guest memory, driven by hand.
#ifndef VBALLOON_TESTS_RING_DEVICE_QUEUE_FIXTURE_H_
#define VBALLOON_TESTS_RING_DEVICE_QUEUE_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "ring/raw_ring.h"
#include "test_memory.h"
#include "vballoon/device_queue.h"
#include "vballoon/error.h"
#include "vballoon/guest_memory.h"

namespace vballoon::testing {

class DeviceQueueFixture : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kMemoryBytes = 1 << 20;
  static constexpr std::uint16_t kSize = 8;
  static constexpr std::uint64_t kTable = 0x20000;    // for indirect tables
  static constexpr std::uint64_t kPayload = 0x30000;  // for what descriptors name

  DeviceQueueFixture() { start(config_); }

  void start(const QueueConfig& config) {
    config_ = config;
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
  // Why the next pop() fails, if it does.
  std::optional<Errc> pop_error() {
    const auto popped = queue_.pop();
    return popped ? std::nullopt : std::optional(popped.error().code);
  }
  bool pop_is_empty() {
    const auto popped = queue_.pop();
    return popped && !*popped;
  }
  // Offers, takes and returns `count` chains, one after the other.
  void turn(std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      ring_.offer(0, {kPayload, 16, 0, 0});
      pop_chain().complete();
      (void)queue_.publish();
    }
  }
  // What the driver sees returned since `from`.
  std::vector<RawUsed> returned(std::uint16_t from = 0) const {
    std::vector<RawUsed> all;
    for (std::uint16_t i = from; i != ring_.used_index(); ++i) all.push_back(ring_.used(i));
    return all;
  }

  std::shared_ptr<const GuestMemory> memory_ = memory_of(kMemoryBytes);
  QueueConfig config_ = raw_config(kSize);
  RawRing ring_{memory_, config_};
  DeviceQueue queue_;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_RING_DEVICE_QUEUE_FIXTURE_H_
