// SPDX-License-Identifier: MIT
// What aging leaves of free memory (src/guest/aging.cc).
#include "vballoon/sim/aging.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include "vballoon/page_range.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::sim {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::Le;
using ::testing::Optional;

constexpr std::uint64_t kPagesPerMib = 256;

class Guest : public PageAllocator {
 public:
  explicit Guest(std::uint64_t mib) : Guest(PageRange{0, mib * kPagesPerMib}) {}
  explicit Guest(const PageRange& zone) : PageAllocator(std::span(&zone, 1)) {}
};

double small_share(const PageAllocator& allocator) {
  const BlocksByOrder blocks = allocator.free_blocks_by_order();
  const std::uint64_t pages = blocks[0] + 2 * blocks[1] + 4 * blocks[2] + 8 * blocks[3];
  return static_cast<double>(pages) / static_cast<double>(allocator.free_pages());
}

double free_share(const PageAllocator& allocator) {
  return static_cast<double>(allocator.free_pages()) / static_cast<double>(allocator.total_pages());
}

double smallest_small_share(std::uint64_t mib, std::uint64_t seeds) {
  double smallest = 1;
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    Guest guest(mib);
    (void)age_guest(guest, GuestAge::kAged, seed);
    smallest = std::min(smallest, small_share(guest));
  }
  return smallest;
}

// Every page of the guest, free or not.
std::vector<bool> free_map(const Guest& guest) {
  std::vector<bool> map;
  for (Pfn pfn = 0; pfn < guest.total_pages(); ++pfn) map.push_back(guest.is_free(pfn));
  return map;
}

void free_list(PageAllocator& allocator, PageList list) {
  while (const std::optional<Block> block = allocator.pop(list)) allocator.free(*block);
}

TEST(AgingTest, NamesAreReadBack) {
  EXPECT_THAT(parse_guest_age(to_string(GuestAge::kIdle)), Optional(GuestAge::kIdle));
  EXPECT_THAT(parse_guest_age(to_string(GuestAge::kFragmented)), Optional(GuestAge::kFragmented));
  EXPECT_THAT(parse_guest_age(to_string(GuestAge::kAged)), Optional(GuestAge::kAged));
}

TEST(AgingTest, UnknownNameIsNoAge) {
  EXPECT_EQ(parse_guest_age("old"), std::nullopt);
  EXPECT_EQ(parse_guest_age(""), std::nullopt);
}

TEST(AgingTest, IdleGuestStaysAsItWas) {
  Guest guest(64);

  EXPECT_TRUE(age_guest(guest, GuestAge::kIdle, 1).empty());

  EXPECT_THAT(guest.free_blocks_by_order(), ElementsAre(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16));
}

TEST(AgingTest, FragmentedGuestIsFreeInSinglePagesOnly) {
  Guest guest(64);

  (void)age_guest(guest, GuestAge::kFragmented, 1);

  EXPECT_THAT(guest.free_blocks_by_order(), ElementsAre(8192, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
}

TEST(AgingTest, RaggedFragmentedGuestIsFreeInSinglePagesOnly) {
  Guest guest(PageRange{3, 101});

  (void)age_guest(guest, GuestAge::kFragmented, 1);

  EXPECT_THAT(guest.free_blocks_by_order(), ElementsAre(51, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
}

TEST(AgingTest, FragmentedGuestListsWhatStaysTaken) {
  Guest guest(64);

  const PageList taken = age_guest(guest, GuestAge::kFragmented, 1);

  EXPECT_EQ(taken.pages + guest.free_pages(), guest.total_pages());
}

TEST(AgingTest, PagesTakenBeforeStayOutOfTheList) {
  Guest guest(64);
  const std::optional<Block> mine = guest.allocate(kMaxOrder);

  free_list(guest, age_guest(guest, GuestAge::kFragmented, 1));

  EXPECT_EQ(guest.free_pages(), guest.total_pages() - mine->pages().count);
}

class AgedGuestTest : public ::testing::TestWithParam<std::uint64_t> {
 protected:
  AgedGuestTest() : guest_(GetParam()), taken_(age_guest(guest_, GuestAge::kAged, 7)) {}

  Guest guest_;
  PageList taken_;
};

INSTANTIATE_TEST_SUITE_P(Mib, AgedGuestTest, ::testing::Values(64, 256, 1024),
                         ::testing::PrintToStringParamName());

TEST_P(AgedGuestTest, HalfOfMemoryIsFree) {
  EXPECT_THAT(free_share(guest_), AllOf(Ge(0.5), Le(0.5 + 1.0 / 64)));
}

TEST_P(AgedGuestTest, SmallBlocksHoldTwoFifthsOfFreeMemory) { EXPECT_GE(small_share(guest_), 0.4); }

TEST_P(AgedGuestTest, SomeLargeBlocksRemain) {
  const BlocksByOrder blocks = guest_.free_blocks_by_order();

  EXPECT_GT(std::accumulate(blocks.begin() + 7, blocks.end(), std::uint64_t{0}), 0u);
}

TEST_P(AgedGuestTest, GuestIsWholeAgainWhenAllIsFreed) {
  free_list(guest_, taken_);

  EXPECT_EQ(guest_.free_blocks_by_order(), Guest(GetParam()).free_blocks_by_order());
}

TEST(AgingTest, SmallBlocksHoldTwoFifthsOfFreeMemoryWhateverTheSeed) {
  EXPECT_GE(smallest_small_share(64, 30), 0.4);
  EXPECT_GE(smallest_small_share(128, 30), 0.4);
}

TEST(AgingTest, SameSeedGivesTheSameMemory) {
  Guest one(64);
  Guest other(64);

  (void)age_guest(one, GuestAge::kAged, 5);
  (void)age_guest(other, GuestAge::kAged, 5);

  EXPECT_EQ(free_map(one), free_map(other));
}

TEST(AgingTest, DifferentSeedsGiveDifferentMemory) {
  Guest one(64);
  Guest other(64);

  (void)age_guest(one, GuestAge::kAged, 5);
  (void)age_guest(other, GuestAge::kAged, 6);

  EXPECT_NE(free_map(one), free_map(other));
}

TEST(AgingTest, GuestOfOnePageIsAged) {
  Guest guest(PageRange{9, 1});

  const PageList taken = age_guest(guest, GuestAge::kAged, 5);

  EXPECT_EQ(taken.pages + guest.free_pages(), 1u);
}

}  // namespace
}  // namespace vballoon::sim
