// SPDX-License-Identifier: MIT
// Life of a device queue, its held chains and its notifications (src/ring/device_queue.cc).
#include "vballoon/device_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "ring/device_queue_fixture.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kIndirect;
using testing::kNext;
using testing::raw_config;
using testing::RawUsed;

class DeviceQueueTest : public testing::DeviceQueueFixture {
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
  // Offers `count` chains that share one indirect table of as many buffers as the queue has
  // entries.
  void offer_longest(std::uint16_t count) {
    for (std::uint16_t i = 0; i < kSize; ++i) {
      ring_.describe_at(kTable, i,
                        {kPayload, 16, i == kSize - 1 ? std::uint16_t{0} : kNext,
                         static_cast<std::uint16_t>(i + 1)});
    }
    for (std::uint16_t i = 0; i < count; ++i) {
      ring_.offer(i, {kTable, kSize * 16, kIndirect, 0});
    }
  }
};

TEST_F(DeviceQueueTest, QueueThatWasNeverStartedIsNotReady) {
  DeviceQueue queue;

  EXPECT_FALSE(queue.ready());
  EXPECT_EQ(queue.pop().error().code, Errc::kQueueNotReady);
  EXPECT_FALSE(queue.publish());
  EXPECT_FALSE(queue.enable_kicks());
}

TEST_F(DeviceQueueTest, BadConfigurationLeavesTheQueueNotReady) {
  QueueConfig config = raw_config(kSize);
  config.size = 0;

  const auto started = queue_.start(memory_, config);

  EXPECT_EQ(started.error().code, Errc::kBadQueueConfig);
  EXPECT_FALSE(queue_.ready());
}

TEST_F(DeviceQueueTest, NothingAvailableIsNoChain) { EXPECT_TRUE(pop_is_empty()); }

TEST_F(DeviceQueueTest, ChainsComeInTheOrderOfTheAvailableRing) {
  ring_.offer(4, {0x30000, 1, 0, 0});
  ring_.offer(2, {0x31000, 2, 0, 0});

  const DescriptorChain first = pop_chain();
  const DescriptorChain second = pop_chain();

  EXPECT_THAT(first.readable(), ElementsAre(GuestBuffer{0x30000, 1}));
  EXPECT_THAT(second.readable(), ElementsAre(GuestBuffer{0x31000, 2}));
  EXPECT_TRUE(pop_is_empty());
}

TEST_F(DeviceQueueTest, CompletedChainIsSeenAfterPublishOnly) {
  ring_.offer(4, {kPayload, 16, 0, 0});
  pop_chain().complete(7);
  const std::uint16_t before = ring_.used_index();

  (void)queue_.publish();

  EXPECT_EQ(before, 0u);
  EXPECT_THAT(returned(), ElementsAre(RawUsed{4, 7}));
}

TEST_F(DeviceQueueTest, ChainsAreReturnedInTheOrderOfCompletion) {
  auto chains = offer_and_pop(3);

  chains[1].complete(11);
  chains[2].complete(12);
  chains[0].complete(10);
  (void)queue_.publish();

  EXPECT_THAT(returned(), ElementsAre(RawUsed{1, 11}, RawUsed{2, 12}, RawUsed{0, 10}));
}

TEST_F(DeviceQueueTest, DroppedChainIsReturnedWithLengthZero) {
  ring_.offer(3, {kPayload, 16, 0, 0});
  { const DescriptorChain dropped = pop_chain(); }

  (void)queue_.publish();

  EXPECT_THAT(returned(), ElementsAre(RawUsed{3, 0}));
}

TEST_F(DeviceQueueTest, MovedChainIsReturnedOnce) {
  ring_.offer(3, {kPayload, 16, 0, 0});
  {
    DescriptorChain first = pop_chain();
    const DescriptorChain second = std::move(first);
  }

  (void)queue_.publish();

  EXPECT_THAT(returned(), ElementsAre(RawUsed{3, 0}));
}

TEST_F(DeviceQueueTest, AssignedToChainReturnsTheOneItHeld) {
  auto chains = offer_and_pop(2);

  chains[0] = std::move(chains[1]);
  (void)queue_.publish();

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(DeviceQueueTest, ChainBehindAMalformedOneIsTaken) {
  ring_.offer(1, {kPayload, 16, kNext, 1});
  ring_.offer(2, {kPayload, 16, 0, 0});

  EXPECT_EQ(pop_error(), Errc::kDescriptorLoop);
  pop_chain().complete(5);
  (void)queue_.publish();

  EXPECT_THAT(returned(), ElementsAre(RawUsed{1, 0}, RawUsed{2, 5}));
}

TEST_F(DeviceQueueTest, WholeQueueMadeAvailableAtOnceIsTaken) {
  ring_.set_avail_index(kSize);

  const auto chains = pop_chains(kSize);

  EXPECT_EQ(chains.size(), kSize);
}

TEST_F(DeviceQueueTest, MoreAvailableThanTheQueueHoldsBreaksIt) {
  ring_.set_avail_index(kSize + 1);

  EXPECT_EQ(pop_error(), Errc::kAvailIndexOutOfRange);

  EXPECT_FALSE(queue_.ready());
  EXPECT_EQ(pop_error(), Errc::kQueueNotReady);
  EXPECT_FALSE(queue_.enable_kicks());
}

TEST_F(DeviceQueueTest, AvailableIndexThatGoesBackBreaksTheQueue) {
  turn(3);
  ring_.set_avail_index(2);

  EXPECT_EQ(pop_error(), Errc::kAvailIndexOutOfRange);

  EXPECT_FALSE(queue_.ready());
}

TEST_F(DeviceQueueTest, HeadOutsideTheTableBreaksTheQueue) {
  ring_.offer(kSize);

  EXPECT_EQ(pop_error(), Errc::kDescriptorIndexOutOfRange);

  EXPECT_FALSE(queue_.ready());
}

TEST_F(DeviceQueueTest, BrokenQueueIsReadyAfterANewStart) {
  ring_.set_avail_index(100);
  (void)pop_error();
  ring_.set_avail_index(0);

  start(config_);

  EXPECT_TRUE(queue_.ready());
  EXPECT_TRUE(pop_is_empty());
}

TEST_F(DeviceQueueTest, ChainHeldWhenTheQueueBreaksIsStillReturned) {
  auto chains = offer_and_pop(1);
  ring_.offer(kSize);
  (void)pop_error();

  chains.clear();
  (void)queue_.publish();

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(DeviceQueueTest, ChainHeldOverAResetIsNotReturned) {
  auto chains = offer_and_pop(2);
  queue_.reset();

  chains[0].complete(9);
  chains.clear();

  EXPECT_FALSE(queue_.publish());
  EXPECT_THAT(returned(), IsEmpty());
}

TEST_F(DeviceQueueTest, ChainHeldOverANewStartIsNotReturnedToTheNewRings) {
  auto chains = offer_and_pop(2);
  ring_.set_avail_index(0);
  start(config_);

  chains[0].complete(9);
  chains.clear();

  EXPECT_FALSE(queue_.publish());
  EXPECT_THAT(returned(), IsEmpty());
}

TEST_F(DeviceQueueTest, ChainHeldOverAResetCanStillBeLookedAt) {
  auto chains = offer_and_pop(1);
  memory_.reset();

  queue_.reset();

  std::vector<std::byte> bytes(16, std::byte{1});
  EXPECT_THAT(chains[0].readable(), ElementsAre(GuestBuffer{kPayload, 16}));
  EXPECT_TRUE(chains[0].read(0, bytes));
  EXPECT_EQ(bytes[15], std::byte{0});
}

TEST_F(DeviceQueueTest, QueueWithoutChainsLetsGoOfMemoryAtReset) {
  ring_ = testing::RawRing(nullptr, config_);
  const std::weak_ptr<const GuestMemory> watch = memory_;
  memory_.reset();

  queue_.reset();

  EXPECT_TRUE(watch.expired());
}

TEST_F(DeviceQueueTest, LastChainOfAResetQueueLetsGoOfMemory) {
  auto chains = offer_and_pop(2);
  ring_ = testing::RawRing(nullptr, config_);
  const std::weak_ptr<const GuestMemory> watch = memory_;
  memory_.reset();
  queue_.reset();
  const bool held = !watch.expired();

  chains.clear();

  EXPECT_TRUE(held);
  EXPECT_TRUE(watch.expired());
}

TEST_F(DeviceQueueTest, AsManyChainsAsEntriesCanBeHeld) {
  const auto chains = offer_and_pop(kSize);
  ring_.offer(0);

  EXPECT_TRUE(pop_is_empty());
}

TEST_F(DeviceQueueTest, ReturningTheLatestChainMakesRoomAgain) {
  auto chains = offer_and_pop(kSize);
  ring_.offer(kSize - 1);

  chains.back().complete();

  EXPECT_FALSE(pop_is_empty());
}

TEST_F(DeviceQueueTest, RoomBehindAHeldChainComesBackOnceAllLaterOnesAreReturned) {
  auto chains = offer_and_pop(kSize);
  ring_.offer(kSize - 1);
  chains.erase(chains.begin() + 1, chains.end());

  EXPECT_FALSE(pop_is_empty());

  EXPECT_THAT(chains[0].readable(), ElementsAre(GuestBuffer{kPayload, 16}));
}

TEST_F(DeviceQueueTest, HeldBuffersFillThePoolToo) {
  start_with_indirect();
  offer_longest(3);
  auto chains = pop_chains(2);
  const bool full = pop_is_empty();

  chains.clear();

  EXPECT_TRUE(full);
  EXPECT_EQ(pop_chain().readable().size(), kSize);
}

TEST_F(DeviceQueueTest, IndicesWrapAt65536) {
  turn(65535);
  ring_.offer(3, {kPayload, 16, 0, 0});
  ring_.offer(4, {kPayload, 16, 0, 0});

  pop_chain().complete(1);
  pop_chain().complete(2);
  (void)queue_.publish();

  EXPECT_EQ(ring_.used_index(), 1u);
  EXPECT_THAT(returned(65535), ElementsAre(RawUsed{3, 1}, RawUsed{4, 2}));
}

TEST_F(DeviceQueueTest, QueueOfOneEntryWorks) {
  start(raw_config(1));
  ring_ = testing::RawRing(memory_, config_);

  turn(3);

  EXPECT_EQ(ring_.used_index(), 3u);
}

// SPL-D-06: the device writes the used ring and nothing else.
TEST_F(DeviceQueueTest, DescriptorsAndAvailableRingAreNeverWritten) {
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

// SPL-D-11.
TEST_F(DeviceQueueTest, DriverIsInterruptedWhenItsFlagsAreZero) {
  ring_.offer(0, {kPayload, 16, 0, 0});
  pop_chain().complete();

  EXPECT_TRUE(queue_.publish());
}

// SPL-D-10.
TEST_F(DeviceQueueTest, DriverIsNotInterruptedWhenItsFlagIsSet) {
  ring_.set_avail_flags(1);
  ring_.offer(0, {kPayload, 16, 0, 0});
  pop_chain().complete();

  EXPECT_FALSE(queue_.publish());
}

// SPL-D-09.
TEST_F(DeviceQueueTest, UsedEventIsIgnoredWithoutTheFeature) {
  ring_.set_used_event(40);
  ring_.offer(0, {kPayload, 16, 0, 0});
  pop_chain().complete();

  EXPECT_TRUE(queue_.publish());
}

TEST_F(DeviceQueueTest, NothingReturnedInterruptsNobody) { EXPECT_FALSE(queue_.publish()); }

TEST_F(DeviceQueueTest, DisabledKicksSetTheFlagAndEnabledOnesClearIt) {
  queue_.disable_kicks();
  const std::uint16_t disabled = ring_.used_flags();

  EXPECT_FALSE(queue_.enable_kicks());

  EXPECT_EQ(disabled, 1u);
  EXPECT_EQ(ring_.used_flags(), 0u);
}

TEST_F(DeviceQueueTest, EnablingKicksReportsChainsThatCameMeanwhile) {
  queue_.disable_kicks();
  ring_.offer(0, {kPayload, 16, 0, 0});

  EXPECT_TRUE(queue_.enable_kicks());
}

class EventIndexTest : public DeviceQueueTest {
 protected:
  EventIndexTest() { start_with_event_index(); }
};

// SPL-D-13.
TEST_F(EventIndexTest, DriverIsInterruptedAtTheEntryItWaitsFor) {
  turn(4);
  ring_.set_used_event(4);
  ring_.offer(0, {kPayload, 16, 0, 0});
  pop_chain().complete();

  EXPECT_TRUE(queue_.publish());
}

// SPL-D-14.
TEST_F(EventIndexTest, DriverIsNotInterruptedBeforeTheEntryItWaitsFor) {
  turn(4);
  ring_.set_used_event(5);
  ring_.offer(0, {kPayload, 16, 0, 0});
  pop_chain().complete();

  EXPECT_FALSE(queue_.publish());
}

TEST_F(EventIndexTest, DriverIsInterruptedInTheMiddleOfABatch) {
  ring_.set_used_event(1);
  { const auto chains = offer_and_pop(3); }

  EXPECT_TRUE(queue_.publish());
}

// SPL-D-12.
TEST_F(EventIndexTest, InterruptFlagIsIgnored) {
  ring_.set_avail_flags(1);
  ring_.offer(0, {kPayload, 16, 0, 0});
  pop_chain().complete();

  EXPECT_TRUE(queue_.publish());
}

TEST_F(EventIndexTest, DriverIsInterruptedAcrossTheWrap) {
  turn(65535);
  ring_.set_used_event(0);
  { const auto chains = offer_and_pop(2); }

  EXPECT_TRUE(queue_.publish());
}

// SPL-D-21, SPL-D-20.
TEST_F(EventIndexTest, EnabledKicksNameTheNextEntryAndLeaveTheFlagsZero) {
  turn(3);

  EXPECT_FALSE(queue_.enable_kicks());

  EXPECT_EQ(ring_.avail_event(), 3u);
  EXPECT_EQ(ring_.used_flags(), 0u);
}

TEST_F(EventIndexTest, DisabledKicksNameAnEntryThatIsBehindAndLeaveTheFlagsZero) {
  turn(3);

  queue_.disable_kicks();

  EXPECT_EQ(ring_.avail_event(), 2u);
  EXPECT_EQ(ring_.used_flags(), 0u);
}

TEST_F(EventIndexTest, EnablingKicksReportsChainsThatCameMeanwhile) {
  ring_.offer(0, {kPayload, 16, 0, 0});

  EXPECT_TRUE(queue_.enable_kicks());
}

}  // namespace
}  // namespace vballoon
