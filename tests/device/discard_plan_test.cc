// SPDX-License-Identifier: MIT
#include "device/discard_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "base/page_ranges.h"
#include "device/device_fixture.h"
#include "device/plan_fixture.h"
#include "device/two_mib_pages.h"
#include "memory/residency.h"

namespace vballoon {
namespace {

using testing::borrow_memory;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kHigh;
using testing::kHole;
using testing::kPagesPerHugePage;
using testing::kPastEnd;
using testing::kTwoMib;
using testing::PlanFixture;

// Regions of 4 KiB pages with a hole between them.
class DiscardPlanTest : public PlanFixture {
 protected:
  DiscardPlanTest() : PlanFixture(testing::memory_with_hole()) {}
};

TEST_F(DiscardPlanTest, PagesInsideARegionBecomeOneRunEach) {
  const auto outcome = inflate({{5, 3}, {9, 1}});

  EXPECT_EQ(outcome.booked.pages, 4u);
  EXPECT_EQ(outcome.outside_pages, 0u);
  EXPECT_THAT(page_runs(), ElementsAre(PageRange{5, 3}, PageRange{9, 1}));
  EXPECT_THAT(huge_runs(), IsEmpty());
}

TEST_F(DiscardPlanTest, RangeAcrossTheHoleIsCutAndThePagesInTheHoleAreOutside) {
  const auto outcome = inflate({{kHole - 2, kHigh - kHole + 5}});

  EXPECT_EQ(outcome.booked.pages, 5u);
  EXPECT_EQ(outcome.outside_pages, kHigh - kHole);
  EXPECT_THAT(page_runs(), ElementsAre(PageRange{kHole - 2, 2}, PageRange{kHigh, 3}));
}

TEST_F(DiscardPlanTest, RangeWithinTheHoleBecomesNoRun) {
  const auto outcome = inflate({{kHole, 1}, {kHigh - 1, 1}});

  EXPECT_EQ(outcome.booked.pages, 0u);
  EXPECT_EQ(outcome.outside_pages, 2u);
  EXPECT_THAT(page_runs(), IsEmpty());
}

TEST_F(DiscardPlanTest, RangeOverTheEndOfMemoryIsClipped) {
  const auto outcome = inflate({{kPastEnd - 1, 1000}});

  EXPECT_EQ(outcome.outside_pages, 999u);
  EXPECT_THAT(page_runs(), ElementsAre(PageRange{kPastEnd - 1, 1}));
}

TEST_F(DiscardPlanTest, HugestRangeOfAllIsClippedToGuestMemory) {
  const auto outcome = inflate({{0, std::uint64_t{1} << 53}});

  EXPECT_EQ(outcome.booked.pages, memory_->page_count());
  EXPECT_EQ(outcome.outside_pages, (std::uint64_t{1} << 53) - memory_->page_count());
  EXPECT_THAT(page_runs(), ElementsAre(PageRange{0, kHole}, PageRange{kHigh, 0x400}));
}

TEST(DiscardPlanRoomTest, BatchOfAsManyRangesAsThereIsRoomForMayCrossAllRegions) {
  const auto memory = borrow_memory({{0, kTwoMib, kPageSize},
                                     {2 * kTwoMib, kTwoMib, kPageSize},
                                     {4 * kTwoMib, kTwoMib, kPageSize}});
  Ledger ledger(memory->page_count());
  DiscardPlan plan(*memory, ledger, 2);
  const std::vector<PageRange> batch{{0, 1}, {2, 6 * kPagesPerHugePage}};

  plan.inflate(batch, true);

  EXPECT_EQ(plan.page_runs().size(), 4u);
}

TEST_F(DiscardPlanTest, PagesOfDifferentRegionsAreBookedApart) {
  inflate({{kHole - 1, 1}});

  EXPECT_EQ(inflate({{kHigh, 1}}).booked.unchanged, 0u);
  EXPECT_EQ(inflate({{kHole - 1, 1}}).booked.unchanged, 1u);
}

TEST_F(DiscardPlanTest, DeflateBooksItsPagesOut) {
  inflate({{5, 3}});

  const auto outcome = deflate({{6, 4}, {kHole, 1}});

  EXPECT_EQ(outcome.booked.pages, 4u);
  EXPECT_EQ(outcome.booked.unchanged, 2u);
  EXPECT_EQ(outcome.outside_pages, 1u);
  EXPECT_EQ(ledger_.ballooned_pages(), 1u);
}

TEST_F(DiscardPlanTest, TranslationHasTheRunsOfThePagesInGuestMemory) {
  const PageRanges batch{{6, 4}, {kHole, 1}};

  plan_.translate(batch);

  EXPECT_THAT(page_runs(), ElementsAre(PageRange{6, 4}));
}

TEST_F(DiscardPlanTest, RefusedPagesAreOwedWhereThatIsAllowed) {
  inflate({{5, 3}});

  const auto settled = settle_pages(2, {refused({6, 1})}, true);

  EXPECT_EQ(settled.freed_pages, 2u);
  EXPECT_EQ(settled.forgone_pages, 0u);
  EXPECT_EQ(ledger_.owed_pages(), 1u);
}

TEST_F(DiscardPlanTest, RefusedPagesAreForgoneWhereNothingMayBeOwed) {
  inflate({{5, 3}}, false);

  const auto settled = settle_pages(2, {refused({6, 1})}, false);

  EXPECT_EQ(settled.forgone_pages, 1u);
  EXPECT_EQ(ledger_.owed_pages(), 0u);
}

TEST_F(DiscardPlanTest, InflatingAnOwedPageAgainCancelsItAndTriesAgain) {
  inflate({{5, 3}});
  settle_pages(0, {refused({5, 3})}, true);

  const auto outcome = inflate({{6, 1}});

  EXPECT_EQ(outcome.booked.cancelled, 1u);
  EXPECT_EQ(ledger_.owed_pages(), 2u);
  EXPECT_THAT(page_runs(), ElementsAre(PageRange{6, 1}));
}

// Two regions of 2 MiB pages, which begin at guest page 0 and 0x800, and one of 4 KiB pages.
class HugePagePlanTest : public PlanFixture {
 protected:
  static constexpr Pfn kSecond = 0x800;
  static constexpr Pfn kSmall = 0x1000;
  static constexpr std::uint64_t kN = kPagesPerHugePage;

  HugePagePlanTest()
      : PlanFixture(borrow_memory({{0, 3 * kTwoMib},
                                   {kSecond << kPageShift, 2 * kTwoMib},
                                   {kSmall << kPageShift, kTwoMib, kPageSize}})) {}
};

TEST_F(HugePagePlanTest, WholeHugePageGoesAtOnce) {
  inflate({{kN, kN}});

  EXPECT_THAT(huge_runs(), ElementsAre(PageRange{kN, kN}));
  EXPECT_THAT(page_runs(), IsEmpty());
  EXPECT_EQ(settle_huge({}).freed_pages, kN);
  EXPECT_EQ(ledger_.owed_pages(), 0u);
}

TEST_F(HugePagePlanTest, WholeHugePagesOfOneRangeAreOneRun) {
  inflate({{0, 3 * kN}});

  EXPECT_THAT(huge_runs(), ElementsAre(PageRange{0, 3 * kN}));
}

TEST_F(HugePagePlanTest, PartOfAHugePageIsOwed) {
  const auto outcome = inflate({{kN + 1, kN - 1}});

  EXPECT_EQ(outcome.forgone_pages, 0u);
  EXPECT_THAT(huge_runs(), IsEmpty());
  EXPECT_EQ(ledger_.owed_pages(), kN - 1);
}

TEST_F(HugePagePlanTest, BAL_D_05_LaterMessageThatCompletesAHugePagePaysForAllOfIt) {
  inflate({{kN + 1, kN - 1}});

  inflate({{kN, 1}});

  EXPECT_THAT(huge_runs(), ElementsAre(PageRange{kN, kN}));
  EXPECT_EQ(settle_huge({}).freed_pages, kN);
  EXPECT_EQ(ledger_.owed_pages(), 0u);
}

TEST_F(HugePagePlanTest, PiecesOfOneBatchThatCompleteAHugePageTogetherAreOneRun) {
  inflate({{100, 1}});

  inflate({{0, 100}, {101, kN - 101}});

  EXPECT_THAT(huge_runs(), ElementsAre(PageRange{0, kN}));
  EXPECT_EQ(settle_huge({}).freed_pages, kN);
}

TEST_F(HugePagePlanTest, RaggedEndsOfALongRangeAreOwedAndItsMiddleGoes) {
  inflate({{10, 2 * kN}});

  EXPECT_THAT(huge_runs(), ElementsAre(PageRange{kN, kN}));
  EXPECT_EQ(settle_huge({}).freed_pages, kN);
  EXPECT_EQ(ledger_.owed_pages(), kN);
}

TEST_F(HugePagePlanTest, RangeThatCompletesBothItsEndsIsOneRun) {
  inflate({{0, 10}, {2 * kN + 10, kN - 10}});

  inflate({{10, 2 * kN}});

  EXPECT_THAT(huge_runs(), ElementsAre(PageRange{0, 3 * kN}));
  EXPECT_EQ(settle_huge({}).freed_pages, 3 * kN);
}

TEST_F(HugePagePlanTest, HugePagesOfRegionsThatMeetInTheTableAreRunsOfTheirOwn) {
  inflate({{2 * kN, kN}, {kSecond, kN}});

  EXPECT_THAT(huge_runs(), ElementsAre(PageRange{2 * kN, kN}, PageRange{kSecond, kN}));
}

TEST_F(HugePagePlanTest, RegionsOfSmallPagesBesideHugeOnesGoAtOnce) {
  inflate({{kSecond, 1}, {kSmall + 7, 2}});

  EXPECT_THAT(page_runs(), ElementsAre(PageRange{kSmall + 7, 2}));
  EXPECT_EQ(ledger_.owed_pages(), 1u);
}

TEST_F(HugePagePlanTest, DeflatedPartOfAHugePageIsCancelledAndTheRestStaysOwed) {
  inflate({{0, kN - 1}});

  EXPECT_EQ(deflate({{0, 10}}).booked.cancelled, 10u);
  EXPECT_EQ(ledger_.owed_pages(), kN - 11);
}

TEST_F(HugePagePlanTest, HugePageThatLostAPageIsNotCompletedByTheLastOne) {
  inflate({{0, kN - 1}});
  deflate({{0, 1}});

  inflate({{kN - 1, 1}});

  EXPECT_THAT(huge_runs(), IsEmpty());
}

TEST_F(HugePagePlanTest, FreedHugePageOfWhichAPageLeftAndCameBackGoesAgainForThatPage) {
  inflate({{0, kN}});
  settle_huge({});
  deflate({{3, 1}});

  inflate({{3, 1}});

  EXPECT_THAT(huge_runs(), ElementsAre(PageRange{0, kN}));
  EXPECT_EQ(settle_huge({}).freed_pages, 1u) << "the others were freed before";
}

TEST_F(HugePagePlanTest, RefusedHugePageStaysOwed) {
  inflate({{0, 3 * kN}});

  const auto settled = settle_huge({refused({kN, kN})});

  EXPECT_EQ(settled.freed_pages, 2 * kN);
  EXPECT_EQ(settled.forgone_pages, 0u);
  EXPECT_EQ(ledger_.owed_pages(), kN);
}

TEST_F(HugePagePlanTest, RefusedHugePagesInAnyOrderAndOfSeveralRunsStayOwed) {
  inflate({{0, 3 * kN}, {kSecond, 2 * kN}});

  const auto settled =
      settle_huge({refused({kSecond + kN, kN}), refused({2 * kN, kN}), refused({0, kN})});

  EXPECT_EQ(settled.freed_pages, 2 * kN);
  EXPECT_EQ(ledger_.owed_pages(), 3 * kN);
}

TEST_F(HugePagePlanTest, RefusedHugePageIsTriedAgainWhenOneOfItsPagesIsInflatedAgain) {
  inflate({{0, kN}});
  settle_huge({refused({0, kN})});

  inflate({{5, 1}});

  EXPECT_THAT(huge_runs(), ElementsAre(PageRange{0, kN}));
  EXPECT_EQ(settle_huge({}).freed_pages, kN);
}

TEST_F(HugePagePlanTest, PartOfAHugePageIsForgoneWhereNothingMayBeOwed) {
  const auto outcome = inflate({{10, kN}}, false);

  EXPECT_EQ(outcome.forgone_pages, kN);
  EXPECT_THAT(huge_runs(), IsEmpty());
  EXPECT_EQ(ledger_.owed_pages(), 0u);
}

TEST_F(HugePagePlanTest, LaterMessageCompletesNoHugePageWhereNothingMayBeOwed) {
  inflate({{0, kN - 1}}, false);

  const auto outcome = inflate({{kN - 1, 1}}, false);

  EXPECT_THAT(huge_runs(), IsEmpty());
  EXPECT_EQ(outcome.forgone_pages, 1u);
}

TEST_F(HugePagePlanTest, RefusedHugePageIsForgoneWhereNothingMayBeOwed) {
  inflate({{0, 2 * kN}}, false);

  const auto settled = settle_huge({refused({0, kN})}, false);

  EXPECT_EQ(settled.freed_pages, kN);
  EXPECT_EQ(settled.forgone_pages, kN);
  EXPECT_EQ(ledger_.owed_pages(), 0u);
}

// Found by a fuzz target that spent its time on clearing memory of devices that it made.
TEST(DiscardPlanRoomTest, RoomForABatchIsNotTouchedBeforeItIsUsed) {
  const auto memory = testing::memory_with_hole();
  Ledger ledger(memory->page_count());
  constexpr std::size_t kRanges = std::size_t{4} << 20;  // too many for memory that was used before

  const DiscardPlan plan(*memory, ledger, kRanges);

  void* room = const_cast<HostRun*>(plan.page_runs().data());
  std::size_t bytes = kRanges * sizeof(HostRun);
  std::align(kPageSize, bytes - kPageSize, room, bytes);
  EXPECT_LT(testing::resident_bytes(static_cast<std::byte*>(room), bytes - kPageSize), bytes / 10);
}

}  // namespace
}  // namespace vballoon
