// SPDX-License-Identifier: MIT
// Which memory goes back where there are transparent huge pages (src/device/discard_plan.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/plan_fixture.h"

namespace vballoon {
namespace {

using testing::borrow_memory;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kPagesPerHugePage;
using testing::kTwoMib;

constexpr std::uint64_t kN = kPagesPerHugePage;
constexpr std::uint64_t kAll = 3 * kN;

// Three huge pages, and behind a hole a region that has none.
class TransparentPlanTest : public testing::PlanFixture {
 protected:
  static constexpr Pfn kSmall = 0x1000;

  explicit TransparentPlanTest(HugePagePolicy policy)
      : PlanFixture(borrow_memory({{0, 3 * kTwoMib, kPageSize, kTwoMib},
                                   {kSmall << kPageShift, kTwoMib, kPageSize}}),
                    policy) {}
};

class HealingPlanTest : public TransparentPlanTest {
 protected:
  HealingPlanTest() : TransparentPlanTest(HugePagePolicy::kHeal) {}
};

TEST_F(HealingPlanTest, PartOfAHugePageGoesAtOnce) {
  const auto outcome = inflate({{1, 10}});

  EXPECT_THAT(page_runs(), ElementsAre(PageRange{1, 10}));
  EXPECT_THAT(huge_runs(), IsEmpty());
  EXPECT_EQ(outcome.immediate_pages, 10u);
  EXPECT_EQ(ledger_.owed_pages(), 0u);
}

TEST_F(HealingPlanTest, MessageThatCompletesAHugePageTakesAllOfItOnceMore) {
  inflate({{kN, kN - 1}});

  const auto outcome = inflate({{2 * kN - 1, 1}});

  EXPECT_THAT(page_runs(), IsEmpty());
  EXPECT_THAT(huge_runs(), ElementsAre(PageRange{kN, kN}));
  EXPECT_EQ(outcome.immediate_pages, 0u);
  EXPECT_EQ(settle_huge({}).freed_pages, 1u) << "the others were freed before";
}

TEST_F(HealingPlanTest, PiecesOfOneBatchThatCompleteAHugePageAreOneRun) {
  inflate({{100, 1}});

  inflate({{0, 100}, {101, kN - 101}});

  EXPECT_THAT(page_runs(), IsEmpty());
  EXPECT_THAT(huge_runs(), ElementsAre(PageRange{0, kN}));
  EXPECT_EQ(settle_huge({}).freed_pages, kN - 1);
}

TEST_F(HealingPlanTest, RaggedEndsOfALongRangeGoBesideItsMiddle) {
  const auto outcome = inflate({{10, 2 * kN}});

  EXPECT_THAT(page_runs(), ElementsAre(PageRange{10, kN - 10}, PageRange{2 * kN, 10}));
  EXPECT_THAT(huge_runs(), ElementsAre(PageRange{kN, kN}));
  EXPECT_EQ(outcome.immediate_pages, kN);
}

TEST_F(HealingPlanTest, RangeOverTwoHugePagesOfWhichNoneIsCompleteIsOneRun) {
  inflate({{kN - 10, 20}});

  EXPECT_THAT(page_runs(), ElementsAre(PageRange{kN - 10, 20}));
}

TEST_F(HealingPlanTest, RegionWithoutHugePagesIsAsEver) {
  inflate({{0, kN}, {kSmall, kN}});

  EXPECT_THAT(page_runs(), ElementsAre(PageRange{kSmall, kN}));
  EXPECT_THAT(huge_runs(), ElementsAre(PageRange{0, kN}));
}

TEST_F(HealingPlanTest, HugePageOfWhichAPageLeftIsNotCompletedByAnother) {
  inflate({{0, kN - 1}});
  deflate({{0, 1}});

  inflate({{kN - 1, 1}});

  EXPECT_THAT(page_runs(), ElementsAre(PageRange{kN - 1, 1}));
  EXPECT_THAT(huge_runs(), IsEmpty());
}

TEST_F(HealingPlanTest, PageThatTheKernelKeepsOfAWholeHugePageIsOwed) {
  inflate({{0, kN}});

  const auto settled = settle_huge({refused({5, 1})});

  EXPECT_EQ(settled.freed_pages, kN - 1);
  EXPECT_EQ(ledger_.owed_pages(), 1u);
}

// The pages that came before may be in use again.
TEST_F(HealingPlanTest, BAL_D_05_LaterMessageCompletesNoHugePageWhereNothingMayBeOwed) {
  inflate({{0, kN - 1}}, false);

  const auto outcome = inflate({{kN - 1, 1}}, false);

  EXPECT_THAT(page_runs(), ElementsAre(PageRange{kN - 1, 1}));
  EXPECT_THAT(huge_runs(), IsEmpty());
  EXPECT_EQ(outcome.forgone_pages, 0u);
}

TEST_F(HealingPlanTest, HugePageThatIsNamedAsAWholeGoesAsAWholeWhereNothingMayBeOwed) {
  inflate({{0, kN}}, false);

  EXPECT_THAT(huge_runs(), ElementsAre(PageRange{0, kN}));
}

TEST_F(HealingPlanTest, ReportedPagesGoAtOnce) {
  plan_.report(PageRanges{{10, kN}});

  EXPECT_THAT(page_runs(), ElementsAre(PageRange{10, kN}));
}

class KeepWholePlanTest : public TransparentPlanTest {
 protected:
  KeepWholePlanTest() : TransparentPlanTest(HugePagePolicy::kKeepWhole) {}
};

TEST_F(KeepWholePlanTest, PartOfAHugePageIsOwed) {
  const auto outcome = inflate({{1, 10}, {kSmall, 3}});

  EXPECT_THAT(page_runs(), ElementsAre(PageRange{kSmall, 3}));
  EXPECT_THAT(huge_runs(), IsEmpty());
  EXPECT_EQ(outcome.immediate_pages, 3u);
  EXPECT_EQ(ledger_.owed_pages(), 10u);
}

TEST_F(KeepWholePlanTest, MessageThatCompletesAHugePagePaysForAllOfIt) {
  inflate({{0, kN - 1}});

  inflate({{kN - 1, 1}});

  EXPECT_THAT(huge_runs(), ElementsAre(PageRange{0, kN}));
  EXPECT_EQ(settle_huge({}).freed_pages, kN);
}

TEST_F(KeepWholePlanTest, PartOfAHugePageIsForgoneWhereNothingMayBeOwed) {
  EXPECT_EQ(inflate({{1, 10}}, false).forgone_pages, 10u);
  EXPECT_THAT(page_runs(), IsEmpty());
}

TEST_F(KeepWholePlanTest, OnlyHugePagesThatAreReportedAsAWholeGo) {
  plan_.report(PageRanges{{10, 2 * kN}, {kSmall, 1}});

  EXPECT_THAT(huge_runs(), ElementsAre(PageRange{kN, kN}));
  EXPECT_THAT(page_runs(), ElementsAre(PageRange{kSmall, 1}));
}

class DeflatedHugePagesTest : public TransparentPlanTest {
 protected:
  DeflatedHugePagesTest() : TransparentPlanTest(HugePagePolicy::kSplit) {}
};

TEST_F(DeflatedHugePagesTest, HugePageOfWhichTheLastPageLeavesIsARun) {
  inflate({{kN, 3}});
  plan_.deflate_huge(PageRanges{{kN, 2}});
  EXPECT_THAT(huge_runs(), IsEmpty()) << "a page is in the balloon still";

  plan_.deflate_huge(PageRanges{{kN + 2, 1}});

  EXPECT_THAT(huge_runs(), ElementsAre(PageRange{kN, kN}));
}

TEST_F(DeflatedHugePagesTest, ThoseThatFollowOneAnotherAreOneRun) {
  inflate({{0, kAll}, {kSmall, 1}});

  const auto outcome = plan_.deflate_huge(PageRanges{{0, kAll}, {kSmall, 1}});

  EXPECT_THAT(huge_runs(), ElementsAre(PageRange{0, kAll}));
  EXPECT_EQ(outcome.booked.pages, kAll + 1);
}

TEST_F(DeflatedHugePagesTest, DeflateOfPagesThatWereNotInTheBalloonHasNone) {
  inflate({{0, 1}});

  plan_.deflate_huge(PageRanges{{kN, kN}});

  EXPECT_THAT(huge_runs(), IsEmpty());
}

}  // namespace
}  // namespace vballoon
