// SPDX-License-Identifier: MIT
// What a device does on a packed ring and on no other (src/ring/packed_device_queue.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "ring/packed_queue_fixture.h"

namespace vballoon {
namespace {

using testing::kAvail;
using testing::kDisable;
using testing::kEnable;
using testing::kNext;
using testing::kSpecific;
using testing::kUsed;
using testing::kWrap;
using testing::kWrite;
using testing::raw_packed_config;
using testing::RawEvent;
using testing::RawPackedDescriptor;

class PackedDeviceQueueTest : public testing::PackedQueueFixture {
 protected:
  // One list that takes all of the ring.
  void offer_longest(std::uint16_t id) {
    for (std::uint16_t i = 1; i < kSize; ++i) ring_.append({kPayload, 16, 0, kNext});
    ring_.append({kPayload, 16, id, 0});
  }
  void offer_all() {
    for (std::uint16_t i = 0; i < kSize; ++i) offer(i);
  }
  void answer_all() {
    for (std::uint16_t i = 0; i < kSize; ++i) answer();
  }
};

TEST_F(PackedDeviceQueueTest, UsedDescriptorHasTheIdAndTheBitsOfItsRound) {
  offer(5);
  answer(7);
  (void)queue_.publish();

  const RawPackedDescriptor used = ring_.read(0);

  EXPECT_EQ(used.id, 5u);
  EXPECT_EQ(used.length, 7u);
  EXPECT_EQ(used.flags, kAvail | kUsed | kWrite);
}

TEST_F(PackedDeviceQueueTest, UsedDescriptorHasNoWriteFlagWhenNothingWasWritten) {
  ring_.append({kPayload, 16, 5, kWrite});
  answer(0);
  (void)queue_.publish();

  EXPECT_EQ(ring_.read(0).flags, kAvail | kUsed);
}

TEST_F(PackedDeviceQueueTest, BitsAreTurnedOverInTheSecondRound) {
  turn(kSize);
  offer(3);
  answer();
  (void)queue_.publish();

  EXPECT_EQ(ring_.read(0).id, 3u);
  EXPECT_EQ(ring_.read(0).flags, 0u);
}

TEST_F(PackedDeviceQueueTest, ListIsAnsweredInItsFirstEntryAndSkipped) {
  ring_.append({kPayload, 16, 0, kNext});
  ring_.append({kPayload, 16, 0, kNext});
  ring_.append({kPayload, 16, 4, 0});
  offer(6);
  answer();
  answer();
  (void)queue_.publish();

  EXPECT_EQ(ring_.read(0).id, 4u);
  EXPECT_TRUE(is_used(0, true));
  EXPECT_FALSE(is_used(1, true));
  EXPECT_FALSE(is_used(2, true));
  EXPECT_EQ(ring_.read(3).id, 6u);
  EXPECT_TRUE(is_used(3, true));
}

TEST_F(PackedDeviceQueueTest, ListMayGoOnAtTheBeginningOfTheRing) {
  turn(kSize - 1);
  ring_.append({0x30000, 1, 0, kNext});
  ring_.append({0x31000, 2, 4, 0});

  EXPECT_THAT(pop_chain().readable(),
              ::testing::ElementsAre(GuestBuffer{0x30000, 1}, GuestBuffer{0x31000, 2}));
  (void)queue_.publish();

  EXPECT_EQ(ring_.read(kSize - 1).id, 4u);
  EXPECT_TRUE(is_used(kSize - 1, true));
  EXPECT_EQ(queue_.position(), (QueuePosition{1, 1, false, false}));
}

TEST_F(PackedDeviceQueueTest, SizeNeedNotBeAPowerOfTwo) {
  start(raw_packed_config(5));

  turn(5 * 3 + 2);

  EXPECT_EQ(queue_.position(), (QueuePosition{2, 2, false, false}));
  EXPECT_TRUE(pop_is_empty());
}

TEST_F(PackedDeviceQueueTest, IdNeedNotBeBelowTheSize) {
  offer(0xFFFF);
  answer();
  (void)queue_.publish();

  EXPECT_EQ(ring_.read(0).id, 0xFFFFu);
}

TEST_F(PackedDeviceQueueTest, DescriptorOfTheLastRoundIsNotTaken) {
  ring_.write(0, {kPayload, 16, 0, kUsed});

  EXPECT_TRUE(pop_is_empty());
}

TEST_F(PackedDeviceQueueTest, RingFullOfReturnedDescriptorsIsEmpty) {
  turn(kSize);

  EXPECT_TRUE(pop_is_empty());
}

// A driver that makes entries available again that the device still has.
TEST_F(PackedDeviceQueueTest, EntryThatWasNotReturnedIsNotTakenAgain) {
  offer_longest(0);
  const DescriptorChain held = pop_chain();
  offer(1);

  EXPECT_TRUE(pop_is_empty());
  EXPECT_FALSE(queue_.enable_kicks());
}

TEST_F(PackedDeviceQueueTest, EntryThatWasNotPublishedIsNotTakenAgain) {
  start(raw_packed_config(1));
  offer(0);
  answer();
  offer(0);

  EXPECT_TRUE(pop_is_empty());
}

TEST_F(PackedDeviceQueueTest, BatchAsLongAsTheRingIsPublished) {
  offer_all();
  answer_all();

  EXPECT_TRUE(queue_.publish());

  EXPECT_TRUE(is_used(0, true));
  EXPECT_TRUE(is_used(kSize - 1, true));
}

TEST_F(PackedDeviceQueueTest, NothingButUsedDescriptorsAndTheDeviceEventIsWritten) {
  ring_.append({kPayload, 16, 0, kNext});
  ring_.append({kPayload, 16, 4, 0});
  const RawPackedDescriptor second = ring_.read(1);
  ring_.set_driver_event({3, kEnable});

  answer();
  (void)queue_.publish();
  queue_.disable_kicks();
  (void)queue_.enable_kicks();

  EXPECT_EQ(ring_.read(1), second);
  EXPECT_EQ(ring_.read(2), RawPackedDescriptor{});
  EXPECT_EQ(ring_.driver_event(), (RawEvent{3, kEnable}));
}

TEST_F(PackedDeviceQueueTest, DriverThatDisabledInterruptsGetsNone) {
  ring_.set_driver_event({0, kDisable});
  offer(0);
  answer();

  EXPECT_FALSE(queue_.publish());
}

TEST_F(PackedDeviceQueueTest, SpecificEventWithoutTheFeatureIsIgnored) {
  ring_.set_driver_event({5 | kWrap, kSpecific});
  offer(0);
  answer();

  EXPECT_TRUE(queue_.publish());
}

TEST_F(PackedDeviceQueueTest, ReservedEventFlagsInterrupt) {
  ring_.set_driver_event({0, 3});
  offer(0);
  answer();

  EXPECT_TRUE(queue_.publish());
}

TEST_F(PackedDeviceQueueTest, ReservedEventBitsAreIgnored) {
  ring_.set_driver_event({0, kDisable | 0xFFFC});
  offer(0);
  answer();

  EXPECT_FALSE(queue_.publish());
}

TEST_F(PackedDeviceQueueTest, KicksAreDisabledAndEnabledByTheEventFlags) {
  queue_.disable_kicks();
  const RawEvent disabled = ring_.device_event();

  EXPECT_FALSE(queue_.enable_kicks());

  EXPECT_EQ(disabled.flags, kDisable);
  EXPECT_EQ(ring_.device_event().flags, kEnable);
}

class PackedEventIndexTest : public PackedDeviceQueueTest {
 protected:
  PackedEventIndexTest() { start_with_event_index(); }
};

TEST_F(PackedEventIndexTest, DriverIsInterruptedAtTheEntryItWaitsFor) {
  turn(4);
  ring_.set_driver_event({4 | kWrap, kSpecific});
  offer(0);
  answer();

  EXPECT_TRUE(queue_.publish());
}

TEST_F(PackedEventIndexTest, DriverIsNotInterruptedBeforeTheEntryItWaitsFor) {
  turn(4);
  ring_.set_driver_event({5 | kWrap, kSpecific});
  offer(0);
  answer();

  EXPECT_FALSE(queue_.publish());
}

TEST_F(PackedEventIndexTest, DriverIsInterruptedInTheMiddleOfABatch) {
  ring_.set_driver_event({1 | kWrap, kSpecific});
  offer(0);
  offer(1);
  offer(2);
  answer();
  answer();
  answer();

  EXPECT_TRUE(queue_.publish());
}

TEST_F(PackedEventIndexTest, EntryOfTheOtherRoundIsNotWaitedFor) {
  ring_.set_driver_event({0, kSpecific});
  offer(0);
  answer();

  EXPECT_FALSE(queue_.publish());
}

TEST_F(PackedEventIndexTest, DriverIsInterruptedAcrossTheEndOfTheRing) {
  turn(kSize - 1);
  ring_.set_driver_event({0, kSpecific});
  offer(0);
  offer(1);
  answer();
  answer();

  EXPECT_TRUE(queue_.publish());
}

TEST_F(PackedEventIndexTest, EntryOutsideTheRingInterrupts) {
  ring_.set_driver_event({kSize | kWrap, kSpecific});
  offer(0);
  answer();

  EXPECT_TRUE(queue_.publish());
}

TEST_F(PackedEventIndexTest, EnabledFlagInterruptsWhateverThePlace) {
  ring_.set_driver_event({5 | kWrap, kEnable});
  offer(0);
  answer();

  EXPECT_TRUE(queue_.publish());
}

TEST_F(PackedEventIndexTest, EnabledKicksNameTheNextEntryOfTheRound) {
  turn(3);

  EXPECT_FALSE(queue_.enable_kicks());

  EXPECT_EQ(ring_.device_event(), (RawEvent{3 | kWrap, kSpecific}));
}

TEST_F(PackedEventIndexTest, EnabledKicksNameTheEntryBehindWhatIsHeld) {
  offer(0);
  offer(1);
  const DescriptorChain first = pop_chain();
  const DescriptorChain second = pop_chain();

  EXPECT_FALSE(queue_.enable_kicks());

  EXPECT_EQ(ring_.device_event(), (RawEvent{2 | kWrap, kSpecific}));
}

TEST_F(PackedEventIndexTest, EnabledKicksNameTheNextEntryOfTheSecondRound) {
  turn(kSize + 3);

  EXPECT_FALSE(queue_.enable_kicks());

  EXPECT_EQ(ring_.device_event(), (RawEvent{3, kSpecific}));
}

TEST_F(PackedEventIndexTest, KicksAreDisabledByTheFlags) {
  queue_.disable_kicks();

  EXPECT_EQ(ring_.device_event().flags, kDisable);
}

}  // namespace
}  // namespace vballoon
