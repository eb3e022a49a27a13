// SPDX-License-Identifier: MIT
// What free page reporting does to the free lists (src/guest/page_allocator.cc, buddy_zone.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "base/page_ranges.h"
#include "vballoon/page_range.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::sim {
namespace {

using ::testing::ElementsAre;
using ::testing::Optional;

constexpr std::uint64_t kLargest = std::uint64_t{1} << kMaxOrder;

std::vector<Block> take_all(PageAllocator& allocator, unsigned order) {
  std::vector<Block> blocks;
  while (const std::optional<Block> block = allocator.allocate(order)) blocks.push_back(*block);
  return blocks;
}

// Marks the head of a free list, which goes to the tail.
void report_head(PageAllocator& allocator, unsigned order) {
  allocator.put_back(allocator.isolate_free_block(0, order), true);
}

// Four blocks of the largest order: 0, 1024, 2048 and, at the head, 3072.
class FreshGuestTest : public ::testing::Test {
 protected:
  PageAllocator guest_{PageRanges{{0, 4 * kLargest}}};
};

// 16 pages, all of them taken.
class TakenZoneTest : public ::testing::Test {
 protected:
  TakenZoneTest() { (void)take_all(guest_, 4); }

  PageAllocator guest_{PageRanges{{0, 16}}};
};

TEST_F(FreshGuestTest, HeadOfAListIsWhatAnAllocationTakes) {
  EXPECT_THAT(guest_.head_of_free_list(0, kMaxOrder),
              Optional(FreeBlock{{3 * kLargest, kMaxOrder}, false}));
  EXPECT_THAT(guest_.allocate(kMaxOrder), Optional(Block{3 * kLargest, kMaxOrder}));
}

TEST_F(FreshGuestTest, EmptyListHasNoHead) {
  EXPECT_EQ(guest_.head_of_free_list(0, 9), std::nullopt);
}

TEST_F(FreshGuestTest, RotatedHeadIsAllocatedLast) {
  guest_.rotate_free_list(0, kMaxOrder);

  EXPECT_THAT(take_all(guest_, kMaxOrder),
              ElementsAre(Block{2 * kLargest, kMaxOrder}, Block{kLargest, kMaxOrder},
                          Block{0, kMaxOrder}, Block{3 * kLargest, kMaxOrder}));
}

TEST_F(FreshGuestTest, IsolatedBlockIsNotFree) {
  EXPECT_EQ(guest_.isolate_free_block(0, kMaxOrder), (Block{3 * kLargest, kMaxOrder}));

  EXPECT_FALSE(guest_.is_free(3 * kLargest));
  EXPECT_EQ(guest_.free_pages(), 3 * kLargest);
  EXPECT_EQ(guest_.free_pages(0), 3 * kLargest);
}

TEST_F(FreshGuestTest, BlockPutBackIsFreeAndAtTheTail) {
  guest_.put_back(guest_.isolate_free_block(0, kMaxOrder), false);

  EXPECT_EQ(guest_.free_pages(), 4 * kLargest);
  EXPECT_EQ(take_all(guest_, kMaxOrder).back(), (Block{3 * kLargest, kMaxOrder}));
}

TEST_F(FreshGuestTest, BlockOfAFailedReportHasNoMark) {
  EXPECT_FALSE(guest_.put_back(guest_.isolate_free_block(0, kMaxOrder), false));

  guest_.rotate_free_list(0, kMaxOrder);
  guest_.rotate_free_list(0, kMaxOrder);
  guest_.rotate_free_list(0, kMaxOrder);
  EXPECT_THAT(guest_.head_of_free_list(0, kMaxOrder),
              Optional(FreeBlock{{3 * kLargest, kMaxOrder}, false}));
}

TEST_F(FreshGuestTest, ReportedBlockKeepsItsMarkWhenTheListIsRotated) {
  report_head(guest_, kMaxOrder);

  guest_.rotate_free_list(0, kMaxOrder);
  guest_.rotate_free_list(0, kMaxOrder);
  guest_.rotate_free_list(0, kMaxOrder);
  EXPECT_THAT(guest_.head_of_free_list(0, kMaxOrder),
              Optional(FreeBlock{{3 * kLargest, kMaxOrder}, true}));
}

TEST_F(TakenZoneTest, ReportedBlockIsFree) {
  guest_.free({4, 1});

  EXPECT_TRUE(guest_.put_back(guest_.isolate_free_block(0, 1), true));

  EXPECT_TRUE(guest_.is_free(5));
  EXPECT_THAT(guest_.head_of_free_list(0, 1), Optional(FreeBlock{{4, 1}, true}));
}

TEST_F(TakenZoneTest, AllocationTakesTheMark) {
  guest_.free({4, 1});
  report_head(guest_, 1);

  (void)guest_.allocate(1);
  guest_.free({4, 1});

  EXPECT_THAT(guest_.head_of_free_list(0, 1), Optional(FreeBlock{{4, 1}, false}));
}

TEST_F(TakenZoneTest, RestOfASplitBlockHasNoMark) {
  guest_.free({4, 2});
  report_head(guest_, 2);

  (void)guest_.allocate(1);

  EXPECT_THAT(guest_.head_of_free_list(0, 1), Optional(FreeBlock{{6, 1}, false}));
}

TEST_F(TakenZoneTest, ReportedBlockLosesTheMarkWhenItsBuddyIsFreed) {
  guest_.free({4, 1});
  report_head(guest_, 1);

  guest_.free({6, 1});

  EXPECT_THAT(guest_.head_of_free_list(0, 2), Optional(FreeBlock{{4, 2}, false}));
}

TEST_F(TakenZoneTest, BlockWhoseBuddyWasFreedMeanwhileMergesAndHasNoMark) {
  guest_.free({4, 1});
  const Block isolated = guest_.isolate_free_block(0, 1);
  guest_.free({6, 1});

  EXPECT_FALSE(guest_.put_back(isolated, true));

  EXPECT_THAT(guest_.head_of_free_list(0, 2), Optional(FreeBlock{{4, 2}, false}));
}

TEST_F(TakenZoneTest, BlockDoesNotMergeWithAnIsolatedBuddy) {
  guest_.free({4, 1});
  (void)guest_.isolate_free_block(0, 1);

  guest_.free({6, 1});

  EXPECT_EQ(guest_.free_blocks(0, 1), 1u);
  EXPECT_EQ(guest_.free_blocks(0, 2), 0u);
}

TEST_F(TakenZoneTest, BlockThatMergedAwayAndCameBackGoesToTheTail) {
  guest_.free({12, 0});
  guest_.free({8, 0});
  guest_.rotate_free_list(0, 0);
  guest_.free({4, 0});
  guest_.free({5, 0});  // 4 and 5 become one block
  (void)guest_.allocate(1);
  guest_.free({4, 0});

  guest_.rotate_free_list(0, 0);

  EXPECT_THAT(take_all(guest_, 0), ElementsAre(Block{12, 0}, Block{8, 0}, Block{4, 0}));
}

TEST_F(FreshGuestTest, OrdersOfFreedBlocksAreThoseTheyMergedTo) {
  const std::vector<Block> all = take_all(guest_, 9);
  (void)guest_.take_freed_orders();

  guest_.free(all[0]);
  const std::uint32_t alone = guest_.take_freed_orders();
  guest_.free(all[1]);
  const std::uint32_t with_its_buddy = guest_.take_freed_orders();

  EXPECT_EQ(alone, 1u << 9);
  EXPECT_EQ(with_its_buddy, 1u << 10);
}

TEST_F(FreshGuestTest, BlockPutBackDoesNotCountAsFreed) {
  (void)guest_.take_freed_orders();

  report_head(guest_, kMaxOrder);

  EXPECT_EQ(guest_.take_freed_orders(), 0u);
}

TEST(FreeListTest, ZonesCountTheirOwnPages) {
  PageAllocator guest(PageRanges{{0, 8}, {16, 4}});

  (void)guest.allocate(1);

  EXPECT_EQ(guest.free_pages(0), 8u);
  EXPECT_EQ(guest.free_pages(1), 2u);
  EXPECT_EQ(guest.free_blocks(0, 3), 1u);
}

TEST(FreeListTest, ListsOfZonesAreApart) {
  PageAllocator guest(PageRanges{{0, 8}, {16, 8}});

  EXPECT_EQ(guest.isolate_free_block(0, 3), (Block{0, 3}));

  EXPECT_EQ(guest.head_of_free_list(0, 3), std::nullopt);
  EXPECT_THAT(guest.head_of_free_list(1, 3), Optional(FreeBlock{{16, 3}, false}));
}

}  // namespace
}  // namespace vballoon::sim
