// SPDX-License-Identifier: MIT
// A device queue of eight entries, split or packed, in 1 MiB of guest memory, driven by hand.
#ifndef VBALLOON_TESTS_RING_BOTH_RINGS_FIXTURE_H_
#define VBALLOON_TESTS_RING_BOTH_RINGS_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

#include "ring/hand_driver.h"
#include "ring/queue_fixture.h"
#include "ring/ring_kind.h"
#include "vballoon/device_queue.h"

namespace vballoon::testing {

class BothRingsFixture : public ::testing::TestWithParam<RingKind>, protected QueueUnderTest {
 protected:
  BothRingsFixture() : QueueUnderTest(make_config(kSize)) { start(config_); }

  static bool packed() { return GetParam() == RingKind::kPacked; }
  static QueueConfig make_config(std::uint16_t size) { return raw_config(GetParam(), size); }

  // A queue and a driver that begin anew; the rings are cleared.
  void start(const QueueConfig& config) {
    config_ = config;
    const std::vector<std::byte> zeros(kTable);
    if (!memory_->write(0, zeros)) throw std::runtime_error("no memory");
    driver_ = make_hand_driver(memory_, config_);
    start_queue();
  }
  void start_in_order() {
    config_.in_order = true;
    start(config_);
  }
  void start_with_indirect() {
    config_.indirect = true;
    start(config_);
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

  std::unique_ptr<HandDriver> driver_;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_RING_BOTH_RINGS_FIXTURE_H_
