// SPDX-License-Identifier: MIT
// Messages as the driver's own encoders write them, through a ring and the whole device: what they
// name is discarded, in every format, wherever descriptors cut them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "base/page_ranges.h"
#include "device/device_fixture.h"
#include "wire/format_traits.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kHigh;
using testing::kLowPages;
using testing::Message;
using testing::Rig;
using wire_test::every;

// Where a format is spoken.
struct Place {
  Dialect dialect;
  std::uint16_t inflate_queue;
};
Place place_of(Codec codec) {
  for (const DialectRow& row : all_dialects()) {
    const QueueMap map = number_queues(row, {}, QueueNumbering::kDense);
    for (std::uint16_t i = 0; i < map.size(); ++i) {
      if (map[i] != nullptr && map[i]->codec == codec) return {row.dialect, i};
    }
  }
  throw std::invalid_argument("no dialect has this format");
}

template <typename Format>
class FormatRingTest : public ::testing::Test {
 protected:
  // Entries of any format stand across the bounds of such descriptors; at most 60 of them.
  static Message in_descriptors(const wire_test::WireMessage& message) {
    Message whole{{}, message.buffers};
    if (!message.payload.empty()) whole.pieces.push_back(message.payload);
    return testing::cut(whole, message.payload.size() / 60 * 2 + 3);
  }
  static void expect_discarded(const std::vector<Pfn>& pages) {
    const auto [dialect, queue] = place_of(Format::kCodec);
    Rig rig({.device = testing::speaking(dialect)});
    rig.start();

    for (const wire_test::WireMessage& message : Format::encode(pages)) {
      rig.send(queue, in_descriptors(message));
      rig.serve(queue);
      ASSERT_THAT(rig.completed(queue), ElementsAre(0u));
    }

    PageRanges discarded = rig.discarded();
    EXPECT_EQ(sort_and_merge(discarded), 0u) << "pages discarded twice";
    EXPECT_EQ(discarded, wire_test::as_ranges(pages));
    EXPECT_THAT(rig.all_errors(), IsEmpty());
  }
};

using Formats = ::testing::Types<wire_test::PfnArrayFormat, wire_test::PageBitmapFormat,
                                 wire_test::WrappedPfnArrayFormat, wire_test::SingleHeaderFormat,
                                 wire_test::RangeListFormat, wire_test::PageChunksFormat,
                                 wire_test::ChunkFormat>;
TYPED_TEST_SUITE(FormatRingTest, Formats);

TYPED_TEST(FormatRingTest, PageZeroIsDiscarded) { this->expect_discarded({0}); }

TYPED_TEST(FormatRingTest, RunUpToTheHoleIsDiscarded) {
  this->expect_discarded(every(1, 1, kLowPages - 1));
}

TYPED_TEST(FormatRingTest, DescendingRunIsDiscarded) {
  std::vector<Pfn> pages = every(1, kHigh, 300);
  std::ranges::reverse(pages);

  this->expect_discarded(pages);
}

TYPED_TEST(FormatRingTest, EveryOtherPageIsDiscarded) { this->expect_discarded(every(2, 1, 500)); }

TYPED_TEST(FormatRingTest, ScatteredPagesOfBothRegionsAreDiscarded) {
  std::vector<Pfn> pages = every(3, 0, 300);
  for (const Pfn page : every(5, kHigh, 100)) pages.push_back(page);
  std::ranges::shuffle(pages, std::mt19937_64(7));

  this->expect_discarded(pages);
}

TYPED_TEST(FormatRingTest, AnyPagesAreDiscarded) {
  EXPECT_TRUE(rc::check("any pages are discarded", [this] {
    const auto pages =
        *rc::gen::nonEmpty(rc::gen::container<std::set<Pfn>>(rc::gen::inRange<Pfn>(0, kLowPages)));

    this->expect_discarded({pages.begin(), pages.end()});
  }));
}

}  // namespace
}  // namespace vballoon
