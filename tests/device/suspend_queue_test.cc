// SPDX-License-Identifier: MIT
// A queue that stops while the device runs, and goes on later or in another device
// (src/device/suspend_queue.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "device/suspend_fixture.h"

namespace vballoon {
namespace {

using testing::balanced;
using testing::behind;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::numbers;
using ::testing::Optional;
using ::testing::Pair;
using testing::pfn_message;
using testing::Rig;
using testing::SuspendQueueTest;

constexpr std::uint16_t kStatsQueue = 2;

// Message by message, however small the ring is.
void inflate_each(Rig& rig, std::uint32_t pages) {
  for (std::uint32_t pfn = 0; pfn < pages; ++pfn) {
    rig.inflate({pfn});
    ASSERT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
  }
}

// ---- stopped -----------------------------------------------------------------------------------

TEST_F(SuspendQueueTest, PositionIsBehindWhatWasServed) {
  rig_.start().inflate({5});
  rig_.inflate({6});

  EXPECT_THAT(rig_.device().suspend_queue(kInflateQueue), Optional(behind(2)));
}

TEST_F(SuspendQueueTest, MessagesThatWereNotReadAreLeftInTheRing) {
  rig_.start().send(kInflateQueue, pfn_message({5}));

  EXPECT_THAT(rig_.device().suspend_queue(kInflateQueue), Optional(behind(0)));
  EXPECT_THAT(rig_.discarded(), IsEmpty());
}

TEST_F(SuspendQueueTest, QueueThatDoesNotRunHasNoPosition) {
  EXPECT_EQ(rig_.device().suspend_queue(kInflateQueue), std::nullopt) << "not set up";
  rig_.start();
  EXPECT_EQ(rig_.device().suspend_queue(kMaxBalloonQueues), std::nullopt) << "there is none";
  ASSERT_TRUE(rig_.device().suspend_queue(kInflateQueue));
  EXPECT_EQ(rig_.device().suspend_queue(kInflateQueue), std::nullopt) << "suspended already";
}

TEST_F(SuspendQueueTest, SuspendedQueueIsNotServed) {
  rig_.start();
  ASSERT_TRUE(rig_.device().suspend_queue(kInflateQueue));
  rig_.send(kInflateQueue, pfn_message({5}));

  EXPECT_FALSE(rig_.device().process(kInflateQueue));
  EXPECT_FALSE(rig_.device().poll(kInflateQueue));

  EXPECT_THAT(rig_.completed(kInflateQueue), IsEmpty());
  EXPECT_THAT(rig_.discarded(), IsEmpty());
  EXPECT_THAT(rig_.all_errors(), IsEmpty());
}

TEST_F(SuspendQueueTest, OtherQueuesGoOn) {
  rig_.start().inflate({5});
  ASSERT_TRUE(rig_.device().suspend_queue(kInflateQueue));

  rig_.deflate({5});

  EXPECT_THAT(rig_.completed(kDeflateQueue), ElementsAre(0u));
  EXPECT_EQ(rig_.device().ballooned_pages(), 0u);
}

TEST_F(SuspendQueueTest, PagesStayInTheBalloon) {
  rig_.start().inflate({5, 6});

  ASSERT_TRUE(rig_.device().suspend_queue(kInflateQueue));

  EXPECT_TRUE(rig_.device().is_ballooned(6));
  EXPECT_EQ(rig_.device().read_status(), Rig::kRunning);
}

TEST_F(SuspendQueueTest, DeviceIsResetAndStartedAgain) {
  rig_.start().inflate({5});
  ASSERT_TRUE(rig_.device().suspend_queue(kInflateQueue));

  rig_.reset();
  rig_.start().inflate({6});

  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_EQ(rig_.device().ballooned_pages(), 1u);
}

TEST_F(SuspendQueueTest, SavedStateKnowsNothingOfASuspendedQueue) {
  rig_.start().inflate({5});
  const auto position = rig_.device().suspend_queue(kInflateQueue);
  const auto state = rig_.save();
  rig_.replace_device();

  ASSERT_TRUE(rig_.restore(state));
  rig_.inflate({6});
  EXPECT_EQ(rig_.device().ballooned_pages(), 1u);
  ASSERT_TRUE(resume(rig_, kInflateQueue, *position));
  rig_.serve(kInflateQueue);

  EXPECT_EQ(rig_.device().ballooned_pages(), 2u);
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u, 0u));
}

// ---- going on ----------------------------------------------------------------------------------

TEST_F(SuspendQueueTest, WhatCameMeanwhileIsServedAfterwards) {
  rig_.start().inflate({5});
  const auto position = rig_.device().suspend_queue(kInflateQueue);
  rig_.send(kInflateQueue, pfn_message({6}));

  ASSERT_TRUE(resume(rig_, kInflateQueue, *position));
  rig_.serve(kInflateQueue);

  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u, 0u));
  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 1}, PageRange{6, 1}));
}

TEST_F(SuspendQueueTest, QueueGoesOnBeforeDriverOkToo) {
  rig_.negotiate().set_queues();
  ASSERT_TRUE(rig_.device().suspend_queue(kInflateQueue));

  ASSERT_TRUE(resume(rig_, kInflateQueue, {}));
  rig_.write_status(Rig::kRunning);
  rig_.inflate({5});

  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
}

// What vhost-user does: the status is there before any ring.
TEST_F(SuspendQueueTest, QueueBeginsWhileTheDeviceRuns) {
  rig_.negotiate();
  rig_.write_status(Rig::kRunning);
  auto driver = DriverQueue::create(rig_.shared_memory(), rig_.ring_config(kInflateQueue)).value();
  const GuestBuffer payload = rig_.place(testing::le32({5}));
  ASSERT_TRUE(driver->add(std::span(&payload, 1), {}, 0));
  (void)driver->publish();

  ASSERT_TRUE(resume(rig_, kInflateQueue, {}));
  rig_.serve(kInflateQueue);

  EXPECT_TRUE(driver->take_used());
  EXPECT_TRUE(rig_.device().is_ballooned(5));
}

TEST_F(SuspendQueueTest, AnotherDeviceGoesOnInALaterRoundOfTheRing) {
  Rig rig({.device = options(), .queue_size = 4});
  rig.start();
  inflate_each(rig, 6);
  const auto position = rig.device().suspend_queue(kInflateQueue);
  ASSERT_TRUE(position);
  rig.send(kInflateQueue, pfn_message({6}));
  rig.replace_device();
  rig.negotiate().write_status(Rig::kRunning);

  ASSERT_TRUE(resume(rig, kInflateQueue, *position));
  rig.serve(kInflateQueue);

  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_EQ(rig.queue(kInflateQueue).bogus_used(), 0u);
  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{6, 1}));
}

TEST(SuspendedPackedRing, PositionHasTheWrapCounters) {
  Rig rig({.queue_size = 4, .packed = true});
  rig.start();
  inflate_each(rig, 6);

  EXPECT_EQ(rig.device().suspend_queue(kInflateQueue),
            (QueuePosition{
                .next_available = 2, .next_used = 2, .available_wrap = false, .used_wrap = false}));
}

TEST(SuspendedSplitRing, PositionIsTheFreeRunningIndex) {
  Rig rig({.queue_size = 4, .packed = false});
  rig.start();
  inflate_each(rig, 6);

  EXPECT_THAT(rig.device().suspend_queue(kInflateQueue), Optional(behind(6)));
}

// ---- refused -----------------------------------------------------------------------------------

class RefusedResumeTest : public SuspendQueueTest {
 protected:
  static Errc error_of(Rig& rig, std::uint16_t queue, const QueuePosition& position = {}) {
    const auto resumed = rig.device().resume_queue(queue, rig.ring_config(kInflateQueue), position);
    return resumed ? Errc::kInvalidArgument : resumed.error().code;
  }
};

TEST_F(RefusedResumeTest, QueueThatRuns) {
  rig_.start();

  EXPECT_EQ(error_of(rig_, kInflateQueue), Errc::kBadQueueConfig);

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kBadQueueConfig, 1u)));
  rig_.inflate({5});
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
}

TEST_F(RefusedResumeTest, BeforeFeaturesOk) {
  EXPECT_EQ(error_of(rig_, kInflateQueue), Errc::kBadQueueConfig);
}

TEST_F(RefusedResumeTest, QueueThatThereIsNot) {
  rig_.start();

  EXPECT_EQ(error_of(rig_, kStatsQueue + 1), Errc::kBadQueueConfig);
  EXPECT_EQ(error_of(rig_, kMaxBalloonQueues), Errc::kBadQueueConfig);
}

TEST_F(RefusedResumeTest, PlaceAtWhichNoRingCanBe) {
  rig_.start();
  const auto position = rig_.device().suspend_queue(kInflateQueue);

  EXPECT_EQ(error_of(rig_, kInflateQueue, {.next_available = 66, .next_used = 1}),
            Errc::kBadQueueConfig);

  EXPECT_EQ(rig_.device().suspend_queue(kInflateQueue), std::nullopt);
  EXPECT_TRUE(resume(rig_, kInflateQueue, *position)) << "another place will do";
}

// ---- in the middle of messages
// -------------------------------------------------------------------

TEST_F(SuspendQueueTest, MessageReadInPartIsReadAgain) {
  Rig rig({.device = options({.bytes = 1})});
  auto pfns = numbers(0, 0x400);
  pfns.resize(17'000, 0x3FF);  // more than one window
  pfns.push_back(0x801);
  rig.start().send(kInflateQueue, pfn_message(pfns));
  ASSERT_TRUE(rig.device().process(kInflateQueue));

  const auto position = rig.device().suspend_queue(kInflateQueue);

  EXPECT_THAT(position, Optional(behind(0)));
  EXPECT_THAT(rig.completed(kInflateQueue), IsEmpty());
  ASSERT_TRUE(resume(rig, kInflateQueue, *position));
  rig.serve(kInflateQueue);
  EXPECT_EQ(rig.device().ballooned_pages(), 0x401u);
  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_TRUE(balanced(rig.device().metrics()));
}

TEST_F(SuspendQueueTest, MessageDealtWithInPartIsDealtWithAndAnswered) {
  Rig rig({.device = options({.pages = 100})});
  rig.start().send(kInflateQueue, pfn_message(numbers(0, 300)));
  ASSERT_TRUE(rig.device().process(kInflateQueue));

  const auto position = rig.device().suspend_queue(kInflateQueue);

  EXPECT_THAT(position, Optional(behind(1)));
  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{0, 100}, PageRange{100, 200}));
  EXPECT_TRUE(balanced(rig.device().metrics()));
}

TEST_F(SuspendQueueTest, PagesAreForgottenByNobodyWithoutMustTellHost) {
  Rig rig({.device = options({.pages = 100}),
           .accepted = Features{Feature::kVersion1, Feature::kStatsVq}});
  rig.start().send(kInflateQueue, pfn_message(numbers(0, 300)));
  ASSERT_TRUE(rig.device().process(kInflateQueue));

  ASSERT_TRUE(rig.device().suspend_queue(kInflateQueue));

  EXPECT_EQ(rig.device().metrics().freed_bytes, 300 * kPageSize);
  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
}

// The first message is read, the second read in part, of both pages wait: the first is answered,
// the second goes back.
void suspend_between_two_messages(Rig& rig) {
  rig.start().send(kInflateQueue, pfn_message(numbers(0x800, 100)));
  auto pfns = numbers(0, 0x400);
  pfns.resize(17'000, 0x3FF);
  pfns.push_back(0x801 + 100);
  rig.send(kInflateQueue, pfn_message(pfns));
  ASSERT_TRUE(rig.device().process(kInflateQueue));
  ASSERT_THAT(rig.completed(kInflateQueue), IsEmpty());

  const auto position = rig.device().suspend_queue(kInflateQueue);

  EXPECT_THAT(position, Optional(behind(1)));
  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
  ASSERT_TRUE(rig.device().resume_queue(kInflateQueue, rig.ring_config(kInflateQueue), *position));
  rig.serve(kInflateQueue);
  EXPECT_EQ(rig.device().ballooned_pages(), 100u + 0x401u);
  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_EQ(rig.queue(kInflateQueue).bogus_used(), 0u);
  EXPECT_TRUE(balanced(rig.device().metrics()));
}

TEST_F(SuspendQueueTest, ReadMessageIsAnsweredAndTheOneBehindItReadAgain) {
  Rig rig({.device = options({.pages = 10, .bytes = 401})});
  suspend_between_two_messages(rig);
}

TEST_F(SuspendQueueTest, ReadMessageIsAnsweredAndTheOneBehindItReadAgainInOrder) {
  BalloonOptions in_order = options({.pages = 10, .bytes = 401});
  in_order.features = in_order.features.with(Feature::kInOrder);
  Rig rig({.device = in_order});
  suspend_between_two_messages(rig);
}

// A page that the guest has back by now must not be discarded.
TEST_F(SuspendQueueTest, AnsweredMessageIsNotDealtWithAgain) {
  Rig rig({.device = options({.pages = 100})});
  rig.start().send(kInflateQueue, pfn_message(numbers(0, 300)));
  ASSERT_TRUE(rig.device().process(kInflateQueue));
  const auto position = rig.device().suspend_queue(kInflateQueue);
  rig.deflate({250});
  rig.recorded().forget();

  ASSERT_TRUE(resume(rig, kInflateQueue, *position));
  rig.serve(kInflateQueue);

  EXPECT_THAT(rig.discarded(), IsEmpty());
  EXPECT_FALSE(rig.device().is_ballooned(250));
}

TEST_F(SuspendQueueTest, DeflateInPartIsDoneToItsEnd) {
  Rig rig({.device = options({.pages = 100})});
  rig.start().send(kInflateQueue, pfn_message(numbers(0, 300)));
  rig.serve(kInflateQueue);
  rig.send(kDeflateQueue, pfn_message(numbers(0, 300)));
  ASSERT_TRUE(rig.device().process(kDeflateQueue));

  ASSERT_TRUE(rig.device().suspend_queue(kDeflateQueue));

  EXPECT_EQ(rig.device().ballooned_pages(), 0u);
  EXPECT_THAT(rig.completed(kDeflateQueue), ElementsAre(0u));
  EXPECT_THAT(rig.all_errors(), IsEmpty());
}

TEST_F(SuspendQueueTest, WhatIsWrittenBehindIsOwedAndSaidOnce) {
  int said = 0;
  BalloonOptions behind_options = options({.pages = 100});
  behind_options.write_behind = true;
  behind_options.discards_owed = [&said] { ++said; };
  Rig rig({.device = behind_options});
  rig.start().device().inhibit_discards();
  rig.send(kInflateQueue, pfn_message(numbers(0, 300)));
  ASSERT_TRUE(rig.device().process(kInflateQueue));
  rig.device().resume_discards();
  ASSERT_TRUE(rig.device().drain());
  said = 0;

  ASSERT_TRUE(rig.device().suspend_queue(kInflateQueue));

  EXPECT_EQ(said, 1);
  EXPECT_EQ(rig.device().metrics().owed_bytes, 200 * kPageSize);
  EXPECT_TRUE(rig.device().drain());
  EXPECT_EQ(rig.device().metrics().freed_bytes, 300 * kPageSize);
  EXPECT_TRUE(balanced(rig.device().metrics()));
}

TEST_F(SuspendQueueTest, DriverIsInterruptedForWhatIsAnswered) {
  Rig rig({.device = options({.pages = 100}), .mmio = false});
  rig.start().send(kInflateQueue, pfn_message(numbers(0, 300)));
  ASSERT_TRUE(rig.device().process(kInflateQueue));
  const std::uint64_t before = rig.device().metrics().notifications;

  ASSERT_TRUE(rig.device().suspend_queue(kInflateQueue));

  EXPECT_EQ(rig.interrupts(kInflateQueue), 1);
  EXPECT_EQ(rig.device().metrics().notifications, before + 1);
}

TEST_F(SuspendQueueTest, NothingToAnswerIsNoInterrupt) {
  rig_.start().inflate({5});
  const int before = rig_.interrupts(kInflateQueue);

  ASSERT_TRUE(rig_.device().suspend_queue(kInflateQueue));

  EXPECT_EQ(rig_.interrupts(kInflateQueue), before);
}

// ---- another memory ----------------------------------------------------------------------------

TEST_F(SuspendQueueTest, QueueGoesOnInAnotherMemory) {
  rig_.start().inflate({5});
  const auto position = rig_.device().suspend_queue(kInflateQueue);
  rig_.send(kInflateQueue, pfn_message({6}));

  ASSERT_TRUE(rig_.device().set_memory(
      testing::part_of(rig_.shared_memory(), {{0, testing::kLowPages}, {testing::kHigh, 0x400}})));
  ASSERT_TRUE(resume(rig_, kInflateQueue, *position));
  rig_.serve(kInflateQueue);

  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u, 0u));
  EXPECT_EQ(rig_.device().ballooned_pages(), 2u);
}

TEST_F(SuspendQueueTest, QueueThatStandsNeedsNoPlaceInAnotherMemory) {
  rig_.start();
  for (const std::uint16_t queue : {kInflateQueue, kDeflateQueue, kStatsQueue}) {
    ASSERT_TRUE(rig_.device().suspend_queue(queue));
  }

  ASSERT_TRUE(
      rig_.device().set_memory(testing::part_of(rig_.shared_memory(), {{0, testing::kLowPages}})));

  EXPECT_EQ(rig_.device().read_status(), Rig::kRunning);
}

}  // namespace
}  // namespace vballoon
