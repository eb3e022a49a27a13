// SPDX-License-Identifier: MIT
// A device queue in 1 MiB of guest memory, for tests that drive it by hand.
#ifndef VBALLOON_TESTS_RING_QUEUE_FIXTURE_H_
#define VBALLOON_TESTS_RING_QUEUE_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>

#include "test_memory.h"
#include "vballoon/device_queue.h"
#include "vballoon/error.h"
#include "vballoon/guest_memory.h"

namespace vballoon::testing {

// What fixtures have in common, whoever writes the ring.
class QueueUnderTest {
 protected:
  static constexpr std::uint64_t kMemoryBytes = 1 << 20;
  static constexpr std::uint16_t kSize = 8;
  static constexpr std::uint64_t kTable = 0x20000;    // for indirect tables
  static constexpr std::uint64_t kPayload = 0x30000;  // for what descriptors name

  explicit QueueUnderTest(const QueueConfig& config) : config_(config) {}

  void start_queue() {
    if (!queue_.start(memory_, config_)) throw std::runtime_error("queue does not start");
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
  // The malformed chain's error; what the driver got back is on the ring then.
  std::optional<Errc> pop_error_and_publish() {
    const auto error = pop_error();
    (void)queue_.publish();
    return error;
  }

  std::shared_ptr<const GuestMemory> memory_ = memory_of(kMemoryBytes);
  QueueConfig config_;
  DeviceQueue queue_;
};

// A queue that is started, and `Ring`, which writes its ring.
template <typename Ring>
class RingFixture : public ::testing::Test, protected QueueUnderTest {
 protected:
  explicit RingFixture(const QueueConfig& config) : QueueUnderTest(config) { start_queue(); }

  // A ring that is written from its beginning on.
  void start(const QueueConfig& config) {
    config_ = config;
    ring_ = Ring(memory_, config_);
    start_queue();
  }
  void start_with_indirect() {
    config_.indirect = true;
    start(config_);
  }
  void start_with_event_index() {
    config_.event_index = true;
    start(config_);
  }

  Ring ring_{memory_, config_};
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_RING_QUEUE_FIXTURE_H_
