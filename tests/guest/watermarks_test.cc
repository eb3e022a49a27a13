// SPDX-License-Identifier: MIT
// The watermarks that Linux computes at boot (src/guest/watermarks.cc).
#include "vballoon/sim/watermarks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/page_ranges.h"

namespace vballoon::sim {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::uint64_t kPagesPerGib = 1 << 18;

TEST(WatermarksTest, MinimumGrowsWithTheRootOfMemory) {
  // sqrt(16 * 4 Mi) KiB are 8 MiB; 1/1000 of the zone is more than a quarter of that.
  EXPECT_THAT(zone_watermarks(PageRanges{{0, 4 * kPagesPerGib}}),
              ElementsAre(Watermarks{2048, 2048 + 1048, 2048 + 2 * 1048}));
}

TEST(WatermarksTest, StepIsAtLeastAQuarterOfTheMinimum) {
  EXPECT_THAT(zone_watermarks(PageRanges{{0, 4096}}), ElementsAre(Watermarks{128, 160, 192}));
}

TEST(WatermarksTest, SmallGuestKeepsTheLeastMinimum) {
  EXPECT_EQ(guest_watermarks(PageRanges{{0, 16}}).min, 32u);
}

TEST(WatermarksTest, LargeGuestKeepsTheLargestMinimum) {
  EXPECT_EQ(guest_watermarks(PageRanges{{0, 8192 * kPagesPerGib}}).min, 65536u);
}

TEST(WatermarksTest, ZonesShareTheMinimumByTheirSize) {
  EXPECT_THAT(zone_watermarks(PageRanges{{0, 1024}, {1024, 3072}}),
              ElementsAre(Watermarks{32, 40, 48}, Watermarks{96, 120, 144}));
}

TEST(WatermarksTest, GuestHasTheSumOfItsZones) {
  EXPECT_EQ(guest_watermarks(PageRanges{{0, 1024}, {1024, 3072}}), (Watermarks{128, 160, 192}));
}

TEST(WatermarksTest, GuestWithoutZonesHasNone) {
  EXPECT_THAT(zone_watermarks({}), IsEmpty());
  EXPECT_EQ(guest_watermarks({}), Watermarks{});
}

}  // namespace
}  // namespace vballoon::sim
