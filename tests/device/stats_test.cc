// SPDX-License-Identifier: MIT
// The statistics queue of a device (src/device/serve.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <utility>

#include "device/device_fixture.h"

namespace vballoon {
namespace {

using testing::Bytes;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::Message;
using ::testing::Optional;
using ::testing::Pair;
using testing::Rig;
using testing::stats_entries;

constexpr std::uint16_t kStatsQueue = 2;
constexpr std::chrono::nanoseconds kSecond = std::chrono::seconds(1);

Message stats_message(std::initializer_list<std::pair<int, std::uint64_t>> entries) {
  return {{stats_entries(entries)}};
}
Message free_memory(std::uint64_t bytes) { return stats_message({{4, bytes}}); }

class DeviceStatsTest : public ::testing::Test {
 protected:
  DeviceStatsTest() { rig_.start(); }

  void post(const Message& message) {
    rig_.send(kStatsQueue, message);
    rig_.serve(kStatsQueue);
  }
  std::optional<std::uint64_t> free_memory_seen() {
    const StatsReport report = rig_.device().stats();
    return report.latest ? report.latest->value(StatTag::kFreeMemory) : std::nullopt;
  }

  std::chrono::nanoseconds now_{0};
  Rig rig_{{.device = {.features = Features{Feature::kMustTellHost, Feature::kStatsVq},
                       .clock = [this] { return now_; }}}};
};

TEST_F(DeviceStatsTest, BAL_I_07_BufferIsReadAndHeldUntilTheNextRequest) {
  post(free_memory(0x1234));

  EXPECT_THAT(free_memory_seen(), Optional(0x1234u));
  EXPECT_THAT(rig_.completed(kStatsQueue), IsEmpty());
  EXPECT_THAT(rig_.all_errors(), IsEmpty());
}

TEST_F(DeviceStatsTest, BAL_I_07_RequestUsesTheBufferThatIsHeld) {
  post(free_memory(1));

  ASSERT_TRUE(rig_.device().request_stats(kSecond));
  EXPECT_THAT(rig_.woken(), ElementsAre(kStatsQueue));
  rig_.serve(kStatsQueue);

  EXPECT_THAT(rig_.completed(kStatsQueue), ElementsAre(0u));
  EXPECT_EQ(rig_.interrupts(kStatsQueue), 1);
  EXPECT_TRUE(rig_.device().stats().requested);
}

TEST_F(DeviceStatsTest, NextBufferIsTheAnswer) {
  post(free_memory(1));
  ASSERT_TRUE(rig_.device().request_stats(kSecond));
  rig_.serve(kStatsQueue);

  post(free_memory(2));

  EXPECT_THAT(free_memory_seen(), Optional(2u));
  EXPECT_FALSE(rig_.device().stats().requested);
}

TEST_F(DeviceStatsTest, AnswerHasNothingOfTheOneBefore) {
  post(free_memory(1));
  ASSERT_TRUE(rig_.device().request_stats(kSecond));
  rig_.serve(kStatsQueue);

  post(stats_message({{5, 7}}));

  EXPECT_EQ(free_memory_seen(), std::nullopt);
}

TEST_F(DeviceStatsTest, RequestBeforeTheFirstBufferIsMadeWhenItComes) {
  ASSERT_TRUE(rig_.device().request_stats(kSecond));

  post(free_memory(1));

  EXPECT_THAT(rig_.completed(kStatsQueue), ElementsAre(0u));
  EXPECT_TRUE(rig_.device().stats().requested);
}

TEST_F(DeviceStatsTest, RequestOfADriverWithoutTheQueueFails) {
  Rig without;
  without.start();

  EXPECT_EQ(without.device().request_stats(kSecond).error().code, Errc::kNotSupported);
}

TEST_F(DeviceStatsTest, RequestBeforeDriverOkFails) {
  rig_.reset();

  EXPECT_EQ(rig_.device().request_stats(kSecond).error().code, Errc::kNotSupported);
}

TEST_F(DeviceStatsTest, IntervalAsksWhenItsTimeHasCome) {
  post(free_memory(1));
  rig_.device().set_stats_interval(kSecond);
  EXPECT_EQ(rig_.device().tick(), kSecond);
  EXPECT_THAT(rig_.completed(kStatsQueue), IsEmpty());

  now_ = kSecond;
  EXPECT_EQ(rig_.device().tick(), std::nullopt) << "the guest is collecting";

  EXPECT_THAT(rig_.completed(kStatsQueue), ElementsAre(0u));
  EXPECT_EQ(rig_.interrupts(kStatsQueue), 1);
}

TEST_F(DeviceStatsTest, IntervalGoesOnAfterTheAnswer) {
  post(free_memory(1));
  rig_.device().set_stats_interval(kSecond);
  now_ = kSecond;
  rig_.device().tick();
  post(free_memory(2));

  EXPECT_EQ(rig_.device().tick(), 2 * kSecond);
}

TEST_F(DeviceStatsTest, IntervalThatIsChangedCountsFromTheChange) {
  post(free_memory(1));
  rig_.device().set_stats_interval(10 * kSecond);
  now_ = 4 * kSecond;

  rig_.device().set_stats_interval(kSecond);
  EXPECT_EQ(rig_.device().tick(), 5 * kSecond);
  rig_.device().set_stats_interval(20 * kSecond);
  EXPECT_EQ(rig_.device().tick(), 24 * kSecond);

  EXPECT_THAT(rig_.completed(kStatsQueue), IsEmpty());
}

TEST_F(DeviceStatsTest, IntervalThatIsChangedWhileTheGuestCollectsCountsFromTheChange) {
  post(free_memory(1));
  rig_.device().set_stats_interval(kSecond);
  now_ = kSecond;
  rig_.device().tick();
  ASSERT_THAT(rig_.completed(kStatsQueue), ElementsAre(0u));
  now_ = 2 * kSecond;

  rig_.device().set_stats_interval(10 * kSecond);
  EXPECT_EQ(rig_.device().tick(), std::nullopt) << "the guest is collecting";
  now_ = 3 * kSecond;
  post(free_memory(2));

  EXPECT_EQ(rig_.device().tick(), 12 * kSecond);
  EXPECT_THAT(rig_.completed(kStatsQueue), IsEmpty());
}

TEST_F(DeviceStatsTest, IntervalOfZeroSwitchesOff) {
  post(free_memory(1));
  rig_.device().set_stats_interval(kSecond);
  rig_.device().set_stats_interval(std::chrono::nanoseconds(0));

  now_ = 5 * kSecond;

  EXPECT_EQ(rig_.device().tick(), std::nullopt);
  EXPECT_THAT(rig_.completed(kStatsQueue), IsEmpty());
}

TEST_F(DeviceStatsTest, SecondBufferIsReadAndComesBack) {
  post(free_memory(1));

  post(free_memory(2));

  EXPECT_THAT(rig_.completed(kStatsQueue), ElementsAre(0u));
  EXPECT_THAT(free_memory_seen(), Optional(2u));
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kStatsBufferExtra, 1u)));
}

TEST_F(DeviceStatsTest, NoTimeIsGivenWhileThereIsNoBufferToAskWith) {
  rig_.device().set_stats_interval(kSecond);

  now_ = 5 * kSecond;

  EXPECT_EQ(rig_.device().tick(), std::nullopt);
}

TEST_F(DeviceStatsTest, BufferThatComesWhenTheTimeIsPastIsUsedAtOnce) {
  rig_.device().set_stats_interval(kSecond);
  now_ = 5 * kSecond;

  post(free_memory(1));

  EXPECT_THAT(rig_.completed(kStatsQueue), ElementsAre(0u));
}

TEST_F(DeviceStatsTest, GuestIsAskedAgainAfterAnAnswerThatCannotBeRead) {
  post(free_memory(1));
  rig_.device().set_stats_interval(kSecond);
  now_ = kSecond;
  rig_.device().tick();
  rig_.offer(kStatsQueue, {{testing::kHole * kPageSize, 16}});
  rig_.serve(kStatsQueue);

  EXPECT_EQ(rig_.device().tick(), 2 * kSecond);
}

TEST_F(DeviceStatsTest, RequestIsMadeAgainAfterAnAnswerThatCannotBeRead) {
  post(free_memory(1));
  ASSERT_TRUE(rig_.device().request_stats(kSecond));
  rig_.serve(kStatsQueue);
  ASSERT_THAT(rig_.completed(kStatsQueue), ElementsAre(0u));
  const GuestBuffer outside{testing::kHole * kPageSize, 10};
  ASSERT_TRUE(rig_.queue(kStatsQueue).add(std::span(&outside, 1), {}, 0));
  (void)rig_.queue(kStatsQueue).publish();

  rig_.serve(kStatsQueue);

  EXPECT_THAT(rig_.completed(kStatsQueue), ElementsAre(0u));
  EXPECT_TRUE(rig_.device().stats().requested);
}

TEST_F(DeviceStatsTest, RequestWithoutAnEndNeverTimesOut) {
  post(free_memory(1));
  now_ = kSecond;

  ASSERT_TRUE(rig_.device().request_stats(std::chrono::nanoseconds::max()));

  EXPECT_FALSE(rig_.device().stats().timed_out);
}

TEST_F(DeviceStatsTest, ExtraBuffersComeBackHoweverManyTheyAre) {
  constexpr std::size_t kMany = 200;  // more than the queue has entries

  std::size_t returned = 0;
  for (std::size_t i = 0; i < kMany; ++i) {
    rig_.send(kStatsQueue, free_memory(i));
    (void)rig_.device().process(kStatsQueue);
    returned += rig_.completed(kStatsQueue).size();
  }

  EXPECT_FALSE(rig_.device().process(kStatsQueue)) << "there is nothing left to do";
  EXPECT_EQ(returned, kMany - 1);
}

// In order they wait behind the one that is held, until they fill the pool of chains. A device that
// then said that there was more would be called again and again, for ever.
TEST(DeviceStatsInOrderTest, MalformedBuffersBehindTheHeldOneDoNotKeepTheDeviceBusy) {
  constexpr std::uint16_t kSize = 4;
  Rig rig({.device = {.features = Features{Feature::kStatsVq, Feature::kInOrder}},
           .queue_size = kSize,
           .packed = false});
  rig.start();
  rig.send(kStatsQueue, free_memory(1));
  rig.serve(kStatsQueue);

  for (int i = 0; i < kSize; ++i) {
    rig.raw_split(kStatsQueue).offer(1, {testing::kPayloads, 16, testing::kIndirect, 0});
  }

  EXPECT_FALSE(rig.device().process(kStatsQueue));
  EXPECT_EQ(rig.errors(Errc::kIndirectNotNegotiated), kSize - 1u);
}

TEST_F(DeviceStatsTest, PartOfAnEntryIsCountedAndTheWholeOnesHold) {
  Message message = free_memory(3);
  message.pieces.front().push_back(std::byte{1});

  post(message);

  EXPECT_THAT(free_memory_seen(), Optional(3u));
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kPayloadNotMultiple, 1u)));
}

TEST_F(DeviceStatsTest, EntriesCutByDescriptorsAreWhole) {
  post(testing::cut(stats_message({{4, 0x0102030405060708}, {5, 9}}), 3));

  EXPECT_THAT(free_memory_seen(), Optional(0x0102030405060708u));
}

TEST_F(DeviceStatsTest, BufferWithoutEntriesIsHeldAsAnAnswerThatSaysNothing) {
  post({{Bytes{}}});

  EXPECT_THAT(rig_.completed(kStatsQueue), IsEmpty());
  EXPECT_TRUE(rig_.device().stats().latest);
  EXPECT_EQ(rig_.errors(Errc::kPayloadMissing), 1u);
}

TEST_F(DeviceStatsTest, BufferOutsideGuestMemoryIsHeldAndIsNoAnswer) {
  const GuestBuffer outside{testing::kHole * kPageSize, 10};
  ASSERT_TRUE(rig_.queue(kStatsQueue).add(std::span(&outside, 1), {}, 0));
  (void)rig_.queue(kStatsQueue).publish();

  rig_.serve(kStatsQueue);

  EXPECT_THAT(rig_.completed(kStatsQueue), IsEmpty());
  EXPECT_FALSE(rig_.device().stats().latest);
  EXPECT_EQ(rig_.errors(Errc::kAddressOutOfRange), 1u);
}

// More entries than are read: the rest of the message does not matter.
TEST_F(DeviceStatsTest, MessageOfManyEntriesIsReadInPart) {
  Message message = free_memory(3);
  message.pieces.front().resize(100'000);

  post(message);

  EXPECT_EQ(rig_.device().stats().latest->value(StatTag::kSwapIn), 0u);
  EXPECT_THAT(rig_.all_errors(), IsEmpty());
}

TEST_F(DeviceStatsTest, ResetForgetsWhatTheGuestSaid) {
  post(free_memory(1));

  rig_.reset();
  rig_.start();

  EXPECT_FALSE(rig_.device().stats().latest);
  post(free_memory(2));
  EXPECT_THAT(free_memory_seen(), Optional(2u));
  EXPECT_THAT(rig_.all_errors(), IsEmpty()) << "nothing is held from before";
}

TEST(DeviceStatsRingResetTest, ResetOfTheQueueForgetsTheRequestAndTheHeldBuffer) {
  Rig rig({.device = {.features = Features{Feature::kStatsVq, Feature::kRingReset}}});
  rig.start().send(kStatsQueue, free_memory(1));
  rig.serve(kStatsQueue);
  ASSERT_TRUE(rig.device().request_stats(kSecond));

  for (std::uint16_t i = 0; i <= kStatsQueue; ++i) rig.reset_queue(i);
  rig.set_queues();
  EXPECT_FALSE(rig.device().stats().requested);
  rig.send(kStatsQueue, free_memory(2));
  rig.serve(kStatsQueue);

  EXPECT_THAT(rig.completed(kStatsQueue), IsEmpty()) << "nobody asks for another one";
  EXPECT_THAT(rig.all_errors(), IsEmpty()) << "nothing is held from before";
}

TEST_F(DeviceStatsTest, MessagesAreCounted) {
  post(free_memory(1));

  EXPECT_EQ(rig_.device().metrics().stats_messages, 1u);
}

}  // namespace
}  // namespace vballoon
