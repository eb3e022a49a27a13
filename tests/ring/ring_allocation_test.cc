// SPDX-License-Identifier: MIT
// A running ring takes nothing from the heap, whatever the guest puts on it.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <ostream>
#include <stdexcept>

#include "allocation_counter.h"
#include "ring/driver_queue.h"
#include "test_memory.h"
#include "vballoon/device_queue.h"
#include "vballoon/guest_memory.h"

namespace vballoon {
namespace {

struct Ring {
  const char* name;
  bool packed;
  bool in_order;

  friend std::ostream& operator<<(std::ostream& out, const Ring& ring) { return out << ring.name; }
};

class RingAllocationTest : public ::testing::TestWithParam<Ring> {
 protected:
  RingAllocationTest() {
    config_.indirect = true;
    config_.in_order = GetParam().in_order;
    driver_ = DriverQueue::create(memory_, config_).value();
    if (!device_.start(memory_, config_)) throw std::runtime_error("queue does not start");
  }

  // Chains of one piece, of all pieces and through a table, there and back.
  void turn(int times) {
    const std::array<GuestBuffer, kSize> pieces{};
    for (int i = 0; i < times; ++i) {
      good_ = good_ && driver_->add(std::span(pieces).first(1), {}, 0);
      good_ = good_ && driver_->add_indirect(pieces, {}, kTable, 1);
      (void)driver_->publish();
      while (auto chain = device_.pop().value()) chain->complete(1);
      (void)device_.publish();
      good_ = good_ && driver_->take_used() && driver_->take_used();
    }
  }
  // Chains that the device must refuse.
  void turn_malformed(int times) {
    const std::array<GuestBuffer, 2> pieces{GuestBuffer{0, 0xFFFFFFFF}, GuestBuffer{0, 0xFFFFFFFF}};
    for (int i = 0; i < times; ++i) {
      good_ = good_ && driver_->add(pieces, {}, 0);
      (void)driver_->publish();
      good_ = good_ && !device_.pop();
      (void)device_.publish();
      good_ = good_ && driver_->take_used();
    }
  }

  static constexpr std::uint16_t kSize = 16;
  static constexpr std::uint64_t kTable = 0x8000;

  std::shared_ptr<const GuestMemory> memory_ = testing::memory_of(1 << 16);
  QueueConfig config_ = lay_out_ring(kSize, 0, GetParam().packed).config;
  std::unique_ptr<DriverQueue> driver_;
  DeviceQueue device_;
  bool good_ = true;
};

INSTANTIATE_TEST_SUITE_P(Rings, RingAllocationTest,
                         ::testing::Values(Ring{"Split", false, false}, Ring{"Packed", true, false},
                                           Ring{"SplitInOrder", false, true},
                                           Ring{"PackedInOrder", true, true}),
                         [](const auto& suite) { return suite.param.name; });

TEST_P(RingAllocationTest, ChainsThereAndBackAllocateNothing) {
  const testing::AllocationCounter allocations;

  turn(100);

  EXPECT_EQ(allocations.count(), 0u);
  EXPECT_TRUE(good_);
}

TEST_P(RingAllocationTest, MalformedChainsAllocateNothing) {
  const testing::AllocationCounter allocations;

  turn_malformed(100);

  EXPECT_EQ(allocations.count(), 0u);
  EXPECT_TRUE(good_);
}

}  // namespace
}  // namespace vballoon
