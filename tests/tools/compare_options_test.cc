// SPDX-License-Identifier: MIT
#include "compare_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vballoon::tool {
namespace {

using ::testing::ElementsAre;

TEST(CompareOptionsTest, RowIsNamedByModeAndHost) {
  EXPECT_EQ(row_name({Dialect::kPageBitmap, DiscardStrategy::kMerged}), "bitmap/merged");
}

TEST(CompareOptionsTest, BaselineComesBeforeEveryModeWithTheStrategyAskedFor) {
  CompareOptions options;
  options.modes = {Dialect::kScatterGather, Dialect::kStandard};
  options.host = DiscardStrategy::kMerged;

  EXPECT_THAT(rows_of(options),
              ElementsAre(RowSpec{Dialect::kStandard, DiscardStrategy::kPerPage},
                          RowSpec{Dialect::kScatterGather, DiscardStrategy::kMerged},
                          RowSpec{Dialect::kStandard, DiscardStrategy::kMerged}));
}

TEST(CompareOptionsTest, ModesWrittenBehindAreRowsOfTheirOwn) {
  CompareOptions options;
  options.modes = {Dialect::kStandard};
  options.write_behind = true;

  EXPECT_THAT(rows_of(options),
              ElementsAre(RowSpec{Dialect::kStandard, DiscardStrategy::kPerPage},
                          RowSpec{Dialect::kStandard, DiscardStrategy::kVectored},
                          RowSpec{Dialect::kStandard, DiscardStrategy::kVectored, true}));
  EXPECT_EQ(row_name(rows_of(options).back()), "pfn/write-behind");
}

TEST(CompareOptionsTest, DriverIsLinuxOfTodayUnlessAskedForThePublishedOne) {
  const sim::DriverOptions today = driver_options({});
  EXPECT_EQ(today.pfn_order, sim::PfnOrder::kReversed);
  EXPECT_EQ(today.chunk_order, sim::kMaxOrder);

  CompareOptions options;
  options.faithful = true;
  const sim::DriverOptions published = driver_options(options);
  EXPECT_EQ(published.pfn_order, sim::PfnOrder::kAllocation);
  EXPECT_EQ(published.chunk_order, 0U);
  EXPECT_EQ(published.pfn_threshold_pages, 0U);
}

TEST(CompareOptionsTest, OrderOfPfnsThatIsAskedForIsThatOfThePublishedDriverToo) {
  CompareOptions options;
  options.faithful = true;
  options.pfn_order = sim::PfnOrder::kReversed;

  EXPECT_EQ(driver_options(options).pfn_order, sim::PfnOrder::kReversed);
}

TEST(CompareOptionsTest, RowAppearsOnce) {
  CompareOptions options;
  options.modes = {Dialect::kStandard, Dialect::kPageBitmap, Dialect::kPageBitmap};
  options.host = DiscardStrategy::kPerPage;

  EXPECT_THAT(rows_of(options),
              ElementsAre(RowSpec{Dialect::kStandard, DiscardStrategy::kPerPage},
                          RowSpec{Dialect::kPageBitmap, DiscardStrategy::kPerPage}));
}

TEST(CompareOptionsTest, ValuesAreCalledAsOnTheCommandLine) {
  EXPECT_EQ(to_string(Backing::kAnonymous), "anonymous");
  EXPECT_EQ(to_string(Backing::kMemfd), "memfd");
  EXPECT_EQ(to_string(Backing::kHugetlb), "hugetlb");
  EXPECT_EQ(to_string(ThpMode::kOn), "on");
  EXPECT_EQ(to_string(ThpMode::kOff), "off");
  EXPECT_EQ(to_string(sim::NotifyMode::kEventfd), "eventfd");
  EXPECT_EQ(to_string(sim::NotifyMode::kDirect), "direct");
  EXPECT_EQ(to_string(sim::PfnOrder::kReversed), "reversed");
  EXPECT_EQ(to_string(sim::PfnOrder::kAllocation), "allocation");
}

}  // namespace
}  // namespace vballoon::tool
