// SPDX-License-Identifier: MIT
// A device queue of eight entries, split or packed, in 1 MiB of guest memory, driven by hand.
#ifndef VBALLOON_TESTS_RING_BOTH_RINGS_FIXTURE_H_
#define VBALLOON_TESTS_RING_BOTH_RINGS_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "ring/hand_driver.h"
#include "test_memory.h"
#include "vballoon/device_queue.h"
#include "vballoon/error.h"
#include "vballoon/guest_memory.h"

namespace vballoon::testing {

enum class RingKind { kSplit, kPacked };

inline constexpr auto ring_name = [](const ::testing::TestParamInfo<RingKind>& suite) {
  return suite.param == RingKind::kPacked ? "Packed" : "Split";
};

class BothRingsFixture : public ::testing::TestWithParam<RingKind> {
 protected:
  static constexpr std::uint64_t kMemoryBytes = 1 << 20;
  static constexpr std::uint16_t kSize = 8;
  static constexpr std::uint64_t kTable = 0x20000;    // for indirect tables
  static constexpr std::uint64_t kPayload = 0x30000;  // for what descriptors name

  BothRingsFixture() { start(config_); }

  static bool packed() { return GetParam() == RingKind::kPacked; }
  static QueueConfig make_config(std::uint16_t size) {
    return packed() ? raw_packed_config(size) : raw_config(size);
  }

  // A queue and a driver that begin anew; the rings are cleared.
  void start(const QueueConfig& config) {
    config_ = config;
    const std::vector<std::byte> zeros(kTable);
    if (!memory_->write(0, zeros)) throw std::runtime_error("no memory");
    driver_ = make_hand_driver(memory_, config_);
    if (!queue_.start(memory_, config_)) throw std::runtime_error("queue does not start");
  }
  void start_in_order() {
    config_.in_order = true;
    start(config_);
  }
  void start_with_indirect() {
    config_.indirect = true;
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
  void offer_one(std::uint16_t id) { driver_->offer(id, {{kPayload + 16u * id, 16}}); }
  // A readable piece behind a writable one.
  void offer_malformed(std::uint16_t id) {
    driver_->offer(id, {{kPayload, 16, true}, {kPayload, 16, false}});
  }
  // Makes the buffers 0 to count - 1 available, and takes them.
  std::vector<DescriptorChain> offer_and_pop(std::uint16_t count) {
    std::vector<DescriptorChain> chains;
    for (std::uint16_t i = 0; i < count; ++i) {
      offer_one(i);
      chains.push_back(pop_chain());
    }
    return chains;
  }
  // Offers, takes and returns `count` buffers, one after the other; the driver sees them.
  void turn(std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      offer_one(0);
      pop_chain().complete();
      (void)queue_.publish();
      (void)driver_->take_returned();
    }
  }
  std::vector<RawUsed> publish_and_take() {
    (void)queue_.publish();
    return driver_->take_returned();
  }

  std::shared_ptr<const GuestMemory> memory_ = memory_of(kMemoryBytes);
  QueueConfig config_ = make_config(kSize);
  std::unique_ptr<HandDriver> driver_;
  DeviceQueue queue_;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_RING_BOTH_RINGS_FIXTURE_H_
