// SPDX-License-Identifier: MIT
// Life of a driver queue and of its buffers, on both rings (src/ring/driver_queue.cc), with a
// device written by hand.
#include "ring/driver_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>

#include "ring/driver_queue_fixture.h"
#include "ring/hand_device.h"
#include "ring/ring_kind.h"

namespace vballoon {
namespace {

using testing::RingKind;
using ::testing::UnorderedElementsAre;
using ::testing::Values;

class DriverQueueTest : public ::testing::TestWithParam<RingKind>,
                        protected testing::DriverUnderTest {
 protected:
  static constexpr std::uint16_t kSize = 8;

  DriverQueueTest() : DriverUnderTest(testing::raw_config(GetParam(), kSize)) {}

  std::unique_ptr<testing::HandDevice> device_ = testing::make_hand_device(memory_, config_);
};

INSTANTIATE_TEST_SUITE_P(BothRings, DriverQueueTest, Values(RingKind::kSplit, RingKind::kPacked),
                         testing::ring_name);

TEST_P(DriverQueueTest, BadConfigurationIsRefused) {
  config_.size = 0;

  const auto created = DriverQueue::create(memory_, config_);

  EXPECT_EQ(created.error().code, Errc::kBadQueueConfig);
}

TEST_P(DriverQueueTest, AddedBuffersAreSeenAfterPublishOnly) {
  ASSERT_TRUE(add(1) && add(2));
  const auto before = device_->available();

  (void)driver_->publish();

  EXPECT_EQ(before, 0u);
  EXPECT_EQ(device_->available(), 2u);
}

TEST_P(DriverQueueTest, BufferTakesOneDescriptorAPiece) {
  ASSERT_TRUE(add(2, 1));

  EXPECT_EQ(driver_->free_descriptors(), kSize - 3);
}

TEST_P(DriverQueueTest, BufferThatDoesNotFitChangesNothing) {
  ASSERT_TRUE(add(kSize - 1));

  EXPECT_FALSE(add(1, 1));

  EXPECT_EQ(driver_->free_descriptors(), 1u);
  (void)driver_->publish();
  EXPECT_EQ(device_->available(), 1u);
}

TEST_P(DriverQueueTest, UsedBufferComesBackWithItsTokenAndItsDescriptors) {
  ASSERT_TRUE(add(2, 1, 42));
  (void)driver_->publish();
  device_->use(0, 5);

  const auto used = driver_->take_used();

  ASSERT_TRUE(used.has_value());
  EXPECT_EQ(used->token, 42u);
  EXPECT_EQ(used->written, 5u);
  EXPECT_EQ(driver_->free_descriptors(), kSize);
}

TEST_P(DriverQueueTest, BuffersUsedOutOfOrderComeBackInTheOrderOfUse) {
  ASSERT_TRUE(add(3, 0, 40) && add(1, 0, 41));
  (void)driver_->publish();
  device_->use(1);
  device_->use(0);

  EXPECT_EQ(driver_->take_used()->token, 41u);
  EXPECT_EQ(driver_->take_used()->token, 40u);
  EXPECT_FALSE(driver_->take_used());
}

TEST_P(DriverQueueTest, DescriptorsFreedOutOfOrderServeAWholeChainAgain) {
  ASSERT_TRUE(add(3) && add(2) && add(3));
  (void)driver_->publish();
  device_->use(1);
  device_->use(0);
  device_->use(2);
  (void)driver_->take_used();
  (void)driver_->take_used();
  (void)driver_->take_used();

  EXPECT_TRUE(add(kSize));
}

TEST_P(DriverQueueTest, NothingUsedIsNothingTaken) {
  ASSERT_TRUE(add(1));
  (void)driver_->publish();

  EXPECT_FALSE(driver_->take_used());
}

TEST_P(DriverQueueTest, IdUsedTwiceCountsOnce) {
  ASSERT_TRUE(add(1) && add(1));
  (void)driver_->publish();
  device_->use(0);
  device_->use(0);

  EXPECT_TRUE(driver_->take_used());
  EXPECT_FALSE(driver_->take_used());

  EXPECT_EQ(driver_->bogus_used(), 1u);
  EXPECT_EQ(driver_->free_descriptors(), kSize - 1);
}

TEST_P(DriverQueueTest, BufferBehindABogusIdIsStillTaken) {
  ASSERT_TRUE(add(1, 0, 42));
  (void)driver_->publish();
  device_->use_id(5);
  device_->use(0);

  EXPECT_EQ(driver_->take_used()->token, 42u);
}

// SPL-G-10, PKD-G-14.
TEST_P(DriverQueueTest, IndirectBufferLongerThanTheQueueIsRefused) {
  create_with_indirect();

  EXPECT_FALSE(add_indirect(kSize + 1));
}

TEST_P(DriverQueueTest, IndirectBufferNeedsAFreeDescriptor) {
  create_with_indirect();
  ASSERT_TRUE(add(kSize));

  EXPECT_FALSE(add_indirect(1));
}

TEST_P(DriverQueueTest, DeviceThatAsksForNothingSpecialIsKicked) {
  ASSERT_TRUE(add(1));

  EXPECT_TRUE(driver_->publish());
}

TEST_P(DriverQueueTest, NothingAddedKicksNobody) { EXPECT_FALSE(driver_->publish()); }

// SPL-G-31, PKD-G-19.
TEST_P(DriverQueueTest, EnablingInterruptsReportsBuffersUsedMeanwhile) {
  ASSERT_TRUE(add(1));
  (void)driver_->publish();
  driver_->disable_interrupts();
  device_->use(0);

  EXPECT_TRUE(driver_->enable_interrupts());
}

TEST_P(DriverQueueTest, BuffersThatHaveNotComeBackAreUnused) {
  ASSERT_TRUE(add(2, 1, 40) && add(1, 0, 41) && add(1, 0, 42));
  (void)driver_->publish();
  device_->use(1);
  (void)driver_->take_used();

  EXPECT_THAT(driver_->unused(), UnorderedElementsAre(40u, 42u));
}

TEST_P(DriverQueueTest, BufferThatIsNotPublishedDoesNotCountForTheNextAvailable) {
  const std::uint16_t before = driver_->next_available();

  ASSERT_TRUE(add(1));

  EXPECT_EQ(driver_->next_available(), before);
}

// SPL-G-01, SPL-I-01.
TEST(LayOutRingTest, SplitPartsAreAlignedAndDoNotOverlap) {
  const RingLayout layout = lay_out_ring(4, 0x4000);

  EXPECT_FALSE(layout.config.packed);
  EXPECT_EQ(layout.config.size, 4u);
  EXPECT_EQ(layout.config.descriptor_table, 0x4000u);
  EXPECT_EQ(layout.config.available_ring, 0x4040u);
  EXPECT_EQ(layout.config.used_ring, 0x4050u);
  EXPECT_EQ(layout.bytes, 0x50u + 38u);
}

// PKD-G-01, PKD-I-01.
TEST(LayOutRingTest, PackedPartsAreAlignedAndDoNotOverlap) {
  const RingLayout layout = lay_out_ring(5, 0x4000, true);

  EXPECT_TRUE(layout.config.packed);
  EXPECT_EQ(layout.config.size, 5u);
  EXPECT_EQ(layout.config.descriptor_table, 0x4000u);
  EXPECT_EQ(layout.config.available_ring, 0x4080u);
  EXPECT_EQ(layout.config.used_ring, 0x40C0u);
  EXPECT_EQ(layout.bytes, 0xC4u);
}

}  // namespace
}  // namespace vballoon
