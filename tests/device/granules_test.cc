// SPDX-License-Identifier: MIT
// In which pieces the memory of a region goes back (src/device/granules.h).
#include "device/granules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/two_mib_pages.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using testing::kTwoMib;

constexpr std::uint64_t kHuge = 4 * kPageSize;
constexpr Pfn kFirst = 0x100;

class GranulesTest : public ::testing::Test {
 protected:
  // Guest pages from kFirst on, so many, which begin so many pages behind a bound of huge pages.
  static MemoryRegion region(std::uint64_t pages, std::uint64_t behind) {
    return {.guest_address = kFirst << kPageShift,
            .bytes = pages << kPageShift,
            .host = reinterpret_cast<std::byte*>((16 + behind) * kPageSize),
            .huge_page_bytes = kHuge};
  }
};

TEST_F(GranulesTest, SplitHugePagesAreAsGoodAsNone) {
  EXPECT_FALSE(granules_of(region(8, 0), HugePagePolicy::kSplit).any());
}

TEST_F(GranulesTest, AlignedRegionIsAllHugePages) {
  const Granules granules = granules_of(region(8, 0), HugePagePolicy::kHeal);

  EXPECT_EQ(granules.pages, (PageRange{kFirst, 8}));
  EXPECT_EQ(granules.each, 4u);
  EXPECT_FALSE(granules.only_whole);
}

TEST_F(GranulesTest, HugePagesToBeKeptGoOnlyAsAWhole) {
  EXPECT_TRUE(granules_of(region(8, 0), HugePagePolicy::kKeepWhole).only_whole);
}

TEST_F(GranulesTest, EndsOfARegionThatIsNotAlignedArePagesOfTheirOwn) {
  const Granules granules = granules_of(region(9, 3), HugePagePolicy::kKeepWhole);

  EXPECT_EQ(granules.pages, (PageRange{kFirst + 1, 8}));
  EXPECT_EQ(granules.of(kFirst + 4), (PageRange{kFirst + 1, 4}));
  EXPECT_EQ(granules.of(kFirst + 5), (PageRange{kFirst + 5, 4}));
}

TEST_F(GranulesTest, RegionWithoutRoomForAHugePageHasNone) {
  EXPECT_FALSE(granules_of(region(6, 1), HugePagePolicy::kKeepWhole).any());
  EXPECT_FALSE(granules_of(region(1, 1), HugePagePolicy::kKeepWhole).any());
}

TEST_F(GranulesTest, HugeHostPagesGoAsAWholeWhateverThePolicy) {
  MemoryRegion region = this->region(8, 0);
  region.host_page_bytes = kHuge;
  region.huge_page_bytes = 0;

  const Granules granules = granules_of(region, HugePagePolicy::kSplit);

  EXPECT_EQ(granules.pages, (PageRange{kFirst, 8}));
  EXPECT_TRUE(granules.only_whole);
}

TEST_F(GranulesTest, RangeIsCutAtBothEndsOfTheHugePages) {
  const Granules granules = granules_of(region(12, 3), HugePagePolicy::kHeal);  // 1 + 8 + 3

  EXPECT_THAT(
      granules.cut({kFirst, 12}),
      ElementsAre(PageRange{kFirst, 1}, PageRange{kFirst + 1, 8}, PageRange{kFirst + 9, 3}));
  EXPECT_EQ(granules.cut({kFirst, 1})[1].count, 0u);
  EXPECT_EQ(granules.cut({kFirst + 3, 2})[1], (PageRange{kFirst + 3, 2}));
  EXPECT_EQ(granules.cut({kFirst + 10, 2})[2], (PageRange{kFirst + 10, 2}));
}

TEST_F(GranulesTest, HealingWithoutHugePagesIsSplitting) {
  const auto memory = testing::borrow_memory({{0, kTwoMib, kPageSize}});

  EXPECT_EQ(usable_policy(HugePagePolicy::kHeal, *memory), HugePagePolicy::kSplit);
  EXPECT_EQ(usable_policy(HugePagePolicy::kKeepWhole, *memory), HugePagePolicy::kKeepWhole);
}

TEST_F(GranulesTest, HealingNeedsAKernelThatDoesIt) {
  const auto memory = testing::borrow_memory({{0, kTwoMib, kPageSize, kTwoMib}});

  EXPECT_EQ(usable_policy(HugePagePolicy::kHeal, *memory) == HugePagePolicy::kHeal,
            healing_available());
}

}  // namespace
}  // namespace vballoon
