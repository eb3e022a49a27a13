// SPDX-License-Identifier: MIT
// All formats: the same pages in, the same pages out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "wire/format_traits.h"

namespace vballoon::wire_test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// `count` different pages below `limit` in an arbitrary order.
std::vector<Pfn> scattered(std::size_t count, Pfn limit) {
  std::vector<Pfn> pages = every(1, 0, limit);
  std::shuffle(pages.begin(), pages.end(), std::mt19937_64(7));
  pages.resize(count);
  return pages;
}

std::vector<Pfn> any_pages() {
  const auto set = *rc::gen::nonEmpty(rc::gen::container<std::set<Pfn>>(
      rc::gen::mapcat(rc::gen::element<Pfn>(0, 4000, 262100, 1000000),
                      [](Pfn base) { return rc::gen::inRange<Pfn>(base, base + 300); })));
  return {set.begin(), set.end()};
}

template <typename Format>
class FormatTest : public ::testing::Test {
 protected:
  static void expect_same_back(const std::vector<Pfn>& pages,
                               std::size_t window_bytes = kPayloadWindowBytes) {
    const Decoded decoded = round_trip<Format>(pages, window_bytes);

    EXPECT_THAT(decoded.errors, IsEmpty());
    EXPECT_EQ(decoded.ranges, as_ranges(pages));
    EXPECT_LE(decoded.most_ranges_per_window, kMaxRangesPerWindow);
  }
};

using Formats =
    ::testing::Types<PfnArrayFormat, PageBitmapFormat, WrappedPfnArrayFormat, SingleHeaderFormat,
                     RangeListFormat, PageChunksFormat, ContPagesFormat, ChunkFormat>;
TYPED_TEST_SUITE(FormatTest, Formats);

TYPED_TEST(FormatTest, PageZeroComesBack) { this->expect_same_back({0}); }

// As published, a single page was dropped by the scatter-gather driver: its scan ended before the
// last page.
TYPED_TEST(FormatTest, SinglePageWithinAWordComesBack) { this->expect_same_back({0x1005}); }

TYPED_TEST(FormatTest, LastPageOfABitmapWindowComesBack) {
  this->expect_same_back({kBitmapWindowPages - 1});
}

TYPED_TEST(FormatTest, FirstPageOfANewBitmapWindowComesBack) {
  this->expect_same_back({0, kBitmapWindowPages});
}

TYPED_TEST(FormatTest, ContiguousPagesComeBackAsOneRange) {
  const Decoded decoded = round_trip<TypeParam>(every(1, 77, 70000));

  EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{77, 70000}));
}

TYPED_TEST(FormatTest, DescendingPagesComeBack) {
  std::vector<Pfn> pages = every(1, 1000, 70000);
  std::reverse(pages.begin(), pages.end());

  this->expect_same_back(pages);
}

TYPED_TEST(FormatTest, EveryOtherPageComesBack) { this->expect_same_back(every(2, 3, 40000)); }

TYPED_TEST(FormatTest, EveryThirdPageComesBack) { this->expect_same_back(every(3, 0, 40000)); }

TYPED_TEST(FormatTest, ScatteredPagesComeBack) { this->expect_same_back(scattered(40000, 300000)); }

TYPED_TEST(FormatTest, DenselyScatteredPagesComeBack) {
  this->expect_same_back(scattered(90000, 100000));
}

TYPED_TEST(FormatTest, RunAcrossAWordBoundComesBack) { this->expect_same_back(every(1, 60, 10)); }

TYPED_TEST(FormatTest, RunAcrossABitmapWindowComesBack) {
  this->expect_same_back(every(1, kBitmapWindowPages - 70, 200));
}

// As published, so was a last page with one clear page between it and the run before.
TYPED_TEST(FormatTest, LonePageBehindARunComesBack) { this->expect_same_back({5, 6, 7, 9}); }

TYPED_TEST(FormatTest, LastPageThatAnArrayCanNameComesBack) {
  this->expect_same_back({0xFFFFFFFE, 0xFFFFFFFF});
}

TYPED_TEST(FormatTest, WindowsThatCutEntriesLoseNothing) {
  this->expect_same_back(scattered(3000, 20000), 67);
}

TYPED_TEST(FormatTest, DecoderServesOneMessageAfterTheOther) {
  const std::unique_ptr<Decoder> decoder = make_decoder(TypeParam::kCodec);
  Decoded decoded;

  decode(*decoder, TypeParam::encode(every(1, 10, 1)).front(), decoded);
  decode(*decoder, TypeParam::encode(every(1, 11, 1)).front(), decoded);

  EXPECT_THAT(decoded.errors, IsEmpty());
  // Not merged: ranges of an earlier call stay as they are.
  EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{10, 1}, PageRange{11, 1}));
}

TYPED_TEST(FormatTest, AnyPagesComeBack) {
  EXPECT_TRUE(rc::check("any pages come back", [] {
    const std::vector<Pfn> pages = any_pages();

    const Decoded decoded = round_trip<TypeParam>(pages, *rc::gen::inRange<std::size_t>(72, 300));

    RC_ASSERT(decoded.errors.empty());
    RC_ASSERT(decoded.ranges == as_ranges(pages));
  }));
}

TYPED_TEST(FormatTest, AnyBytesAndBuffersAreBounded) {
  EXPECT_TRUE(rc::check("hostile messages give bounded ranges", [] {
    const auto bytes =
        *rc::gen::container<std::vector<std::uint8_t>>(rc::gen::arbitrary<std::uint8_t>());
    const auto lengths =
        *rc::gen::container<std::vector<std::uint32_t>>(rc::gen::arbitrary<std::uint32_t>());
    WireMessage message{words({std::uint64_t{bytes.size()} << 32}), {}};
    for (std::uint8_t byte : bytes) message.payload.push_back(std::byte{byte});
    for (std::uint32_t length : lengths)
      message.buffers.push_back({~std::uint64_t{length}, length});

    const Decoded decoded = decode(TypeParam::kCodec, message);

    RC_ASSERT(decoded.ranges.size() <= kMaxRangesPerWindow);
    RC_ASSERT(std::ranges::all_of(
        decoded.ranges, [](const PageRange& r) { return r.count != 0 && r.end() > r.first; }));
  }));
}

RC_GTEST_PROP(FormatsProperty, AllNameTheSamePages, ()) {
  const std::vector<Pfn> pages = any_pages();

  const auto array = round_trip<PfnArrayFormat>(pages).ranges;

  RC_ASSERT(array == round_trip<PageBitmapFormat>(pages).ranges);
  RC_ASSERT(array == round_trip<WrappedPfnArrayFormat>(pages).ranges);
  RC_ASSERT(array == round_trip<SingleHeaderFormat>(pages).ranges);
  RC_ASSERT(array == round_trip<RangeListFormat>(pages).ranges);
  RC_ASSERT(array == round_trip<PageChunksFormat>(pages).ranges);
  RC_ASSERT(array == round_trip<ContPagesFormat>(pages).ranges);
  RC_ASSERT(array == round_trip<ChunkFormat>(pages).ranges);
}

}  // namespace
}  // namespace vballoon::wire_test
