// SPDX-License-Identifier: MIT
// What a driver does on a split ring and on no other (src/ring/split_driver_queue.cc), with a
// device written by hand.
#include <gtest/gtest.h>

#include <cstdint>
#include <stdexcept>

#include "ring/driver_queue_fixture.h"
#include "ring/raw_ring.h"

namespace vballoon {
namespace {

using testing::kIndirect;
using testing::kNext;
using testing::kWrite;
using testing::raw_config;

class SplitDriverQueueTest : public ::testing::Test, protected testing::DriverUnderTest {
 protected:
  static constexpr std::uint16_t kSize = 8;

  SplitDriverQueueTest() : DriverUnderTest(raw_config(kSize)) {}

  // What a device does: returns a head.
  void use(std::uint32_t id) {
    ring_.set_used(ring_.used_index(), {id, 0});
    ring_.set_used_index(static_cast<std::uint16_t>(ring_.used_index() + 1));
  }
  // Adds, uses and takes back `count` buffers, one after the other.
  void turn(std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      if (!add(1)) throw std::runtime_error("no descriptor");
      (void)driver_->publish();
      use(ring_.offered(static_cast<std::uint16_t>(ring_.avail_index() - 1)));
      if (!driver_->take_used()) throw std::runtime_error("nothing used");
    }
  }

  testing::RawRing ring_{memory_, config_};
};

// SPL-G-21.
TEST_F(SplitDriverQueueTest, CreationClearsWhatAnEarlierUseLeft) {
  ring_.set_used_flags(1);
  ring_.set_used_index(7);
  ring_.set_avail_index(9);

  create();

  EXPECT_EQ(ring_.used_flags(), 0u);
  EXPECT_EQ(ring_.used_index(), 0u);
  EXPECT_EQ(ring_.avail_index(), 0u);
}

// SPL-G-04.
TEST_F(SplitDriverQueueTest, ReadablePiecesStandInFrontOfWritableOnes) {
  ASSERT_TRUE(driver_->add({{{0x30000, 1}}}, {{{0x31000, 2}}}, 1));
  (void)driver_->publish();

  const auto first = ring_.descriptor(ring_.offered(0));
  const auto second = ring_.descriptor(first.next);
  EXPECT_EQ(first.address, 0x30000u);
  EXPECT_EQ(first.flags, kNext);
  EXPECT_EQ(second.length, 2u);
  EXPECT_EQ(second.flags, kWrite);
}

TEST_F(SplitDriverQueueTest, UsedIdOutsideTheTableIsDroppedAndCounted) {
  use(kSize);
  use(0xFFFFFFFF);

  EXPECT_FALSE(driver_->take_used());

  EXPECT_EQ(driver_->bogus_used(), 2u);
}

TEST_F(SplitDriverQueueTest, UsedIdInTheMiddleOfAChainIsDropped) {
  ASSERT_TRUE(add(2));
  use(ring_.descriptor(ring_.offered(0)).next);

  EXPECT_FALSE(driver_->take_used());

  EXPECT_EQ(driver_->bogus_used(), 1u);
}

TEST_F(SplitDriverQueueTest, UsedIndexFarAheadEndsInOneCall) {
  ring_.set_used_index(65535);

  EXPECT_FALSE(driver_->take_used());

  EXPECT_EQ(driver_->bogus_used(), 65535u);
}

TEST_F(SplitDriverQueueTest, IndicesWrapAt65536) {
  turn(65536 + 3);

  EXPECT_EQ(ring_.avail_index(), 3u);
  EXPECT_EQ(driver_->bogus_used(), 0u);
  EXPECT_EQ(driver_->free_descriptors(), kSize);
}

TEST_F(SplitDriverQueueTest, IndirectChainTakesOneDescriptor) {
  create_with_indirect();
  ASSERT_TRUE(add_indirect(3));
  (void)driver_->publish();

  const auto table = ring_.descriptor(ring_.offered(0));
  EXPECT_EQ(table.flags, kIndirect);
  EXPECT_EQ(table.address, kTable);
  EXPECT_EQ(table.length, 48u);
  EXPECT_EQ(driver_->free_descriptors(), kSize - 1);
}

// SPL-G-23.
TEST_F(SplitDriverQueueTest, DeviceIsNotKickedWhenItsFlagIsSet) {
  ring_.set_used_flags(1);
  ASSERT_TRUE(add(1));

  EXPECT_FALSE(driver_->publish());
}

// SPL-G-22.
TEST_F(SplitDriverQueueTest, AvailEventIsIgnoredWithoutTheFeature) {
  ring_.set_avail_event(40);
  ASSERT_TRUE(add(1));

  EXPECT_TRUE(driver_->publish());
}

// SPL-G-15, SPL-G-14.
TEST_F(SplitDriverQueueTest, DisabledInterruptsSetTheFlagAndEnabledOnesClearIt) {
  driver_->disable_interrupts();
  const std::uint16_t disabled = ring_.avail_flags();

  EXPECT_FALSE(driver_->enable_interrupts());

  EXPECT_EQ(disabled, 1u);
  EXPECT_EQ(ring_.avail_flags(), 0u);
}

// SPL-G-26.
TEST_F(SplitDriverQueueTest, DeviceIsKickedAtTheEntryItWaitsFor) {
  create_with_event_index();
  turn(3);
  ring_.set_avail_event(3);
  ASSERT_TRUE(add(1));

  EXPECT_TRUE(driver_->publish());
}

// SPL-G-27.
TEST_F(SplitDriverQueueTest, DeviceIsNotKickedBeforeTheEntryItWaitsFor) {
  create_with_event_index();
  turn(3);
  ring_.set_avail_event(4);
  ASSERT_TRUE(add(1));

  EXPECT_FALSE(driver_->publish());
}

// SPL-G-28.
TEST_F(SplitDriverQueueTest, DeviceIsKickedInTheMiddleOfABatch) {
  create_with_event_index();
  ring_.set_avail_event(1);
  ASSERT_TRUE(add(1) && add(1) && add(1));

  EXPECT_TRUE(driver_->publish());
}

// SPL-G-25.
TEST_F(SplitDriverQueueTest, NotifyFlagIsIgnoredWithEventIndex) {
  create_with_event_index();
  ring_.set_used_flags(1);
  ASSERT_TRUE(add(1));

  EXPECT_TRUE(driver_->publish());
}

// SPL-G-16, SPL-G-17.
TEST_F(SplitDriverQueueTest, InterruptsAreAskedForByUsedEvent) {
  create_with_event_index();
  turn(3);
  driver_->disable_interrupts();
  const std::uint16_t disabled = ring_.used_event();

  EXPECT_FALSE(driver_->enable_interrupts());

  EXPECT_EQ(disabled, 2u);
  EXPECT_EQ(ring_.used_event(), 3u);
  EXPECT_EQ(ring_.avail_flags(), 0u);
}

// 2.9: of a split ring a kick gives all 16 bits of the index, with what it calls the wrap counter.
TEST_F(SplitDriverQueueTest, NTF_I_01_NextAvailableIsTheAvailableIndex) {
  turn(0x8001);

  EXPECT_EQ(driver_->next_available(), 0x8001u);
}

}  // namespace
}  // namespace vballoon
