// SPDX-License-Identifier: MIT
// What a restored device knows (src/device/save_restore.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "device/saved_state_fixture.h"

namespace vballoon {
namespace {

using testing::balanced;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::message_of;
using testing::numbers;
using ::testing::Optional;
using testing::pfn_message;
using testing::Rig;

class SavedStateTest : public testing::SavedStateFixture {};

// ---- registers ---------------------------------------------------------------------------------

TEST_F(SavedStateTest, DeviceThatNoDriverTouchedIsRestored) {
  ASSERT_TRUE(rig_.device().set_target_pages(7));

  move_to_another_device();

  EXPECT_EQ(rig_.device().target_pages(), 7u);
  EXPECT_EQ(rig_.device().read_status(), 0);
}

TEST_F(SavedStateTest, StatusTargetActualAndGenerationAreKept) {
  rig_.start();
  ASSERT_TRUE(rig_.device().set_target_pages(7));
  rig_.write_config32(kActualOffset, 5);
  const std::uint32_t generation = rig_.device().config_generation();

  move_to_another_device();

  EXPECT_EQ(rig_.device().read_status(), Rig::kRunning);
  EXPECT_EQ(rig_.device().target_pages(), 7u);
  EXPECT_EQ(rig_.device().actual_pages(), 5u);
  EXPECT_EQ(rig_.device().config_generation(), generation);
}

TEST_F(SavedStateTest, PoisonedPagesAreStillNotDiscardedWhenReported) {
  rig_.negotiate().set_queues();
  rig_.write_config32(kPoisonValueOffset, 0xAAAAAAAA);
  rig_.write_status(Rig::kRunning);

  move_to_another_device();
  rig_.send(kReportQueue, pages_to_hint({{5, 1}}));
  rig_.serve(kReportQueue);

  EXPECT_EQ(rig_.config32(kPoisonValueOffset), 0xAAAAAAAA);
  EXPECT_THAT(rig_.completed(kReportQueue), ElementsAre(0u));
  EXPECT_THAT(rig_.discarded(), IsEmpty());
}

TEST_F(SavedStateTest, DriverGoesOnInTheMiddleOfItsSetUp) {
  rig_.negotiate();

  move_to_another_device();
  rig_.set_queues();
  rig_.write_status(Rig::kRunning);
  rig_.inflate({5});

  EXPECT_TRUE(rig_.device().is_ballooned(5));
}

TEST_F(SavedStateTest, KickBeforeDriverOkIsRemembered) {
  rig_.negotiate().set_queues();
  EXPECT_FALSE(rig_.device().process(kDeflateQueue));

  move_to_another_device();
  rig_.write_status(Rig::kRunning);

  EXPECT_THAT(rig_.woken(), ElementsAre(kDeflateQueue));
}

class SavedStateOfSplitRingsTest : public testing::SavedStateFixture {
 protected:
  SavedStateOfSplitRingsTest() : SavedStateFixture(false) {}
};

// Nothing that stands on a packed ring breaks it.
TEST_F(SavedStateOfSplitRingsTest, DeviceThatNeedsAResetStillDoes) {
  rig_.start();
  rig_.raw_split(kInflateQueue).set_avail_index(1000);
  rig_.serve(kInflateQueue);
  ASSERT_NE(rig_.device().read_status() & kStatusNeedsReset, 0);

  move_to_another_device();
  rig_.reset();
  rig_.start().inflate({5});

  EXPECT_TRUE(rig_.device().is_ballooned(5));
}

// ---- queues and the ledger ---------------------------------------------------------------------

TEST_F(SavedStateTest, QueuesGoOnBehindWhatWasServed) {
  rig_.start().inflate({5, 6});

  move_to_another_device();
  rig_.inflate({7});

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{7, 1}));
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u, 0u));
}

TEST_F(SavedStateTest, PagesInTheBalloonAreKnown) {
  rig_.start().inflate({5, 6, 0x800});

  move_to_another_device();

  EXPECT_EQ(rig_.device().ballooned_pages(), 3u);
  EXPECT_TRUE(rig_.device().is_ballooned(0x800));
  EXPECT_FALSE(rig_.device().is_ballooned(7));
}

TEST_F(SavedStateTest, EveryQueueThatIsSetUpIsToBeServed) {
  rig_.start();

  move_to_another_device();

  EXPECT_THAT(rig_.woken(), ElementsAre(0, 1, 2, 3, 4));
}

TEST_F(SavedStateTest, QueueThatWasResetIsSetUpAgain) {
  rig_.start();
  rig_.reset_queue(kInflateQueue);

  move_to_another_device();
  EXPECT_FALSE(rig_.device().process(kInflateQueue));

  EXPECT_TRUE(rig_.set_queue(kInflateQueue, rig_.ring_config(kInflateQueue)));
}

// All addresses of the driver are 2^40 larger than those of guest memory.
TEST_F(SavedStateTest, RestoredDeviceTranslates) {
  BalloonOptions translating = options();
  translating.features = translating.features.with(Feature::kAccessPlatform);
  Rig rig({.device = translating, .bus_offset = std::uint64_t{1} << 40});
  rig.start().send(kInflateQueue, pfn_message(numbers(0, 300)));
  ASSERT_TRUE(rig.device().process(kInflateQueue));
  const auto state = rig.save();

  rig.replace_device();
  ASSERT_TRUE(rig.restore(state));
  rig.serve(kInflateQueue);
  rig.inflate({0x801});

  EXPECT_EQ(rig.device().ballooned_pages(), 301u);
  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u, 0u));
}

TEST_F(SavedStateTest, MessageThatWasCutGoesOnWhereItStopped) {
  rig_.start().send(kInflateQueue, pfn_message(numbers(0, 300)));
  ASSERT_TRUE(rig_.device().process(kInflateQueue));

  move_to_another_device();
  EXPECT_THAT(rig_.completed(kInflateQueue), IsEmpty());
  rig_.serve(kInflateQueue);

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{100, 100}, PageRange{200, 100}));
  EXPECT_EQ(rig_.device().ballooned_pages(), 300u);
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_THAT(rig_.all_errors(), IsEmpty());
}

TEST_F(SavedStateTest, PageThatWasDeflatedMeanwhileIsNotInflatedByTheRestOfItsMessage) {
  rig_.start().send(kInflateQueue, pfn_message(numbers(0, 300)));
  ASSERT_TRUE(rig_.device().process(kInflateQueue));
  rig_.deflate({5});

  move_to_another_device();
  rig_.serve(kInflateQueue);

  EXPECT_FALSE(rig_.device().is_ballooned(5));
  EXPECT_EQ(rig_.device().ballooned_pages(), 299u);
}

TEST_F(SavedStateTest, MessageThatWasCutWithinItsPayloadIsReadToItsEndOnce) {
  BalloonOptions by_bytes = options();
  by_bytes.budget = {.bytes = 1};
  Rig rig({.device = by_bytes});
  auto pfns = numbers(0, 0x400);
  while (pfns.size() < 17'000) pfns.push_back(0x3FF);
  pfns.insert(pfns.end(), {0x800, 0x801});
  rig.start().send(kInflateQueue, pfn_message(pfns));
  ASSERT_TRUE(rig.device().process(kInflateQueue));
  const auto state = rig.save();

  rig.replace_device();
  ASSERT_TRUE(rig.restore(state));
  rig.serve(kInflateQueue);

  EXPECT_EQ(rig.device().ballooned_pages(), 0x402u);
  EXPECT_EQ(rig.device().metrics().inflate_messages, 0u) << "counted where it was taken";
  EXPECT_EQ(rig.errors(Errc::kPageAlreadyInflated), 1u) << "page 0x3FF, of another batch";
  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
}

TEST_F(SavedStateTest, DriverThatChangesACutMessageGetsItBackAllTheSame) {
  rig_.start().send(kInflateQueue, pfn_message(numbers(0, 300)));
  ASSERT_TRUE(rig_.device().process(kInflateQueue));
  const auto state = changed_state([](DeviceState& s) {
    s.queues[kInflateQueue]->pages.clear();
    s.queues[kInflateQueue]->resume = MessagePlace{.bytes = 1 << 30, .buffers = 99};
    s.queues[kInflateQueue]->position = {};
    s.queues[kInflateQueue]->held.clear();
  });

  rig_.replace_device();
  ASSERT_TRUE(rig_.device().restore(state));
  rig_.serve(kInflateQueue);

  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
}

TEST_F(SavedStateTest, PagesOfTheNextBatchArePutInOrder) {
  rig_.start();

  move_to_another_device();
  rig_.inflate({7, 3, 5});

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{3, 1}, PageRange{5, 1}, PageRange{7, 1}));
}

TEST_F(SavedStateTest, DeviceThatIsDestroyedDoesNotTouchTheRingsOfTheRestoredOne) {
  rig_.start().send(kStatsQueue, stats(4, 1));
  rig_.serve(kStatsQueue);
  const auto state = rig_.save();
  std::vector<std::byte> before(kPageSize);
  std::vector<std::byte> after(kPageSize);
  const std::uint64_t used = rig_.used_address(kStatsQueue);
  ASSERT_TRUE(rig_.memory().read(used, before));

  rig_.replace_device();

  ASSERT_TRUE(rig_.memory().read(used, after));
  EXPECT_EQ(after, before);
}

TEST_F(SavedStateTest, SavedDeviceGoesOnAsIfNothingHadHappened) {
  rig_.start().send(kInflateQueue, pfn_message(numbers(0, 300)));
  ASSERT_TRUE(rig_.device().process(kInflateQueue));

  (void)rig_.save();
  rig_.serve(kInflateQueue);

  EXPECT_THAT(rig_.discarded(),
              ElementsAre(PageRange{0, 100}, PageRange{100, 100}, PageRange{200, 100}));
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_EQ(rig_.device().metrics().inflate_messages, 1u);
  EXPECT_THAT(rig_.all_errors(), IsEmpty());
}

TEST_F(SavedStateTest, StateIsTheSameWhenItIsSavedAgain) {
  rig_.start().send(kInflateQueue, pfn_message(numbers(0, 300)));
  ASSERT_TRUE(rig_.device().process(kInflateQueue));

  const auto first = rig_.save();

  EXPECT_EQ(rig_.save(), first);
  EXPECT_EQ(move_to_another_device(), first);
  EXPECT_EQ(rig_.save(), first);
}

// ---- discards that wait ------------------------------------------------------------------------

TEST_F(SavedStateTest, OwedPagesAreDiscardedByTheRestoredDevice) {
  rig_.start();
  rig_.device().inhibit_discards();
  rig_.inflate({5, 6});

  move_to_another_device();

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 2}));
  EXPECT_EQ(rig_.device().metrics().owed_bytes, 0u);
  EXPECT_TRUE(balanced(rig_.device().metrics()));
}

TEST_F(SavedStateTest, OwedPagesWaitWhileTheRestoredDeviceIsInhibited) {
  rig_.start();
  rig_.device().inhibit_discards();
  rig_.inflate({5, 6, 7});
  const auto state = rig_.save();

  rig_.replace_device();
  rig_.device().inhibit_discards();
  ASSERT_TRUE(rig_.restore(state));
  rig_.deflate({6});
  EXPECT_THAT(rig_.discarded(), IsEmpty());
  rig_.device().resume_discards();

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 1}, PageRange{7, 1}));
  EXPECT_TRUE(balanced(rig_.device().metrics()));
}

TEST_F(SavedStateTest, WhoRunsOwedDiscardsIsTold) {
  int told = 0;
  BalloonOptions behind = options();
  behind.write_behind = true;
  behind.discards_owed = [&told] { ++told; };
  Rig rig({.device = behind});
  rig.start().inflate({5});
  const auto state = rig.save();
  told = 0;

  rig.replace_device();
  ASSERT_TRUE(rig.restore(state));

  EXPECT_EQ(told, 1);
  EXPECT_THAT(rig.discarded(), IsEmpty());
  EXPECT_TRUE(rig.device().drain());
  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{5, 1}));
}

// ---- statistics --------------------------------------------------------------------------------

TEST_F(SavedStateTest, StatisticsBufferThatIsHeldIsReturnedOnce) {
  rig_.start().send(kStatsQueue, stats(4, 0x1234));
  rig_.serve(kStatsQueue);

  move_to_another_device();
  rig_.serve(kStatsQueue);
  EXPECT_THAT(rig_.completed(kStatsQueue), IsEmpty());
  ASSERT_TRUE(rig_.device().request_stats(kSecond));
  rig_.serve(kStatsQueue);
  rig_.serve(kStatsQueue);

  EXPECT_THAT(rig_.completed(kStatsQueue), ElementsAre(0u));
  EXPECT_EQ(rig_.queue(kStatsQueue).bogus_used(), 0u);
}

TEST_F(SavedStateTest, LatestStatisticsKeepTheirAge) {
  rig_.start().send(kStatsQueue, stats(4, 0x1234));
  rig_.serve(kStatsQueue);
  now_ += kSecond;
  const auto state = rig_.save();

  now_ = std::chrono::nanoseconds(5);  // another host has another clock
  rig_.replace_device();
  ASSERT_TRUE(rig_.restore(state));
  const StatsReport report = rig_.device().stats();

  ASSERT_TRUE(report.latest);
  EXPECT_THAT(report.latest->value(StatTag::kFreeMemory), Optional(0x1234u));
  EXPECT_EQ(report.age, kSecond);
}

TEST_F(SavedStateTest, RequestThatIsUnderWayIsAnswered) {
  rig_.start().send(kStatsQueue, stats(4, 1));
  rig_.serve(kStatsQueue);
  ASSERT_TRUE(rig_.device().request_stats(kSecond));
  rig_.serve(kStatsQueue);

  move_to_another_device();
  EXPECT_TRUE(rig_.device().stats().requested);
  rig_.send(kStatsQueue, stats(4, 2));
  rig_.serve(kStatsQueue);

  EXPECT_FALSE(rig_.device().stats().requested);
  EXPECT_THAT(rig_.device().stats().latest->value(StatTag::kFreeMemory), Optional(2u));
}

TEST_F(SavedStateTest, RequestTimesOutAsItWouldHave) {
  rig_.start();
  ASSERT_TRUE(rig_.device().request_stats(kSecond));
  now_ += kSecond / 2;

  move_to_another_device();
  EXPECT_FALSE(rig_.device().stats().timed_out);
  now_ += kSecond / 2;

  EXPECT_TRUE(rig_.device().stats().timed_out);
}

TEST_F(SavedStateTest, IntervalIsKept) {
  rig_.start().send(kStatsQueue, stats(4, 1));
  rig_.serve(kStatsQueue);
  rig_.device().set_stats_interval(kSecond);
  now_ += kSecond / 4;

  move_to_another_device();

  EXPECT_EQ(rig_.device().tick(), now_ + kSecond * 3 / 4);
}

TEST_F(SavedStateTest, ValuesWithoutANameAreKept) {
  rig_.start().send(kStatsQueue, stats(4711, 3));
  rig_.serve(kStatsQueue);

  move_to_another_device();

  EXPECT_THAT(rig_.device().stats().latest->unknown,
              ElementsAre(BalloonStats::Unknown{.tag = 4711, .value = 3}));
}

// ---- free page hints ---------------------------------------------------------------------------

TEST_F(SavedStateTest, RoundOfHintsGoesOn) {
  rig_.start();
  hint_command(rig_.device().start_hints().value());

  move_to_another_device();
  EXPECT_EQ(rig_.device().hint_status().state, HintState::kActive);
  rig_.send(kHintQueue, pages_to_hint({{5, 2}}));
  rig_.serve(kHintQueue);

  EXPECT_THAT(hinted_, ElementsAre(PageRange{5, 2}));
}

TEST_F(SavedStateTest, HintsThatWereCutGoOnWhereTheyStopped) {
  rig_.start();
  hint_command(rig_.device().start_hints().value());
  rig_.send(kHintQueue, pages_to_hint({{0, 300}}));
  ASSERT_TRUE(rig_.device().process(kHintQueue));

  move_to_another_device();
  EXPECT_THAT(rig_.completed(kHintQueue), ElementsAre(0u)) << "the command";
  rig_.serve(kHintQueue);

  EXPECT_THAT(hinted_, ElementsAre(PageRange{0, 100}, PageRange{100, 100}, PageRange{200, 100}));
  EXPECT_THAT(rig_.completed(kHintQueue), ElementsAre(0u));
  EXPECT_EQ(rig_.queue(kHintQueue).bogus_used(), 0u);
}

TEST_F(SavedStateTest, CommandThatWaitsBehindHintsIsTakenAgain) {
  rig_.start();
  hint_command(rig_.device().start_hints().value());
  rig_.send(kHintQueue, pages_to_hint({{0, 300}}));
  rig_.send(kHintQueue, {{testing::le32({kHintStop})}});
  ASSERT_TRUE(rig_.device().process(kHintQueue));

  move_to_another_device();
  EXPECT_EQ(rig_.device().hint_status().state, HintState::kActive);
  rig_.serve(kHintQueue);

  EXPECT_EQ(rig_.device().hint_status().state, HintState::kExhausted);
  EXPECT_THAT(rig_.completed(kHintQueue), ElementsAre(0u, 0u, 0u));
}

TEST_F(SavedStateTest, RoundOfHintsEnds) {
  rig_.start();
  const std::uint32_t id = rig_.device().start_hints().value();
  hint_command(id);

  move_to_another_device();
  rig_.device().finish_hints();

  EXPECT_EQ(rig_.config32(kHintCommandOffset), kHintDone);
}

TEST_F(SavedStateTest, NextRoundOfHintsHasAnIdOfItsOwn) {
  rig_.start();
  const std::uint32_t id = rig_.device().start_hints().value();
  rig_.device().stop_hints();

  move_to_another_device();

  EXPECT_EQ(rig_.device().start_hints().value(), id + 1);
}

}  // namespace
}  // namespace vballoon
