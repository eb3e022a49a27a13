// SPDX-License-Identifier: MIT
// Buddies, zones and lists (src/guest/page_allocator.cc, src/guest/buddy_zone.cc).
#include "vballoon/sim/page_allocator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <vector>

#include "vballoon/page_range.h"

namespace vballoon::sim {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Optional;

constexpr std::uint64_t kLargest = std::uint64_t{1} << kMaxOrder;

// Keeps the array of zones alive for the constructor's span.
class Guest : public PageAllocator {
 public:
  Guest(std::initializer_list<PageRange> zones)
      : PageAllocator(std::span<const PageRange>(zones.begin(), zones.size())) {}
};

std::vector<Block> take_all(PageAllocator& allocator, unsigned order) {
  std::vector<Block> blocks;
  while (const std::optional<Block> block = allocator.allocate(order)) blocks.push_back(*block);
  return blocks;
}

std::vector<Pfn> take_pages(PageAllocator& allocator, std::size_t count) {
  std::vector<Pfn> pages;
  while (pages.size() < count) pages.push_back(allocator.allocate(0)->first);
  return pages;
}

void free_pages(PageAllocator& allocator, std::initializer_list<Pfn> pages) {
  for (const Pfn pfn : pages) allocator.free({pfn, 0});
}

// Frees two buddies and takes what they merge into, many times.
void merge_and_take(PageAllocator& allocator, Pfn even, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    free_pages(allocator, {even, even + 1});
    (void)allocator.allocate(1);
  }
}

// A guest of 16 pages, all of them taken.
class TakenGuestTest : public ::testing::Test {
 protected:
  TakenGuestTest() { (void)take_all(guest_, 4); }

  Guest guest_{{0, 16}};
};

TEST(PageAllocatorTest, FreshGuestIsFreeInTheLargestBlocks) {
  const Guest guest{{0, 3 * kLargest}};

  EXPECT_EQ(guest.total_pages(), 3 * kLargest);
  EXPECT_EQ(guest.free_pages(), 3 * kLargest);
  EXPECT_THAT(guest.free_blocks_by_order(), ElementsAre(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3));
}

TEST(PageAllocatorTest, RaggedZoneIsFreeInBlocksAsLargeAsAlignmentAllows) {
  const Guest guest{{3, 12}};  // 3, 4 to 7, 8 to 11, 12 to 13, 14

  EXPECT_THAT(guest.free_blocks_by_order(), ElementsAre(2, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0));
}

TEST(PageAllocatorTest, SinglePageZoneGivesItsPageOnce) {
  Guest guest{{77, 1}};

  EXPECT_THAT(take_all(guest, 0), ElementsAre(Block{77, 0}));
}

TEST(PageAllocatorTest, PageOfSinglePageZoneComesBackAsItself) {
  Guest guest{{77, 1}};
  (void)guest.allocate(0);

  guest.free({77, 0});

  EXPECT_THAT(guest.free_blocks_by_order(), ElementsAre(1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
}

TEST(PageAllocatorTest, HighestBlockOfAFreshGuestGoesFirst) {
  Guest guest{{0, 3 * kLargest}};

  EXPECT_THAT(
      take_all(guest, kMaxOrder),
      ElementsAre(Block{2 * kLargest, kMaxOrder}, Block{kLargest, kMaxOrder}, Block{0, kMaxOrder}));
}

TEST(PageAllocatorTest, SinglePagesAscendInsideALargestBlock) {
  Guest guest{{0, 2 * kLargest}};

  EXPECT_THAT(take_pages(guest, 5),
              ElementsAre(kLargest, kLargest + 1, kLargest + 2, kLargest + 3, kLargest + 4));
}

TEST(PageAllocatorTest, SplitUsesTheLowerHalfAndLeavesOneBlockOfEachSmallerOrder) {
  Guest guest{{0, 16}};

  EXPECT_THAT(guest.allocate(1), Optional(Block{0, 1}));

  EXPECT_THAT(guest.free_blocks_by_order(), ElementsAre(0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0));
}

TEST_F(TakenGuestTest, SmallestSufficientBlockGoesFirst) {
  guest_.free({0, 3});
  guest_.free({12, 1});
  guest_.free({15, 0});

  EXPECT_THAT(guest_.allocate(1), Optional(Block{12, 1}));
}

TEST_F(TakenGuestTest, NewestFreeBlockGoesFirst) {
  free_pages(guest_, {4, 12, 8, 0});

  EXPECT_THAT(take_pages(guest_, 4), ElementsAre(0, 8, 12, 4));
}

TEST_F(TakenGuestTest, BlockThatMergedAwayAndCameBackCountsAsNew) {
  free_pages(guest_, {4, 8, 5});  // 4 and 5 become one block
  (void)guest_.allocate(1);       // and leave
  free_pages(guest_, {4});

  EXPECT_THAT(take_all(guest_, 0), ElementsAre(Block{4, 0}, Block{8, 0}));
}

TEST_F(TakenGuestTest, OrderOfFreeBlocksSurvivesEndlessMergingOfOthers) {
  free_pages(guest_, {4, 12, 8});

  merge_and_take(guest_, 0, 5000);

  EXPECT_THAT(take_all(guest_, 0), ElementsAre(Block{8, 0}, Block{12, 0}, Block{4, 0}));
}

TEST_F(TakenGuestTest, BlockThatOftenMergedAwayIsGivenOnce) {
  free_pages(guest_, {4, 12});
  merge_and_take(guest_, 6, 700);
  free_pages(guest_, {6, 8});

  merge_and_take(guest_, 0, 700);

  EXPECT_THAT(take_all(guest_, 0),
              ElementsAre(Block{8, 0}, Block{6, 0}, Block{12, 0}, Block{4, 0}));
}

TEST_F(TakenGuestTest, FreeBuddiesMergeUpToTheWholeZone) {
  free_pages(guest_, {3, 9, 0, 12, 6, 15, 1, 10, 4, 13, 7, 2, 11, 5, 14, 8});

  EXPECT_THAT(guest_.free_blocks_by_order(), ElementsAre(0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0));
}

TEST_F(TakenGuestTest, NeighboursThatAreNoBuddiesStayApart) {
  free_pages(guest_, {1, 2});

  EXPECT_THAT(guest_.free_blocks_by_order(), ElementsAre(2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
}

TEST_F(TakenGuestTest, BlockDoesNotMergeWithAnAllocatedBuddy) {
  guest_.free({4, 2});

  EXPECT_THAT(guest_.free_blocks_by_order(), ElementsAre(0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0));
}

TEST_F(TakenGuestTest, BlockDoesNotMergeWithASmallerFreeBlockInItsBuddy) {
  guest_.free({0, 0});
  guest_.free({4, 2});

  EXPECT_THAT(guest_.free_blocks_by_order(), ElementsAre(1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0));
}

TEST_F(TakenGuestTest, BlockDoesNotMergeWithAListedBuddy) {
  PageList list;
  guest_.push(list, {0, 2});
  guest_.free({4, 2});

  EXPECT_THAT(guest_.free_blocks_by_order(), ElementsAre(0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0));
}

TEST_F(TakenGuestTest, PartsOfABlockAreFreedOneByOne) {
  guest_.free({8, 2});
  guest_.free({14, 1});

  EXPECT_EQ(guest_.free_pages(), 6u);
  EXPECT_THAT(guest_.free_blocks_by_order(), ElementsAre(0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0));
}

TEST(PageAllocatorTest, BlocksOfTheLargestOrderDoNotMerge) {
  Guest guest{{0, 2 * kLargest}};
  (void)take_all(guest, kMaxOrder);

  guest.free({0, kMaxOrder});
  guest.free({kLargest, kMaxOrder});

  EXPECT_THAT(guest.free_blocks_by_order(), ElementsAre(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2));
}

TEST(PageAllocatorTest, BlocksDoNotMergeAcrossZones) {
  Guest guest{{0, 4}, {4, 4}};
  (void)take_all(guest, 2);

  guest.free({0, 2});
  guest.free({4, 2});

  EXPECT_THAT(guest.free_blocks_by_order(), ElementsAre(0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0));
}

TEST(PageAllocatorTest, LastZoneIsEmptiedFirst) {
  Guest guest{{0, 2}, {100, 2}};

  EXPECT_THAT(take_pages(guest, 4), ElementsAre(100, 101, 0, 1));
}

TEST(PageAllocatorTest, LowerZoneServesWhatTheLastOneIsTooSmallFor) {
  Guest guest{{0, 4}, {100, 2}};

  EXPECT_THAT(guest.allocate(2), Optional(Block{0, 2}));
}

TEST(PageAllocatorTest, SmallerBlockInALowerZoneDoesNotSpareTheLastOne) {
  Guest guest{{0, 1}, {1024, 1024}};

  EXPECT_THAT(guest.allocate(0), Optional(Block{1024, 0}));
}

TEST(PageAllocatorTest, ReserveStaysFree) {
  Guest guest{{0, 8}};

  EXPECT_EQ(guest.allocate(2, 5), std::nullopt);
  EXPECT_EQ(guest.free_pages(), 8u);
}

TEST(PageAllocatorTest, PagesAboveTheReserveAreGiven) {
  Guest guest{{0, 8}};

  EXPECT_THAT(guest.allocate(2, 4), Optional(Block{0, 2}));
}

TEST(PageAllocatorTest, ReserveLargerThanMemoryGivesNothing) {
  Guest guest{{0, 8}};

  EXPECT_EQ(guest.allocate(0, UINT64_MAX), std::nullopt);
}

TEST_F(TakenGuestTest, ExhaustedGuestGivesNothing) {
  EXPECT_EQ(guest_.allocate(0), std::nullopt);
  EXPECT_EQ(guest_.free_pages(), 0u);
}

TEST_F(TakenGuestTest, EnoughPagesInTooSmallBlocksGiveNothing) {
  free_pages(guest_, {1, 2, 5, 6});

  EXPECT_EQ(guest_.allocate(1), std::nullopt);
}

TEST(PageAllocatorTest, EveryPageOfAFreeBlockIsFree) {
  const Guest guest{{8, 8}};

  EXPECT_TRUE(guest.is_free(8));
  EXPECT_TRUE(guest.is_free(13));
  EXPECT_TRUE(guest.is_free(15));
}

TEST(PageAllocatorTest, PagesOutsideTheZonesAreNotFree) {
  const Guest guest{{8, 8}, {32, 8}};

  EXPECT_FALSE(guest.is_free(7));
  EXPECT_FALSE(guest.is_free(16));
  EXPECT_FALSE(guest.is_free(40));
  EXPECT_FALSE(guest.is_free(UINT64_MAX));
}

TEST_F(TakenGuestTest, ListedPagesAreNotFree) {
  PageList list;
  guest_.push(list, {0, 2});

  EXPECT_FALSE(guest_.is_free(0));
  EXPECT_FALSE(guest_.is_free(3));
}

TEST_F(TakenGuestTest, ListGivesTheNewestBlockFirst) {
  PageList list;
  guest_.push(list, {3, 0});
  guest_.push(list, {8, 2});
  guest_.push(list, {0, 1});

  EXPECT_THAT(guest_.pop(list), Optional(Block{0, 1}));
  EXPECT_THAT(guest_.pop(list), Optional(Block{8, 2}));
  EXPECT_THAT(guest_.pop(list), Optional(Block{3, 0}));
  EXPECT_EQ(guest_.pop(list), std::nullopt);
}

TEST_F(TakenGuestTest, ListCountsThePagesOfItsBlocks) {
  PageList list;
  guest_.push(list, {3, 0});
  guest_.push(list, {8, 2});

  EXPECT_EQ(list.pages, 5u);
}

TEST_F(TakenGuestTest, EmptiedListTakesBlocksAgain) {
  PageList list;
  guest_.push(list, {3, 0});
  (void)guest_.pop(list);

  guest_.push(list, {5, 0});

  EXPECT_THAT(guest_.first(list), Optional(Block{5, 0}));
  EXPECT_EQ(guest_.next({5, 0}), std::nullopt);
}

TEST_F(TakenGuestTest, AppendedBlocksComeInTheOrderInWhichTheyWereAppended) {
  PageList list;
  guest_.append(list, {3, 0});
  guest_.append(list, {8, 2});
  guest_.append(list, {1, 0});

  EXPECT_THAT(guest_.pop(list), Optional(Block{3, 0}));
  EXPECT_THAT(guest_.pop(list), Optional(Block{8, 2}));
  EXPECT_THAT(guest_.pop(list), Optional(Block{1, 0}));
  EXPECT_EQ(list.pages, 0u);
}

TEST_F(TakenGuestTest, BlockIsAppendedBehindThoseThatWerePushed) {
  PageList list;
  guest_.push(list, {3, 0});
  guest_.push(list, {5, 0});

  guest_.append(list, {8, 2});

  EXPECT_THAT(guest_.next({3, 0}), Optional(Block{8, 2}));
  EXPECT_EQ(list.pages, 6u);
}

TEST_F(TakenGuestTest, BlockIsAppendedToAListThatWasEmptied) {
  PageList list;
  guest_.append(list, {3, 0});
  (void)guest_.pop(list);

  guest_.append(list, {5, 0});

  EXPECT_THAT(guest_.first(list), Optional(Block{5, 0}));
  EXPECT_EQ(guest_.next({5, 0}), std::nullopt);
}

TEST_F(TakenGuestTest, ListIsReadWithoutTakingFromIt) {
  PageList list;
  guest_.push(list, {3, 0});
  guest_.push(list, {8, 2});

  EXPECT_THAT(guest_.first(list), Optional(Block{8, 2}));
  EXPECT_THAT(guest_.next({8, 2}), Optional(Block{3, 0}));
  EXPECT_EQ(guest_.next({3, 0}), std::nullopt);
  EXPECT_EQ(list.pages, 5u);
}

TEST_F(TakenGuestTest, HalfOfAListedBlockIsFreedAndTheRestGoesBack) {
  PageList list;
  guest_.push(list, {8, 3});

  (void)guest_.pop(list);
  guest_.free({8, 2});
  guest_.push(list, {12, 2});

  EXPECT_EQ(list.pages, 4u);
  EXPECT_EQ(guest_.free_pages(), 4u);
}

TEST(PageAllocatorTest, ListCrossesZones) {
  Guest guest{{5, 1}, {2000, 1}, {5000, 1}};
  (void)take_all(guest, 0);
  PageList list;

  guest.push(list, {2000, 0});
  guest.push(list, {5, 0});
  guest.push(list, {5000, 0});

  EXPECT_THAT(guest.pop(list), Optional(Block{5000, 0}));
  EXPECT_THAT(guest.next({5, 0}), Optional(Block{2000, 0}));
  EXPECT_THAT(guest.pop(list), Optional(Block{5, 0}));
  EXPECT_THAT(guest.pop(list), Optional(Block{2000, 0}));
}

TEST(PageAllocatorTest, GuestWithoutZonesHasNothing) {
  Guest guest{};

  EXPECT_EQ(guest.allocate(0), std::nullopt);
  EXPECT_EQ(guest.total_pages(), 0u);
  EXPECT_FALSE(guest.is_free(0));
  EXPECT_THAT(guest.zones(), IsEmpty());
}

}  // namespace
}  // namespace vballoon::sim
