// SPDX-License-Identifier: MIT
// When which free blocks are reported (src/guest/page_reporting.cc).
#include "vballoon/sim/page_reporting.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "base/page_ranges.h"
#include "vballoon/page_range.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::sim {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using State = PageReporting::State;

constexpr std::uint64_t kLargest = std::uint64_t{1} << kMaxOrder;
constexpr ReportingWait kWaitsForFreedBlock{ReportingWait::Kind::kFreedBlock, {}};
constexpr ReportingWait kWaitsForAnswer{ReportingWait::Kind::kAnswer, {}};
constexpr ReportingWait waits_until(nanoseconds time) { return {ReportingWait::Kind::kTime, time}; }

// A guest of that many blocks of the largest order, and what it reports.
struct Rig {
  explicit Rig(std::uint64_t blocks, const PageReportingOptions& options = {})
      : Rig(PageRanges{{0, blocks * kLargest}}, options) {}
  explicit Rig(const PageRanges& zones, const PageReportingOptions& options = {})
      : allocator(zones), reporting(allocator, options) {
    (void)reporting.step(seconds(0));
  }

  // Answers every batch of the pass that begins now; returns them.
  std::vector<std::vector<Block>> pass(nanoseconds now) {
    std::vector<std::vector<Block>> batches;
    while (reporting.step(now) == kWaitsForAnswer) {
      batches.emplace_back(reporting.batch().begin(), reporting.batch().end());
      reporting.answered(true);
    }
    return batches;
  }
  // Takes blocks of the largest order until that many are left free.
  void take_down_to(std::uint64_t blocks) {
    while (allocator.free_pages() > blocks * kLargest)
      taken.push_back(*allocator.allocate(kMaxOrder));
  }
  void free_last() {
    allocator.free(taken.back());
    taken.pop_back();
  }

  PageAllocator allocator;
  PageReporting reporting;
  std::vector<Block> taken;
};

std::vector<std::size_t> sizes(const std::vector<std::vector<Block>>& batches) {
  std::vector<std::size_t> sizes;
  for (const auto& batch : batches) sizes.push_back(batch.size());
  return sizes;
}

TEST(PageReportingTest, FirstPassBeginsTwoSecondsAfterTheFirstStep) {
  PageAllocator allocator(PageRanges{{0, 40 * kLargest}});
  PageReporting reporting(allocator);

  EXPECT_EQ(reporting.step(seconds(7)), waits_until(seconds(9)));
  EXPECT_EQ(reporting.step(seconds(9) - nanoseconds(1)), waits_until(seconds(9)));
  EXPECT_EQ(reporting.state(), State::kRequested);
  EXPECT_EQ(reporting.step(seconds(9)), kWaitsForAnswer);
  EXPECT_EQ(reporting.state(), State::kActive);
}

TEST(PageReportingTest, NothingIsOutBeforeThePass) {
  Rig rig(40);

  EXPECT_THAT(rig.reporting.batch(), IsEmpty());
}

TEST(PageReportingTest, BatchIsFilledFromItsEnd) {
  Rig rig(40);  // the head of the list is the highest block

  (void)rig.reporting.step(seconds(2));

  EXPECT_THAT(rig.reporting.batch(), SizeIs(32));
  EXPECT_EQ(rig.reporting.batch().front(), (Block{8 * kLargest, kMaxOrder}));
  EXPECT_EQ(rig.reporting.batch().back(), (Block{39 * kLargest, kMaxOrder}));
}

TEST(PageReportingTest, BlocksThatAreOutAreNotFree) {
  Rig rig(40);

  (void)rig.reporting.step(seconds(2));

  EXPECT_EQ(rig.allocator.free_pages(), 8 * kLargest);
}

TEST(PageReportingTest, BatchStaysOutUntilItIsAnswered) {
  Rig rig(40);
  (void)rig.reporting.step(seconds(2));

  EXPECT_EQ(rig.reporting.step(seconds(3)), kWaitsForAnswer);

  EXPECT_THAT(rig.reporting.batch(), SizeIs(32));
}

TEST(PageReportingTest, RestOfAZoneIsSentAfterTheFullBatch) {
  Rig rig(40);

  EXPECT_THAT(sizes(rig.pass(seconds(2))), ElementsAre(32, 8));
}

TEST(PageReportingTest, FullBatchAtTheEndOfTheZoneIsSentOnce) {
  Rig rig(64);

  EXPECT_THAT(sizes(rig.pass(seconds(2))), ElementsAre(32, 32));

  EXPECT_EQ(rig.reporting.state(), State::kIdle);
}

TEST(PageReportingTest, AnsweredBlocksAreFreeAgain) {
  Rig rig(40);

  (void)rig.pass(seconds(2));

  EXPECT_EQ(rig.allocator.free_pages(), 40 * kLargest);
}

TEST(PageReportingTest, ReportedBlocksAreNotReportedAgain) {
  Rig rig(41);
  rig.take_down_to(40);
  (void)rig.pass(seconds(2));

  rig.free_last();
  (void)rig.reporting.step(seconds(10));

  EXPECT_THAT(rig.pass(seconds(12)), ElementsAre(ElementsAre(Block{kLargest * 40, kMaxOrder})));
}

TEST(PageReportingTest, IdleCoreWaitsForAFreedBlock) {
  Rig rig(40);
  (void)rig.pass(seconds(2));

  EXPECT_EQ(rig.reporting.step(seconds(100)), kWaitsForFreedBlock);
  EXPECT_EQ(rig.reporting.state(), State::kIdle);
}

TEST(PageReportingTest, FreedBlockRequestsAPassInTwoSeconds) {
  Rig rig(41);
  rig.take_down_to(40);
  (void)rig.pass(seconds(2));

  rig.free_last();

  EXPECT_EQ(rig.reporting.step(seconds(50)), waits_until(seconds(52)));
}

TEST(PageReportingTest, MoreFreedBlocksDoNotPostponeThePass) {
  Rig rig(42);
  rig.take_down_to(40);
  (void)rig.pass(seconds(2));
  rig.free_last();
  (void)rig.reporting.step(seconds(50));

  rig.free_last();

  EXPECT_EQ(rig.reporting.step(seconds(51)), waits_until(seconds(52)));
}

TEST(PageReportingTest, FreedSmallBlockRequestsNothing) {
  Rig rig(40);
  const Block block = *rig.allocator.allocate(9);
  (void)rig.pass(seconds(2));

  rig.allocator.free({block.first, 8});

  EXPECT_EQ(rig.reporting.step(seconds(50)), kWaitsForFreedBlock);
}

TEST(PageReportingTest, FreedSmallBlockThatMergesToALargeOneRequestsAPass) {
  Rig rig(40);
  const Block block = *rig.allocator.allocate(9);
  rig.allocator.free({block.first, 8});
  (void)rig.pass(seconds(2));

  rig.allocator.free({block.first + 256, 8});

  EXPECT_EQ(rig.reporting.step(seconds(50)), waits_until(seconds(52)));
}

TEST(PageReportingTest, BlockFreedDuringAPassRequestsAnotherOne) {
  Rig rig(41);
  rig.take_down_to(40);
  (void)rig.reporting.step(seconds(2));
  rig.free_last();

  (void)rig.pass(seconds(3));

  EXPECT_EQ(rig.reporting.state(), State::kRequested);
  EXPECT_EQ(rig.reporting.step(seconds(4)), waits_until(seconds(5)));
}

TEST(PageReportingTest, BudgetOfAListEndsThePassAndRequestsAnother) {
  Rig rig(100);

  EXPECT_THAT(sizes(rig.pass(seconds(2))), ElementsAre(32, 32));

  EXPECT_EQ(rig.reporting.state(), State::kRequested);
  EXPECT_THAT(sizes(rig.pass(seconds(4))), ElementsAre(32, 4));
}

TEST(PageReportingTest, LongListHasALargerBudget) {
  Rig rig(1025);  // ceil(1025 / 512) = 3, and one more

  EXPECT_THAT(sizes(rig.pass(seconds(2))), ElementsAre(32, 32, 32, 32));
}

TEST(PageReportingTest, UnprocessedBlockIsAtTheHeadWhenTheBudgetIsSpent) {
  Rig rig(100);

  (void)rig.pass(seconds(2));

  // 99 to 36 are reported and at the tail.
  EXPECT_EQ(rig.allocator.allocate(kMaxOrder), (Block{35 * kLargest, kMaxOrder}));
}

TEST(PageReportingTest, UnprocessedBlockIsAtTheHeadWhileABatchIsOut) {
  Rig rig(100);

  (void)rig.reporting.step(seconds(2));

  EXPECT_EQ(rig.allocator.allocate(kMaxOrder), (Block{67 * kLargest, kMaxOrder}));
}

TEST(PageReportingTest, SmallestOrderIsReportedFirstAndCarriedOn) {
  Rig rig(40);
  const Block taken = *rig.allocator.allocate(9);
  const Block free_buddy{taken.first + 512, 9};

  (void)rig.reporting.step(seconds(2));

  EXPECT_EQ(rig.reporting.batch()[31], free_buddy);
  EXPECT_EQ(rig.reporting.batch()[30].order, kMaxOrder);
}

TEST(PageReportingTest, SmallerBlocksThanTheMinimumAreNotReported) {
  Rig rig(40, {.min_order = 10});
  (void)rig.allocator.allocate(9);

  EXPECT_THAT(sizes(rig.pass(seconds(2))), ElementsAre(32, 7));
}

TEST(PageReportingTest, OrderZeroCanBeReported) {
  Rig rig(3, {.min_order = 0});
  const Block taken = *rig.allocator.allocate(0);

  (void)rig.reporting.step(seconds(2));

  EXPECT_EQ(rig.reporting.batch().back(), (Block{taken.first + 1, 0}));
}

TEST(PageReportingTest, BlockThatMergedWhileItWasOutIsReportedAsALargerOne) {
  Rig rig(40);
  const Block taken = *rig.allocator.allocate(9);
  (void)rig.reporting.step(seconds(2));
  rig.allocator.free(taken);

  // It is put back last, and so at the very tail of the list that the pass comes to next.
  EXPECT_EQ(rig.pass(seconds(2)).back().front(), (Block{taken.first, kMaxOrder}));
}

TEST(PageReportingTest, BlockThatWasAllocatedAndFreedIsReportedAgain) {
  Rig rig(40);
  (void)rig.pass(seconds(2));

  const Block block = *rig.allocator.allocate(kMaxOrder);
  rig.allocator.free(block);
  (void)rig.reporting.step(seconds(10));

  EXPECT_THAT(rig.pass(seconds(12)), ElementsAre(ElementsAre(block)));
}

TEST(PageReportingTest, FailedReportIsPutBackAndEndsThePass) {
  Rig rig(100);
  (void)rig.reporting.step(seconds(2));

  rig.reporting.answered(false);

  EXPECT_EQ(rig.allocator.free_pages(), 100 * kLargest);
  EXPECT_EQ(rig.reporting.step(seconds(2)), kWaitsForFreedBlock);
}

TEST(PageReportingTest, BlocksOfAFailedReportAreReportedByTheNextPass) {
  Rig rig(41);
  rig.take_down_to(32);
  (void)rig.reporting.step(seconds(2));
  rig.reporting.answered(false);
  (void)rig.reporting.step(seconds(2));

  rig.free_last();
  (void)rig.reporting.step(seconds(10));

  EXPECT_THAT(sizes(rig.pass(seconds(12))), ElementsAre(32, 1));
}

TEST(PageReportingTest, ZoneThatIsShortOfMemoryIsLeftAlone) {
  Rig rig(40);

  rig.take_down_to(16);  // 32 blocks of order 9, and nothing above them

  EXPECT_THAT(rig.pass(seconds(2)), IsEmpty());
  EXPECT_EQ(rig.reporting.state(), State::kIdle);
}

TEST(PageReportingTest, IsolationLeavesTheMinimumOfTheZoneFree) {
  // The minimum is 45 pages: of 128 free ones, blocks of 16 can go while more than 61 are free.
  Rig rig(PageRanges{{0, 512}}, {.min_order = 0});
  std::vector<Block> blocks;
  while (blocks.size() < 32) blocks.push_back(*rig.allocator.allocate(4));
  for (std::size_t i = 0; i < 32; i += 4) rig.allocator.free(blocks[i]);

  (void)rig.reporting.step(seconds(2));

  EXPECT_THAT(rig.reporting.batch(), SizeIs(5));
}

TEST(PageReportingTest, BatchDoesNotCrossZones) {
  Rig rig(PageRanges{{0, 20 * kLargest}, {20 * kLargest, 21 * kLargest}});

  // A block of each zone stays free for the minimum.
  EXPECT_THAT(sizes(rig.pass(seconds(2))), ElementsAre(19, 20));
}

TEST(PageReportingTest, SmallZoneIsLeftOut) {
  Rig rig(PageRanges{{0, 2 * kLargest}, {2 * kLargest, 40 * kLargest}, {42 * kLargest, 1}});

  EXPECT_THAT(sizes(rig.pass(seconds(2))), ElementsAre(32, 8));
}

TEST(PageReportingTest, SmallerRingHasSmallerBatches) {
  Rig rig(40, {.capacity = 8});

  EXPECT_THAT(sizes(rig.pass(seconds(2))), ElementsAre(8, 8));
}

TEST(PageReportingTest, DelayCanBeChanged) {
  Rig rig(40, {.delay = seconds(5)});

  EXPECT_EQ(rig.reporting.step(seconds(4)), waits_until(seconds(5)));
}

TEST(PageReportingTest, IdleGuestIsReportedInAPassForEverySixteenthOfIt) {
  Rig rig(2048);  // 8 GiB
  int passes = 0;
  for (nanoseconds now = seconds(2); rig.reporting.state() != State::kIdle; now += seconds(2)) {
    (void)rig.pass(now);
    ++passes;
  }

  EXPECT_EQ(passes, 13);  // each has a budget of 4 + 1 reports
  EXPECT_EQ(rig.reporting.counters(),
            (ReportingCounters{.passes = 13, .reports = 64, .reported_pages = 2048 * kLargest}));
}

TEST(PageReportingTest, WhatIsOutGoesBackWithTheCore) {
  PageAllocator allocator(PageRanges{{0, 40 * kLargest}});
  std::optional<PageReporting> reporting(std::in_place, allocator);
  (void)reporting->step(seconds(0));
  (void)reporting->step(seconds(2));

  reporting.reset();

  EXPECT_EQ(allocator.free_pages(), 40 * kLargest);
  EXPECT_FALSE(allocator.head_of_free_list(0, kMaxOrder)->reported);
}

}  // namespace
}  // namespace vballoon::sim
