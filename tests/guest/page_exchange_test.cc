// SPDX-License-Identifier: MIT
// What compaction needs of the allocator (src/guest/page_allocator.cc).
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

// Two zones of 16 pages that are all taken; the list holds 8, 100 and 4.
class PageExchangeTest : public ::testing::Test {
 protected:
  PageExchangeTest() {
    (void)guest_.allocate(4);
    (void)guest_.allocate(4);
    guest_.push(list_, {4, 0});
    guest_.push(list_, {100, 0});
    guest_.push(list_, {8, 0});
  }
  [[nodiscard]] std::vector<Block> listed() const {
    std::vector<Block> blocks;
    for (auto block = guest_.first(list_); block; block = guest_.next(*block)) {
      blocks.push_back(*block);
    }
    return blocks;
  }

  PageAllocator guest_{PageRanges{{0, 16}, {96, 16}}};
  PageList list_;
};

TEST_F(PageExchangeTest, BlockInTheMiddleIsExchanged) {
  EXPECT_EQ(guest_.exchange_next(list_, Block{8, 0}, {101, 0}), (Block{100, 0}));

  EXPECT_THAT(listed(), ElementsAre(Block{8, 0}, Block{101, 0}, Block{4, 0}));
}

TEST_F(PageExchangeTest, FirstBlockIsExchanged) {
  EXPECT_EQ(guest_.exchange_next(list_, std::nullopt, {101, 0}), (Block{8, 0}));

  EXPECT_THAT(listed(), ElementsAre(Block{101, 0}, Block{100, 0}, Block{4, 0}));
}

TEST_F(PageExchangeTest, LastBlockIsExchanged) {
  EXPECT_EQ(guest_.exchange_next(list_, Block{100, 0}, {5, 0}), (Block{4, 0}));

  EXPECT_THAT(listed(), ElementsAre(Block{8, 0}, Block{100, 0}, Block{5, 0}));
}

TEST_F(PageExchangeTest, BlockIsAppendedBehindTheOneThatCameIntoTheLastPlace) {
  (void)guest_.exchange_next(list_, Block{100, 0}, {5, 0});

  guest_.append(list_, {6, 0});

  EXPECT_THAT(listed(), ElementsAre(Block{8, 0}, Block{100, 0}, Block{5, 0}, Block{6, 0}));
}

TEST_F(PageExchangeTest, ExchangedBlockCanBeFreed) {
  guest_.free(guest_.exchange_next(list_, std::nullopt, {101, 0}));

  EXPECT_TRUE(guest_.is_free(8));
  EXPECT_FALSE(guest_.is_free(101));
}

TEST_F(PageExchangeTest, ExchangedListCountsThePagesOfItsBlocks) {
  (void)guest_.exchange_next(list_, Block{8, 0}, {12, 2});

  EXPECT_EQ(list_.pages, 6u);
}

TEST_F(PageExchangeTest, TargetLiesOutsideWhatIsToBecomeFree) {
  guest_.free({108, 2});

  EXPECT_THAT(guest_.allocate_outside({108, 2}, 0), Optional(Block{110, 0}));
}

TEST_F(PageExchangeTest, TargetLiesInAnotherZoneWhenItMust) {
  guest_.free({0, 2});
  guest_.free({104, 2});

  EXPECT_THAT(guest_.allocate_outside({96, 16}, 0), Optional(Block{0, 0}));
}

TEST_F(PageExchangeTest, PagesThatWereLookedAtAreFreeAgain) {
  guest_.free({0, 2});
  guest_.free({104, 2});
  const std::uint64_t before = guest_.free_pages();

  (void)guest_.allocate_outside({96, 16}, 0);

  EXPECT_EQ(guest_.free_pages(), before - 1);
}

TEST_F(PageExchangeTest, NoTargetWhenAllFreePagesAreToBeAvoided) {
  guest_.free({104, 2});
  const BlocksByOrder before = guest_.free_blocks_by_order();

  EXPECT_EQ(guest_.allocate_outside({96, 16}, 0), std::nullopt);

  EXPECT_EQ(guest_.free_blocks_by_order(), before);
}

TEST_F(PageExchangeTest, PagesThatWereLookedAtCountForTheReserve) {
  guest_.free({0, 0});
  guest_.free({104, 2});
  const std::uint64_t all_but_one = guest_.free_pages() - 1;

  EXPECT_THAT(guest_.allocate_outside({96, 16}, 0, all_but_one), Optional(Block{0, 0}));
}

TEST_F(PageExchangeTest, ReserveStaysFreeOutsideToo) {
  guest_.free({0, 0});
  guest_.free({104, 2});

  EXPECT_EQ(guest_.allocate_outside({96, 16}, 0, guest_.free_pages()), std::nullopt);
}

}  // namespace
}  // namespace vballoon::sim
