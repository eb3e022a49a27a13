// SPDX-License-Identifier: MIT
// What a device does on a split ring and on no other (src/ring/split_device_queue.cc).
#include "vballoon/device_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "ring/device_queue_fixture.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using testing::kNext;
using testing::RawUsed;

class SplitDeviceQueueTest : public testing::DeviceQueueFixture {
 protected:
  // Makes chains 0 to count - 1 of one buffer available, and takes them.
  std::vector<DescriptorChain> offer_and_pop(std::uint16_t count) {
    std::vector<DescriptorChain> chains;
    for (std::uint16_t i = 0; i < count; ++i) {
      ring_.offer(i, {kPayload, 16, 0, 0});
      chains.push_back(pop_chain());
    }
    return chains;
  }
  std::vector<DescriptorChain> pop_chains(std::uint16_t count) {
    std::vector<DescriptorChain> chains;
    for (std::uint16_t i = 0; i < count; ++i) chains.push_back(pop_chain());
    return chains;
  }
};

TEST_F(SplitDeviceQueueTest, WholeQueueMadeAvailableAtOnceIsTaken) {
  ring_.set_avail_index(kSize);

  const auto chains = pop_chains(kSize);

  EXPECT_EQ(chains.size(), kSize);
}

TEST_F(SplitDeviceQueueTest, MoreAvailableThanTheQueueHoldsBreaksIt) {
  ring_.set_avail_index(kSize + 1);

  EXPECT_EQ(pop_error(), Errc::kAvailIndexOutOfRange);

  EXPECT_FALSE(queue_.ready());
  EXPECT_EQ(pop_error(), Errc::kQueueNotReady);
  EXPECT_FALSE(queue_.enable_kicks());
}

TEST_F(SplitDeviceQueueTest, AvailableIndexThatGoesBackBreaksTheQueue) {
  turn(3);
  ring_.set_avail_index(2);

  EXPECT_EQ(pop_error(), Errc::kAvailIndexOutOfRange);

  EXPECT_FALSE(queue_.ready());
}

TEST_F(SplitDeviceQueueTest, HeadOutsideTheTableBreaksTheQueue) {
  ring_.offer(kSize);

  EXPECT_EQ(pop_error(), Errc::kDescriptorIndexOutOfRange);

  EXPECT_FALSE(queue_.ready());
}

TEST_F(SplitDeviceQueueTest, BrokenQueueIsReadyAfterANewStart) {
  ring_.set_avail_index(100);
  (void)pop_error();
  ring_.set_avail_index(0);

  start(config_);

  EXPECT_TRUE(queue_.ready());
  EXPECT_TRUE(pop_is_empty());
}

TEST_F(SplitDeviceQueueTest, ChainHeldWhenTheQueueBreaksIsStillReturned) {
  auto chains = offer_and_pop(1);
  ring_.offer(kSize);
  (void)pop_error();

  chains.clear();
  (void)queue_.publish();

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(SplitDeviceQueueTest, IndicesWrapAt65536) {
  turn(65535);
  ring_.offer(3, {kPayload, 16, 0, 0});
  ring_.offer(4, {kPayload, 16, 0, 0});

  pop_chain().complete(1);
  pop_chain().complete(2);
  (void)queue_.publish();

  EXPECT_EQ(ring_.used_index(), 1u);
  EXPECT_THAT(returned(65535), ElementsAre(RawUsed{3, 1}, RawUsed{4, 2}));
}

// SPL-D-06: the device writes the used ring and nothing else.
TEST_F(SplitDeviceQueueTest, DescriptorsAndAvailableRingAreNeverWritten) {
  ring_.offer(1, {kPayload, 16, kNext, 2});
  ring_.describe(2, {kPayload, 32, testing::kWrite, 5});
  std::vector<std::byte> before(config_.used_ring);
  std::vector<std::byte> after(config_.used_ring);
  ASSERT_TRUE(memory_->read(0, before));

  pop_chain().complete(3);
  (void)queue_.publish();
  queue_.disable_kicks();
  (void)queue_.enable_kicks();

  ASSERT_TRUE(memory_->read(0, after));
  EXPECT_EQ(before, after);
}

// SPL-D-10.
TEST_F(SplitDeviceQueueTest, DriverIsNotInterruptedWhenItsFlagIsSet) {
  ring_.set_avail_flags(1);
  ring_.offer(0, {kPayload, 16, 0, 0});
  pop_chain().complete();

  EXPECT_FALSE(queue_.publish());
}

// SPL-D-09.
TEST_F(SplitDeviceQueueTest, UsedEventIsIgnoredWithoutTheFeature) {
  ring_.set_used_event(40);
  ring_.offer(0, {kPayload, 16, 0, 0});
  pop_chain().complete();

  EXPECT_TRUE(queue_.publish());
}

TEST_F(SplitDeviceQueueTest, DisabledKicksSetTheFlagAndEnabledOnesClearIt) {
  queue_.disable_kicks();
  const std::uint16_t disabled = ring_.used_flags();

  EXPECT_FALSE(queue_.enable_kicks());

  EXPECT_EQ(disabled, 1u);
  EXPECT_EQ(ring_.used_flags(), 0u);
}

class SplitEventIndexTest : public SplitDeviceQueueTest {
 protected:
  SplitEventIndexTest() { start_with_event_index(); }
};

// SPL-D-13.
TEST_F(SplitEventIndexTest, DriverIsInterruptedAtTheEntryItWaitsFor) {
  turn(4);
  ring_.set_used_event(4);
  ring_.offer(0, {kPayload, 16, 0, 0});
  pop_chain().complete();

  EXPECT_TRUE(queue_.publish());
}

// SPL-D-14.
TEST_F(SplitEventIndexTest, DriverIsNotInterruptedBeforeTheEntryItWaitsFor) {
  turn(4);
  ring_.set_used_event(5);
  ring_.offer(0, {kPayload, 16, 0, 0});
  pop_chain().complete();

  EXPECT_FALSE(queue_.publish());
}

TEST_F(SplitEventIndexTest, DriverIsInterruptedInTheMiddleOfABatch) {
  ring_.set_used_event(1);
  { const auto chains = offer_and_pop(3); }

  EXPECT_TRUE(queue_.publish());
}

// SPL-D-12.
TEST_F(SplitEventIndexTest, InterruptFlagIsIgnored) {
  ring_.set_avail_flags(1);
  ring_.offer(0, {kPayload, 16, 0, 0});
  pop_chain().complete();

  EXPECT_TRUE(queue_.publish());
}

TEST_F(SplitEventIndexTest, DriverIsInterruptedAcrossTheWrap) {
  turn(65535);
  ring_.set_used_event(0);
  { const auto chains = offer_and_pop(2); }

  EXPECT_TRUE(queue_.publish());
}

// SPL-D-21, SPL-D-20.
TEST_F(SplitEventIndexTest, EnabledKicksNameTheNextEntryAndLeaveTheFlagsZero) {
  turn(3);

  EXPECT_FALSE(queue_.enable_kicks());

  EXPECT_EQ(ring_.avail_event(), 3u);
  EXPECT_EQ(ring_.used_flags(), 0u);
}

TEST_F(SplitEventIndexTest, EnabledKicksNameTheEntryBehindWhatIsHeld) {
  const auto chains = offer_and_pop(2);

  EXPECT_FALSE(queue_.enable_kicks());

  EXPECT_EQ(ring_.avail_event(), 2u);
}

TEST_F(SplitEventIndexTest, DisabledKicksNameAnEntryThatIsBehindAndLeaveTheFlagsZero) {
  turn(3);

  queue_.disable_kicks();

  EXPECT_EQ(ring_.avail_event(), 2u);
  EXPECT_EQ(ring_.used_flags(), 0u);
}

TEST_F(SplitEventIndexTest, EnablingKicksReportsChainsThatCameMeanwhile) {
  ring_.offer(0, {kPayload, 16, 0, 0});

  EXPECT_TRUE(queue_.enable_kicks());
}

}  // namespace
}  // namespace vballoon
