// SPDX-License-Identifier: MIT
// Sorting and merging of a batch (src/base/page_batch.cc).
#include "base/page_batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>

#include "base/page_ranges.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(PageBatchTest, DescendingNeighboursBecomeOneRange) {
  PageRanges ranges{{7, 1}, {6, 1}, {5, 1}};

  EXPECT_EQ(sort_and_merge(ranges), 0u);

  EXPECT_THAT(ranges, ElementsAre(PageRange{5, 3}));
}

TEST(PageBatchTest, ScatteredRangesAreSortedAndStayApart) {
  PageRanges ranges{{9, 1}, {1, 2}, {5, 1}};

  EXPECT_EQ(sort_and_merge(ranges), 0u);

  EXPECT_THAT(ranges, ElementsAre(PageRange{1, 2}, PageRange{5, 1}, PageRange{9, 1}));
}

TEST(PageBatchTest, OverlappingPagesAreCountedAndKeptOnce) {
  PageRanges ranges{{0, 10}, {2, 3}, {8, 4}};

  EXPECT_EQ(sort_and_merge(ranges), 5u);

  EXPECT_THAT(ranges, ElementsAre(PageRange{0, 12}));
}

TEST(PageBatchTest, NothingStaysNothing) {
  PageRanges ranges;

  EXPECT_EQ(sort_and_merge(ranges), 0u);

  EXPECT_THAT(ranges, IsEmpty());
}

RC_GTEST_PROP(PageBatchProperty, NamesTheSamePagesAndCountsTheRepeated, ()) {
  PageRanges ranges;
  std::set<Pfn> model;
  std::uint64_t named = 0;
  const int count = *rc::gen::inRange(1, 30);
  for (int i = 0; i < count; ++i) {
    const PageRange r{*rc::gen::inRange<Pfn>(0, 100), *rc::gen::inRange<std::uint64_t>(1, 10)};
    ranges.push_back(r);
    named += r.count;
    for (Pfn p = r.first; p < r.end(); ++p) model.insert(p);
  }

  const std::uint64_t repeated = sort_and_merge(ranges);

  RC_ASSERT(repeated == named - model.size());
  std::set<Pfn> merged;
  for (const PageRange& r : ranges) {
    // In parentheses: the macro takes an expression apart and evaluates both sides of ||.
    RC_ASSERT((merged.empty() || *merged.rbegin() + 1 < r.first));
    for (Pfn p = r.first; p < r.end(); ++p) merged.insert(p);
  }
  RC_ASSERT(merged == model);
}

}  // namespace
}  // namespace vballoon
