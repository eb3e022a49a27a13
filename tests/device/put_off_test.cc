// SPDX-License-Identifier: MIT
// Discards that wait: inhibited, or written behind (src/device/pages.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <utility>

#include "device/device_fixture.h"

namespace vballoon {
namespace {

using testing::balanced;
using ::testing::ElementsAre;
using testing::everything_but;
using ::testing::IsEmpty;
using testing::Rig;

// ---- inhibited ---------------------------------------------------------------------------------

class InhibitTest : public ::testing::Test {
 protected:
  InhibitTest() {
    rig_.start();
    rig_.device().inhibit_discards();
  }

  Rig rig_;
};

TEST_F(InhibitTest, PagesAreAcknowledgedAndOwed) {
  rig_.inflate({5, 6, 7});

  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_THAT(rig_.discarded(), IsEmpty());
  EXPECT_EQ(rig_.device().metrics().owed_bytes, 3 * kPageSize);
  EXPECT_TRUE(rig_.device().is_ballooned(6));
  EXPECT_TRUE(balanced(rig_.device().metrics()));
}

TEST_F(InhibitTest, PagesAreDiscardedWhenResumed) {
  rig_.inflate({5, 6, 7});

  rig_.device().resume_discards();

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 3}));
  EXPECT_EQ(rig_.device().metrics().freed_bytes, 3 * kPageSize);
  EXPECT_EQ(rig_.device().metrics().owed_bytes, 0u);
}

TEST_F(InhibitTest, PagesThatAreDeflatedMeanwhileAreLeftAlone) {
  rig_.inflate({5, 6, 7});
  rig_.deflate({6});

  rig_.device().resume_discards();

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 1}, PageRange{7, 1}));
  EXPECT_EQ(rig_.device().metrics().cancelled_bytes, kPageSize);
  EXPECT_TRUE(balanced(rig_.device().metrics()));
}

TEST_F(InhibitTest, HasToBeResumedAsOftenAsInhibited) {
  rig_.device().inhibit_discards();
  rig_.inflate({5});

  rig_.device().resume_discards();
  EXPECT_THAT(rig_.discarded(), IsEmpty());
  rig_.device().resume_discards();

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 1}));
}

TEST_F(InhibitTest, NothingIsDrainedMeanwhile) {
  rig_.inflate({5});

  EXPECT_FALSE(rig_.device().drain());

  EXPECT_THAT(rig_.discarded(), IsEmpty());
}

TEST_F(InhibitTest, ResetForgoesWhatIsOwed) {
  rig_.inflate({5});

  rig_.reset();
  rig_.device().resume_discards();

  EXPECT_THAT(rig_.discarded(), IsEmpty());
  EXPECT_EQ(rig_.device().metrics().forgone_bytes, kPageSize);
}

TEST(InhibitWithNobodyToTellTest, ResumeDrainsThoughAnInflateWasWrittenBehindBefore) {
  Rig rig({.device = {.write_behind = true}});
  rig.start();
  rig.inflate({5});
  rig.device().inhibit_discards();

  rig.device().resume_discards();

  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{5, 1}));
}

TEST(InhibitWithoutMustTellHostTest, PagesAreForgone) {
  Rig rig({.accepted = everything_but(Feature::kMustTellHost)});
  rig.start();
  rig.device().inhibit_discards();

  rig.inflate({5, 6});
  rig.device().resume_discards();

  EXPECT_THAT(rig.discarded(), IsEmpty());
  EXPECT_EQ(rig.device().metrics().forgone_bytes, 2 * kPageSize);
  EXPECT_TRUE(balanced(rig.device().metrics()));
}

TEST(InhibitReportsTest, ReportIsAnsweredWithoutADiscard) {
  Rig rig({.device = {.features = Features{Feature::kMustTellHost, Feature::kPageReporting}}});
  rig.start();
  rig.device().inhibit_discards();
  rig.send(2, testing::message_of(Dialect::kScatterGather, {{5, 1}}));
  rig.serve(2);

  rig.device().resume_discards();

  EXPECT_THAT(rig.completed(2), ElementsAre(0u));
  EXPECT_THAT(rig.discarded(), IsEmpty()) << "the guest may use the page again";
}

// ---- written behind ----------------------------------------------------------------------------

class WriteBehindTest : public ::testing::Test {
 protected:
  BalloonOptions options(std::uint64_t max_owed_bytes = 1 << 20) {
    return {.write_behind = true, .max_owed_bytes = max_owed_bytes, .discards_owed = [this] {
              ++told_;
            }};
  }

  int told_ = 0;
};

TEST_F(WriteBehindTest, InflateIsAnsweredBeforeItIsDiscarded) {
  Rig rig({.device = options()});

  rig.start().inflate({5, 6});

  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_THAT(rig.discarded(), IsEmpty());
  EXPECT_EQ(told_, 1);
}

TEST_F(WriteBehindTest, WorkerDiscardsInMergedRuns) {
  Rig rig({.device = options()});
  rig.start().inflate({5, 7});
  rig.inflate({6, 8});

  EXPECT_TRUE(rig.device().run_owed_discards());
  EXPECT_FALSE(rig.device().run_owed_discards());

  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{5, 4}));
  EXPECT_EQ(rig.device().metrics().freed_bytes, 4 * kPageSize);
  EXPECT_TRUE(balanced(rig.device().metrics()));
}

TEST_F(WriteBehindTest, WorkerIsToldOnceUntilItHasNothingToDo) {
  Rig rig({.device = options()});
  rig.start().inflate({5});
  rig.inflate({6});
  EXPECT_EQ(told_, 1);

  rig.device().drain();
  rig.inflate({7});

  EXPECT_EQ(told_, 2);
}

TEST_F(WriteBehindTest, BAL_D_05_DeflatedPageCostsNothing) {
  Rig rig({.device = options()});
  rig.start().inflate({5, 6});
  rig.deflate({5, 6});

  EXPECT_TRUE(rig.device().drain());

  EXPECT_THAT(rig.discarded(), IsEmpty());
  EXPECT_EQ(rig.device().metrics().discard_calls, 0u);
  EXPECT_EQ(rig.device().metrics().cancelled_bytes, 2 * kPageSize);
}

TEST_F(WriteBehindTest, MoreThanMayBeOwedIsDiscardedBeforeTheAnswer) {
  Rig rig({.device = options(2 * kPageSize)});

  rig.start().inflate({5, 6, 7});

  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{5, 3}));
  EXPECT_EQ(rig.device().metrics().owed_bytes, 0u);
}

TEST_F(WriteBehindTest, BAL_D_05_DriverWithoutMustTellHostIsNotWrittenBehind) {
  Rig rig({.device = options(), .accepted = everything_but(Feature::kMustTellHost)});

  rig.start().inflate({5});

  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{5, 1}));
}

TEST_F(WriteBehindTest, RefusedPagesStayOwedAndAreDrainedLater) {
  Rig rig({.device = options()});
  rig.recorded().fail_at(rig.host(6), EINVAL);
  rig.start().inflate({5, 6});
  EXPECT_FALSE(rig.device().drain());
  EXPECT_EQ(rig.device().metrics().owed_bytes, 2 * kPageSize) << "the run was refused as a whole";

  rig.recorded().heal();

  EXPECT_TRUE(rig.device().drain());
  EXPECT_EQ(rig.device().metrics().freed_bytes, 2 * kPageSize);
  EXPECT_TRUE(balanced(rig.device().metrics()));
}

// The driver may use the pages of a message that has no answer.
TEST_F(WriteBehindTest, ResetQueueForgoesWhatAnUnansweredMessageHasBrought) {
  BalloonOptions cut = options();
  cut.features = cut.features.with(Feature::kRingReset);
  cut.budget.pages = 2;
  Rig rig({.device = cut});
  rig.start().send(kInflateQueue, testing::pfn_message({5, 6, 7}));
  rig.device().process(kInflateQueue);
  ASSERT_EQ(rig.device().metrics().owed_bytes, 2 * kPageSize);

  rig.reset_queue(kInflateQueue);
  rig.device().drain();

  EXPECT_THAT(rig.discarded(), IsEmpty());
  EXPECT_EQ(rig.device().metrics().forgone_bytes, 2 * kPageSize);
}

TEST_F(WriteBehindTest, ResetQueueLeavesWhatWasAcknowledgedOwed) {
  BalloonOptions resettable = options();
  resettable.features = resettable.features.with(Feature::kRingReset);
  Rig rig({.device = resettable});
  rig.start().inflate({5, 6});

  rig.reset_queue(kInflateQueue);
  rig.device().drain();

  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{5, 2}));
}

TEST_F(WriteBehindTest, PageNamedAgainAndRefusedIsOwedOnce) {
  Rig rig({.device = options()});
  rig.start().inflate({5});
  rig.recorded().fail_at(rig.host(5), EINVAL);
  rig.inflate({5});

  rig.device().drain();

  EXPECT_EQ(rig.device().metrics().owed_bytes, kPageSize);
  EXPECT_EQ(rig.device().metrics().freed_bytes, 0u);
  EXPECT_TRUE(balanced(rig.device().metrics()));
}

TEST_F(WriteBehindTest, ReportsNeverWait) {
  BalloonOptions reporting = options();
  reporting.features = reporting.features.with(Feature::kPageReporting);
  Rig rig({.device = reporting});
  rig.start().send(2, testing::message_of(Dialect::kScatterGather, {{5, 1}}));

  rig.serve(2);

  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{5, 1}));
}

// A discard that the synchronous device could not do is made up for as well.
TEST(DrainTest, PagesThatTheKernelRefusedAreTriedAgain) {
  Rig rig;
  rig.recorded().fail_at(rig.host(5), EINVAL);
  rig.start().inflate({5});
  rig.recorded().heal();

  EXPECT_TRUE(rig.device().drain());

  EXPECT_EQ(rig.device().metrics().freed_bytes, kPageSize);
}

}  // namespace
}  // namespace vballoon
