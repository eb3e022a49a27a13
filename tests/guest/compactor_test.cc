// SPDX-License-Identifier: MIT
// Compaction (src/guest/compactor.cc).
#include "vballoon/sim/compactor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>
#include <vector>

#include "base/page_ranges.h"
#include "guest/movable_pages.h"

namespace vballoon::sim {
namespace {

using ::testing::IsEmpty;
using ::vballoon::testing::MovablePages;

class CompactorTest : public ::testing::Test {
 protected:
  // All pages are taken; those for which `movable` says so belong to the mover, `unused` are free.
  template <typename Movable, typename Unused>
  void fill(Movable movable, Unused unused) {
    std::vector<Pfn> all;
    while (const auto page = guest_.allocate(0)) all.push_back(page->first);
    for (const Pfn page : all) {
      if (unused(page)) {
        guest_.free({page, 0});
      } else if (movable(page)) {
        mover_.pages.insert(page);
      }
    }
  }

  static bool any(Pfn /*page*/) { return true; }
  static bool none(Pfn /*page*/) { return false; }
  static bool odd(Pfn page) { return page % 2 == 1; }

  PageAllocator guest_{PageRanges{{0, 8192}}};
  MovablePages mover_;
  Compactor compactor_{guest_, mover_};
};

TEST_F(CompactorTest, HolesBecomeABlock) {
  fill(any, odd);
  const std::uint64_t free = guest_.free_pages();

  EXPECT_TRUE(compactor_.compact(kMaxOrder));

  EXPECT_TRUE(guest_.allocate(kMaxOrder));
  EXPECT_EQ(guest_.free_pages(), free - 1024);
}

TEST_F(CompactorTest, PagesMoveUpOnly) {
  fill(any, odd);

  (void)compactor_.compact(kMaxOrder);

  ASSERT_FALSE(mover_.moves.empty());
  for (const auto& [from, to] : mover_.moves) EXPECT_LT(from, to);
}

TEST_F(CompactorTest, NoMorePagesMoveThanTheBlockNeeds) {
  fill(any, odd);

  (void)compactor_.compact(9);

  EXPECT_EQ(compactor_.counters().moved_pages, 256u);
}

TEST_F(CompactorTest, ScannersGoOnWhereTheyWere) {
  fill(any, odd);
  ASSERT_TRUE(compactor_.compact(9));
  ASSERT_TRUE(guest_.allocate(9));
  mover_.moves.clear();

  EXPECT_TRUE(compactor_.compact(9));

  EXPECT_EQ(mover_.moves.size(), 256u);
}

// They stand behind the first 1024 pages, and nothing is free but every other one of those.
TEST_F(CompactorTest, ScannersBeginAgainForWhatLiesBehindThem) {
  fill(any, odd);
  ASSERT_TRUE(compactor_.compact(kMaxOrder));
  ASSERT_EQ(guest_.allocate(kMaxOrder), (Block{0, kMaxOrder}));
  while (guest_.allocate(0)) {
  }
  for (Pfn page = 0; page < 1024; page += 2) {
    mover_.pages.insert(page);
    guest_.free({page + 1, 0});
  }

  EXPECT_TRUE(compactor_.compact(9));
}

TEST_F(CompactorTest, HalfOfTheMemoryBecomesFreeAsAWholeWhenAskedOften) {
  fill(any, odd);

  std::uint64_t blocks = 0;
  while (compactor_.compact(kMaxOrder) && guest_.allocate(kMaxOrder)) ++blocks;

  EXPECT_EQ(blocks, 4u);
  EXPECT_EQ(guest_.free_pages(), 0u);
}

TEST_F(CompactorTest, PagesThatNobodyCanMoveStay) {
  fill(none, odd);
  const auto before = guest_.free_blocks_by_order();

  EXPECT_FALSE(compactor_.compact(1));

  EXPECT_EQ(guest_.free_blocks_by_order(), before);
  EXPECT_EQ(compactor_.counters().moved_pages, 0u);
}

TEST_F(CompactorTest, OneUnmovablePageKeepsItsBlockAndNoOther) {
  fill([](Pfn page) { return page != 0; }, odd);

  EXPECT_TRUE(compactor_.compact(9));

  EXPECT_FALSE(guest_.is_free(0));
  EXPECT_TRUE(guest_.is_free(512));
}

TEST_F(CompactorTest, FreeHugePagesAreNotTakenApart) {
  fill(any, [](Pfn page) { return page < 4096 ? odd(page) : page >= 7168; });

  (void)compactor_.compact(kMaxOrder);

  EXPECT_EQ(guest_.free_block_around(7168), (Block{7168, 10}));
  for (const auto& [from, to] : mover_.moves) EXPECT_LT(to, 4096u);
}

TEST_F(CompactorTest, FullMemoryHasNothingToCompact) {
  fill(any, none);

  EXPECT_FALSE(compactor_.compact(2));

  EXPECT_THAT(mover_.moves, IsEmpty());
}

TEST_F(CompactorTest, RoomIsMadeForABlockThatLeavesTheReserveFree) {
  fill(any, odd);
  const std::uint64_t reserve = guest_.free_pages() - 512;

  EXPECT_TRUE(compactor_.make_room(9, reserve));

  EXPECT_TRUE(guest_.allocate(9, reserve));
}

TEST_F(CompactorTest, NothingMovesWhereTheReserveLeavesTooLittleForTheBlock) {
  fill(any, odd);

  EXPECT_FALSE(compactor_.make_room(9, guest_.free_pages() - 511));

  EXPECT_THAT(mover_.moves, IsEmpty());
}

TEST_F(CompactorTest, NoRoomIsMadeForTwoPages) {
  fill(any, odd);

  EXPECT_FALSE(compactor_.make_room(1, 0));

  EXPECT_THAT(mover_.moves, IsEmpty());
}

TEST_F(CompactorTest, AttemptsAndSuccessesAreCounted) {
  fill(any, [](Pfn page) { return page < 1024 && odd(page); });

  EXPECT_TRUE(compactor_.compact(8));
  EXPECT_FALSE(compactor_.compact(kMaxOrder));

  EXPECT_EQ(compactor_.counters().attempts, 2u);
  EXPECT_EQ(compactor_.counters().successes, 1u);
}

TEST(CompactorZonesTest, PagesStayInTheirZoneAndTheLastOneIsTriedFirst) {
  PageAllocator guest(PageRanges{{0, 2048}, {4096, 2048}});
  MovablePages mover;
  std::vector<Pfn> all;
  while (const auto page = guest.allocate(0)) all.push_back(page->first);
  for (const Pfn page : all) {
    if (page % 2 == 1) {
      guest.free({page, 0});
    } else {
      mover.pages.insert(page);
    }
  }
  Compactor compactor(guest, mover);

  EXPECT_TRUE(compactor.compact(9));

  ASSERT_FALSE(mover.moves.empty());
  for (const auto& [from, to] : mover.moves) {
    EXPECT_GE(from, 4096u);
    EXPECT_GE(to, 4096u);
  }
}

// Whatever is free and movable: no page is lost, and each that moved is where its owner thinks.
RC_GTEST_PROP(CompactorPropertyTest, PagesAreNeitherLostNorShared, ()) {
  PageAllocator guest(PageRanges{{3, 700}, {1000, 1500}});
  MovablePages mover;
  std::vector<Pfn> all;
  while (const auto page = guest.allocate(0)) all.push_back(page->first);
  const int density = *rc::gen::inRange(1, 10);
  std::set<Pfn> fixed;
  for (const Pfn page : all) {
    const int kind = *rc::gen::inRange(0, 10);
    if (kind < density) {
      guest.free({page, 0});
    } else if (kind != 9) {
      mover.pages.insert(page);
    } else {
      fixed.insert(page);
    }
  }
  const std::uint64_t free = guest.free_pages();
  const std::size_t movable = mover.pages.size();
  Compactor compactor(guest, mover);

  for (const unsigned order : {2u, 5u, 9u, 3u}) {
    const bool found = compactor.compact(order);
    const auto blocks = guest.free_blocks_by_order();
    std::uint64_t large = 0;
    for (unsigned k = order; k <= kMaxOrder; ++k) large += blocks[k];
    RC_ASSERT(found == (large != 0));
  }

  RC_ASSERT(guest.free_pages() == free);
  RC_ASSERT(mover.pages.size() == movable);
  for (const Pfn page : mover.pages) RC_ASSERT(!guest.is_free(page));
  for (const Pfn page : fixed) RC_ASSERT(!guest.is_free(page));
}

}  // namespace
}  // namespace vballoon::sim
