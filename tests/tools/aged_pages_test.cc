// SPDX-License-Identifier: MIT
#include "aged_pages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <memory>
#include <optional>

#include "sizes.h"
#include "vballoon/sim/aging.h"

namespace vballoon::tool {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr std::uint64_t kBytes = 16 * kMiB;

MATCHER_P2(Move, from, to, "") { return arg.from == from && arg.to == to; }

// A guest of 16 MiB that has aged.
class AgedPagesTest : public ::testing::Test {
 protected:
  void age(sim::GuestAge age) { pages_.own(sim::age_guest(allocator_, age, 1)); }
  [[nodiscard]] std::byte* first_byte_of(Pfn page) { return memory_->host(page << kPageShift, 1); }
  [[nodiscard]] std::byte* last_byte_of(Pfn page) {
    return memory_->host((page << kPageShift) + kPageSize - 1, 1);
  }

  static constexpr std::array kZones{PageRange{0, kBytes >> kPageShift}};
  const std::shared_ptr<const GuestMemory> memory_ =
      *GuestMemory::allocate(std::array{RegionLayout{0, kBytes}}, {});
  sim::PageAllocator allocator_{kZones};
  AgedPages pages_{memory_, allocator_};
};

TEST_F(AgedPagesTest, PageThatMovesTakesAllOfItsContentAlong) {
  age(sim::GuestAge::kFragmented);
  *first_byte_of(2) = std::byte{0x12};
  *last_byte_of(2) = std::byte{0x34};

  EXPECT_TRUE(pages_.move(2, 5));

  EXPECT_EQ(*first_byte_of(5), std::byte{0x12});
  EXPECT_EQ(*last_byte_of(5), std::byte{0x34});
  EXPECT_THAT(pages_.moves(), ElementsAre(Move(2U, 5U)));
}

TEST_F(AgedPagesTest, PageThatAgingDidNotTakeStays) {
  age(sim::GuestAge::kFragmented);

  EXPECT_FALSE(pages_.move(3, 5));

  EXPECT_THAT(pages_.moves(), IsEmpty());
}

TEST_F(AgedPagesTest, PageThatMovedCanMoveOnAndIsNoLongerWhereItWas) {
  age(sim::GuestAge::kFragmented);
  ASSERT_TRUE(pages_.move(2, 5));

  EXPECT_FALSE(pages_.move(2, 7));
  EXPECT_TRUE(pages_.move(5, 7));
}

TEST_F(AgedPagesTest, HolesOfAFragmentedGuestBecomeLargeBlocks) {
  age(sim::GuestAge::kFragmented);
  const std::uint64_t free_pages = allocator_.free_pages();

  EXPECT_TRUE(pages_.compactor().compact(sim::kMaxOrder));

  EXPECT_NE(allocator_.free_blocks_by_order()[sim::kMaxOrder], 0U);
  EXPECT_EQ(allocator_.free_pages(), free_pages);
}

// They were taken as blocks of any order.
TEST_F(AgedPagesTest, PagesOfAnAgedGuestMoveOneByOne) {
  age(sim::GuestAge::kAged);
  const std::uint64_t large_blocks = allocator_.free_blocks_by_order()[sim::kMaxOrder];
  ASSERT_EQ(large_blocks, 0U);

  EXPECT_TRUE(pages_.compactor().compact(sim::kMaxOrder));

  EXPECT_THAT(pages_.moves(), Not(IsEmpty()));
}

}  // namespace
}  // namespace vballoon::tool
