// SPDX-License-Identifier: MIT
// A driver that keeps what a host sees of the published ones (DriverOptions::faithful).
#include <set>

#include "guest/driver_fixture.h"
#include "guest/published_messages.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::vballoon::testing::DecodedMessage;
using ::vballoon::testing::DriverRig;
using ::vballoon::testing::kGuestPages;
using ::vballoon::testing::merged;
using ::vballoon::testing::published_bitmap_messages;
using ::vballoon::testing::published_single_header_messages;

// The pages of ranges, one by one.
std::set<std::uint64_t> pages_in(const PageRanges& ranges) {
  std::set<std::uint64_t> pages;
  for (const PageRange& range : ranges) {
    for (Pfn page = range.first; page < range.end(); ++page) pages.insert(page);
  }
  return pages;
}

// A guest in which nothing is free but what a test frees.
class FaithfulDriver {
 public:
  FaithfulDriver(Dialect dialect, bool faithful) : rig(dialect) {
    rig.options.reserve_pages = 0;
    rig.options.faithful = faithful;
    rig.device.pages_repeat = true;
    rig.probe();
    while (rig.allocator.allocate(0)) {
    }
  }

  // Frees these pages, and the balloon takes them.
  void inflate(PageRange pages) {
    for (Pfn page = pages.first; page < pages.end(); ++page) rig.allocator.free({page, 0});
    rig.resize(static_cast<std::uint32_t>(rig.driver->ballooned_pages() + pages.count));
  }
  [[nodiscard]] const DecodedMessage& last_message() const { return rig.device.messages.back(); }
  [[nodiscard]] PageRanges named_last() const { return merged(last_message().pages); }

  DriverRig rig;
};

// ---- the dialects with bitmaps ------------------------------------------------------------------

class FaithfulBitmapsTest : public ::testing::TestWithParam<Dialect> {
 protected:
  FaithfulDriver driver_{GetParam(), true};
  FaithfulDriver better_{GetParam(), false};
};

INSTANTIATE_TEST_SUITE_P(Bitmaps, FaithfulBitmapsTest,
                         ::testing::Values(Dialect::kPageBitmap, Dialect::kSingleHeaderBitmap),
                         testing::dialect_name);

TEST_P(FaithfulBitmapsTest, FirstInflationNamesItsPages) {
  driver_.inflate({1000, 20});

  EXPECT_THAT(driver_.named_last(), ElementsAre(PageRange{1000, 20}));
}

TEST_P(FaithfulBitmapsTest, OldPagesOfTheWindowAreNamedAgain) {
  driver_.inflate({2000, 100});

  driver_.inflate({1000, 20});

  EXPECT_THAT(driver_.named_last(), ElementsAre(PageRange{1000, 20}, PageRange{2000, 100}));
  EXPECT_EQ(driver_.rig.driver->ballooned_pages(), 120u);
}

TEST_P(FaithfulBitmapsTest, OldPagesBelowTheFirstWordAreNot) {
  driver_.inflate({1000, 20});

  driver_.inflate({2000, 100});

  EXPECT_THAT(driver_.named_last(), ElementsAre(PageRange{2000, 100}));
}

// Windows begin with a word: 960 to 1023.
TEST_P(FaithfulBitmapsTest, OldPagesOfTheFirstWordAreNamedAgain) {
  driver_.inflate({958, 4});

  driver_.inflate({1000, 20});

  EXPECT_THAT(driver_.named_last(), ElementsAre(PageRange{960, 2}, PageRange{1000, 20}));
}

TEST_P(FaithfulBitmapsTest, DeflationNamesOnlyWhatLeaves) {
  driver_.inflate({2000, 100});
  driver_.inflate({1000, 20});

  driver_.rig.resize(100);

  EXPECT_THAT(driver_.named_last(), ElementsAre(PageRange{1000, 20}));
}

TEST_P(FaithfulBitmapsTest, UnlessAskedForNothingIsNamedAgain) {
  better_.inflate({2000, 100});

  better_.inflate({1000, 20});

  EXPECT_THAT(better_.named_last(), ElementsAre(PageRange{1000, 20}));
}

TEST(FaithfulPageBitmapTest, SecondMessageIsThePublishedOneToTheByte) {
  FaithfulDriver driver(Dialect::kPageBitmap, true);
  driver.inflate({2003, 700});

  driver.inflate({1000, 20});

  EXPECT_THAT(published_bitmap_messages(pages_in({{1000, 20}, {2003, 700}})),
              ElementsAre(driver.last_message().payload));
}

TEST(FaithfulPageBitmapTest, SinglePageIsNamedByARecord) {
  FaithfulDriver driver(Dialect::kPageBitmap, true);

  driver.inflate({1000, 1});

  EXPECT_THAT(published_bitmap_messages({1000}), ElementsAre(driver.last_message().payload));
}

TEST(FaithfulSingleHeaderTest, SecondMessageIsThePublishedOneToTheByte) {
  FaithfulDriver driver(Dialect::kSingleHeaderBitmap, true);
  driver.inflate({2003, 700});

  driver.inflate({1000, 20});

  EXPECT_THAT(published_single_header_messages(pages_in({{1000, 20}, {2003, 700}}), kGuestPages),
              ElementsAre(driver.last_message().payload));
}

// ---- the other dialects -------------------------------------------------------------------------

TEST(FaithfulDriverTest, OtherDialectsNameNothingAgain) {
  FaithfulDriver driver(Dialect::kPageRange, true);
  driver.inflate({2000, 100});

  driver.inflate({1000, 20});

  EXPECT_THAT(driver.named_last(), ElementsAre(PageRange{1000, 20}));
}

TEST(FaithfulDriverTest, ChunksAreMadeOfSinglePages) {
  DriverRig rig(Dialect::kScatterGather);
  rig.options.faithful = true;
  rig.probe();

  rig.resize(1024);

  EXPECT_EQ(rig.driver->counters().allocations_by_order[0], 1024u);
}

TEST(FaithfulOptionsTest, ArraysKeepTheOrderOfAllocation) {
  EXPECT_EQ(sim::resolved({.faithful = true}).pfn_order, sim::PfnOrder::kAllocation);
  EXPECT_EQ(sim::resolved({}).pfn_order, sim::PfnOrder::kReversed);
}

TEST(FaithfulOptionsTest, OrderThatIsAskedForStays) {
  const sim::DriverOptions options{.faithful = true, .pfn_order = sim::PfnOrder::kReversed};

  EXPECT_EQ(sim::resolved(options).pfn_order, sim::PfnOrder::kReversed);
}

TEST(FaithfulOptionsTest, OthersKeepTheirThresholdAndTheirBlocks) {
  const sim::DriverOptions options = sim::resolved({.pfn_threshold_pages = 7, .chunk_order = 3});

  EXPECT_EQ(options.pfn_threshold_pages, 7u);
  EXPECT_EQ(options.chunk_order, 3u);
}

}  // namespace
}  // namespace vballoon
