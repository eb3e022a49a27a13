// SPDX-License-Identifier: MIT
// Life of a device queue and of its held chains, on both rings (src/ring/device_queue.cc).
#include "vballoon/device_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "ring/both_rings_fixture.h"
#include "test_memory.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using testing::HandPieces;
using ::testing::IsEmpty;
using testing::RawUsed;
using testing::RingKind;
using ::testing::UnorderedElementsAre;
using ::testing::Values;

class DeviceQueueTest : public testing::BothRingsFixture {
 protected:
  // As many buffers as the queue has entries, in one indirect table.
  void offer_longest(std::uint16_t id) {
    driver_->offer_indirect(id, kTable, HandPieces(kSize, {kPayload, 16}));
  }
};

INSTANTIATE_TEST_SUITE_P(BothRings, DeviceQueueTest, Values(RingKind::kSplit, RingKind::kPacked),
                         testing::ring_name);

TEST(UnstartedDeviceQueueTest, QueueIsNotReadyAndGivesNothing) {
  DeviceQueue queue;

  EXPECT_FALSE(queue.ready());
  EXPECT_EQ(queue.pop().error().code, Errc::kQueueNotReady);
  EXPECT_FALSE(queue.publish());
  EXPECT_FALSE(queue.enable_kicks());
}

TEST_P(DeviceQueueTest, BadConfigurationLeavesTheQueueNotReady) {
  config_.size = 0;

  const auto started = queue_.start(memory_, config_);

  EXPECT_EQ(started.error().code, Errc::kBadQueueConfig);
  EXPECT_FALSE(queue_.ready());
}

TEST_P(DeviceQueueTest, NothingAvailableIsNoChain) { EXPECT_TRUE(pop_is_empty()); }

TEST_P(DeviceQueueTest, ChainsComeInTheOrderInWhichTheyWereOffered) {
  driver_->offer(4, {{0x30000, 1}});
  driver_->offer(2, {{0x31000, 2}});

  const DescriptorChain first = pop_chain();
  const DescriptorChain second = pop_chain();

  EXPECT_THAT(first.readable(), ElementsAre(GuestBuffer{0x30000, 1}));
  EXPECT_THAT(second.readable(), ElementsAre(GuestBuffer{0x31000, 2}));
  EXPECT_TRUE(pop_is_empty());
}

TEST_P(DeviceQueueTest, CompletedChainIsSeenAfterPublishOnly) {
  offer_one(4);
  pop_chain().complete(7);
  const auto before = driver_->take_returned();

  (void)queue_.publish();

  EXPECT_THAT(before, IsEmpty());
  EXPECT_THAT(driver_->take_returned(), ElementsAre(RawUsed{4, 7}));
}

TEST_P(DeviceQueueTest, NoChainOfABatchIsSeenBeforePublish) {
  { const auto chains = offer_and_pop(3); }

  EXPECT_THAT(driver_->take_returned(), IsEmpty());
  EXPECT_THAT(publish_and_take(),
              UnorderedElementsAre(RawUsed{0, 0}, RawUsed{1, 0}, RawUsed{2, 0}));
}

TEST_P(DeviceQueueTest, ChainsAreReturnedInTheOrderOfCompletion) {
  auto chains = offer_and_pop(3);

  chains[1].complete(11);
  chains[2].complete(12);
  chains[0].complete(10);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{1, 11}, RawUsed{2, 12}, RawUsed{0, 10}));
}

TEST_P(DeviceQueueTest, ListsOfSeveralDescriptorsAreReturnedInTheOrderOfCompletion) {
  driver_->offer(0, {{kPayload, 16}, {kPayload, 16}, {kPayload, 16, true}});
  driver_->offer(3, {{kPayload, 16}});
  driver_->offer(4, {{kPayload, 16}, {kPayload, 16, true}});
  DescriptorChain first = pop_chain();
  DescriptorChain second = pop_chain();
  DescriptorChain third = pop_chain();

  third.complete(3);
  first.complete(1);
  second.complete(2);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{4, 3}, RawUsed{0, 1}, RawUsed{3, 2}));
}

TEST_P(DeviceQueueTest, DroppedChainIsReturnedWithLengthZero) {
  offer_one(3);
  { const DescriptorChain dropped = pop_chain(); }

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{3, 0}));
}

TEST_P(DeviceQueueTest, MovedChainIsReturnedOnce) {
  offer_one(3);
  {
    DescriptorChain first = pop_chain();
    const DescriptorChain second = std::move(first);
  }

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{3, 0}));
}

TEST_P(DeviceQueueTest, AssignedToChainReturnsTheOneItHeld) {
  auto chains = offer_and_pop(2);

  chains[0] = std::move(chains[1]);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{0, 0}));
}

TEST_P(DeviceQueueTest, ChainBehindAMalformedOneIsTaken) {
  offer_malformed(1);
  offer_one(3);

  EXPECT_EQ(pop_error(), Errc::kReadableAfterWritable);
  pop_chain().complete(5);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{1, 0}, RawUsed{3, 5}));
}

TEST_P(DeviceQueueTest, ChainHeldOverAResetIsNotReturned) {
  auto chains = offer_and_pop(2);
  queue_.reset();

  chains[0].complete(9);
  chains.clear();

  EXPECT_FALSE(queue_.publish());
  EXPECT_THAT(driver_->take_returned(), IsEmpty());
}

TEST_P(DeviceQueueTest, ChainHeldOverANewStartIsNotReturnedToTheNewRings) {
  auto chains = offer_and_pop(2);
  start(config_);

  chains[0].complete(9);
  chains.clear();

  EXPECT_FALSE(queue_.publish());
  EXPECT_THAT(driver_->take_returned(), IsEmpty());
}

TEST_P(DeviceQueueTest, ChainHeldOverAResetCanStillBeLookedAt) {
  auto chains = offer_and_pop(1);
  driver_.reset();
  memory_.reset();

  queue_.reset();

  std::vector<std::byte> bytes(16, std::byte{1});
  EXPECT_THAT(chains[0].readable(), ElementsAre(GuestBuffer{kPayload, 16}));
  EXPECT_TRUE(chains[0].read(0, bytes));
  EXPECT_EQ(bytes[15], std::byte{0});
}

TEST_P(DeviceQueueTest, QueueWithoutChainsLetsGoOfMemoryAtReset) {
  driver_.reset();
  const std::weak_ptr<const GuestMemory> watch = memory_;
  memory_.reset();

  queue_.reset();

  EXPECT_TRUE(watch.expired());
}

TEST_P(DeviceQueueTest, LastChainOfAResetQueueLetsGoOfMemory) {
  auto chains = offer_and_pop(2);
  driver_.reset();
  const std::weak_ptr<const GuestMemory> watch = memory_;
  memory_.reset();
  queue_.reset();
  const bool held = !watch.expired();

  chains.clear();

  EXPECT_TRUE(held);
  EXPECT_TRUE(watch.expired());
}

TEST_P(DeviceQueueTest, AsManyChainsAsEntriesCanBeHeld) {
  const auto chains = offer_and_pop(kSize);
  offer_one(0);

  EXPECT_TRUE(pop_is_empty());
}

TEST_P(DeviceQueueTest, ReturningTheLatestChainMakesRoomAgain) {
  auto chains = offer_and_pop(kSize);
  chains.back().complete();
  (void)publish_and_take();

  offer_one(kSize - 1);

  EXPECT_FALSE(pop_is_empty());
}

TEST_P(DeviceQueueTest, RoomBehindAHeldChainComesBackOnceAllLaterOnesAreReturned) {
  auto chains = offer_and_pop(kSize);
  chains.erase(chains.begin() + 1, chains.end());
  (void)publish_and_take();
  offer_one(kSize - 1);

  EXPECT_FALSE(pop_is_empty());

  EXPECT_THAT(chains[0].readable(), ElementsAre(GuestBuffer{kPayload, 16}));
}

TEST_P(DeviceQueueTest, HeldBuffersFillThePoolToo) {
  start_with_indirect();
  offer_longest(0);
  offer_longest(1);
  offer_longest(2);
  std::vector<DescriptorChain> chains;
  chains.push_back(pop_chain());
  chains.push_back(pop_chain());
  const bool full = pop_is_empty();

  chains.clear();

  EXPECT_TRUE(full);
  EXPECT_EQ(pop_chain().readable().size(), kSize);
}

TEST_P(DeviceQueueTest, ChainsComeAndGoForManyRounds) {
  turn(70000);

  offer_one(3);
  pop_chain().complete(1);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{3, 1}));
}

TEST_P(DeviceQueueTest, QueueOfOneEntryWorks) {
  start(make_config(1));

  turn(3);

  EXPECT_TRUE(pop_is_empty());
}

TEST_P(DeviceQueueTest, LargestQueueWorks) {
  config_ = make_config(kMaxQueueSize);
  memory_ = testing::memory_of(2 * kMemoryBytes);
  start(config_);

  turn(3);

  EXPECT_TRUE(pop_is_empty());
}

TEST_P(DeviceQueueTest, DriverThatAsksForNothingSpecialIsInterrupted) {
  offer_one(0);
  pop_chain().complete();

  EXPECT_TRUE(queue_.publish());
}

TEST_P(DeviceQueueTest, NothingReturnedInterruptsNobody) { EXPECT_FALSE(queue_.publish()); }

TEST_P(DeviceQueueTest, EnablingKicksOfAnEmptyQueueReportsNothing) {
  EXPECT_FALSE(queue_.enable_kicks());
}

TEST_P(DeviceQueueTest, EnablingKicksReportsChainsThatCameMeanwhile) {
  queue_.disable_kicks();
  offer_one(0);

  EXPECT_TRUE(queue_.enable_kicks());
}

// Looking again would bring nothing, however often.
TEST_P(DeviceQueueTest, EnablingKicksReportsNothingThatThereIsNoRoomFor) {
  start_with_indirect();
  offer_longest(0);
  offer_longest(1);
  offer_longest(2);
  std::vector<DescriptorChain> chains;
  chains.push_back(pop_chain());
  chains.push_back(pop_chain());
  const bool without_room = queue_.enable_kicks();

  chains.clear();

  EXPECT_FALSE(without_room);
  EXPECT_TRUE(queue_.enable_kicks());
}

TEST_P(DeviceQueueTest, EnablingKicksReportsNothingOnceAllIsTaken) {
  const auto chains = offer_and_pop(2);

  EXPECT_FALSE(queue_.enable_kicks());
}

}  // namespace
}  // namespace vballoon
