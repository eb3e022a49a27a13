// SPDX-License-Identifier: MIT
// Free pages that are filled and looked at (src/guest/page_poison.cc, page_contents.cc).
#include "vballoon/sim/page_poison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/page_ranges.h"
#include "vballoon/guest_memory.h"
#include "vballoon/page_range.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::sim {
namespace {

using ::testing::Each;
using ::testing::Optional;

constexpr std::uint64_t kPages = 64;

class PagePoisonTest : public ::testing::Test {
 protected:
  [[nodiscard]] std::vector<std::byte> page(Pfn pfn) const {
    std::vector<std::byte> bytes(kPageSize);
    EXPECT_TRUE(memory_->read(pfn << kPageShift, bytes));
    return bytes;
  }
  void write_byte(std::uint64_t address, std::uint8_t value) const {
    EXPECT_TRUE(memory_->write(address, std::array{std::byte{value}}));
  }

  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, kPages << kPageShift}}).value();
  PagePoison poison_{memory_, kPagePoisonByte};
};

TEST_F(PagePoisonTest, FreedPagesAreFilled) {
  poison_.fill({5, 2});

  EXPECT_THAT(page(5), Each(std::byte{0xaa}));
  EXPECT_THAT(page(6), Each(std::byte{0xaa}));
}

TEST_F(PagePoisonTest, NeighboursOfFreedPagesAreNot) {
  poison_.fill({5, 2});

  EXPECT_THAT(page(4), Each(std::byte{0}));
  EXPECT_THAT(page(7), Each(std::byte{0}));
}

TEST_F(PagePoisonTest, UntouchedPagesAreNoViolation) {
  poison_.fill({5, 2});

  poison_.check({5, 2});

  EXPECT_EQ(poison_.violations(), 0u);
  EXPECT_EQ(poison_.last_violation(), std::nullopt);
}

TEST_F(PagePoisonTest, PageThatTheHostTookIsAViolation) {
  poison_.fill({5, 3});
  write_byte((6 << kPageShift) + 4095, 0);

  poison_.check({5, 3});

  EXPECT_EQ(poison_.violations(), 1u);
  EXPECT_THAT(poison_.last_violation(), Optional(6u));
}

TEST_F(PagePoisonTest, EachChangedPageIsAViolation) {
  poison_.fill({5, 3});

  poison_.check({4, 5});  // 4 and 8 were never filled

  EXPECT_EQ(poison_.violations(), 2u);
  EXPECT_THAT(poison_.last_violation(), Optional(8u));
}

TEST_F(PagePoisonTest, ZeroedPageIsAsInitOnFreeLeavesIt) {
  PagePoison zero(memory_, kInitOnFreeByte);
  write_byte(5 << kPageShift, 1);
  zero.fill({5, 1});

  zero.check({0, kPages});

  EXPECT_EQ(zero.violations(), 0u);
}

TEST_F(PagePoisonTest, DriverWritesTheByteFourTimes) {
  EXPECT_EQ(poison_.value(), 0xaaaaaaaau);
  EXPECT_EQ(PagePoison(memory_, kInitOnFreeByte).value(), 0u);
}

TEST_F(PagePoisonTest, BootingGuestFillsWhatIsFree) {
  PageAllocator allocator(PageRanges{{0, 32}, {48, 16}});
  const Block taken = *allocator.allocate(2);

  poison_.fill_free_pages(allocator);
  poison_.check({0, 32});
  poison_.check({taken.pages().end(), 64 - taken.pages().end()});

  EXPECT_EQ(taken, (Block{48, 2}));
  EXPECT_EQ(poison_.violations(), 0u);
  EXPECT_THAT(page(48), Each(std::byte{0}));
  EXPECT_THAT(page(32), Each(std::byte{0}));
}

}  // namespace
}  // namespace vballoon::sim
