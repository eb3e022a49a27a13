// SPDX-License-Identifier: MIT
// The array of page frame numbers (src/wire/pfn_array.cc).
#include "wire/pfn_array.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <set>
#include <utility>

#include "wire/format_traits.h"

namespace vballoon::wire_test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Decoded decode_array(std::initializer_list<std::uint32_t> entries) {
  return decode(Codec::kPfnArray, {pfns(entries)});
}

// The array 10, 20, 30 with that many bytes missing at its end.
Decoded decode_without(std::size_t bytes) {
  WireMessage message{pfns({10, 20, 30})};
  message.payload.resize(message.payload.size() - bytes);
  return decode(Codec::kPfnArray, message);
}

TEST(PfnArrayEncoderTest, EntriesAreLittleEndian) {
  std::array<std::byte, 4> buffer{};
  PfnArrayEncoder encoder(buffer);

  ASSERT_TRUE(encoder.append(0x12345678));

  EXPECT_THAT(buffer,
              ElementsAre(std::byte{0x78}, std::byte{0x56}, std::byte{0x34}, std::byte{0x12}));
}

TEST(PfnArrayEncoderTest, FullBufferTakesNoMore) {
  std::array<std::byte, 7> buffer{};
  PfnArrayEncoder encoder(buffer);
  ASSERT_TRUE(encoder.append(1));

  EXPECT_FALSE(encoder.append(2));
  EXPECT_EQ(encoder.bytes(), 4u);
}

TEST(PfnArrayEncoderTest, ClearedBufferIsWrittenFromTheBeginning) {
  std::array<std::byte, 4> buffer{};
  PfnArrayEncoder encoder(buffer);
  ASSERT_TRUE(encoder.append(1));

  encoder.clear();

  EXPECT_TRUE(encoder.append(2));
  EXPECT_EQ(buffer[0], std::byte{2});
}

TEST(PfnArrayDecoderTest, AscendingNeighboursBecomeOneRange) {
  EXPECT_THAT(decode_array({5, 6, 7, 9}).ranges, ElementsAre(PageRange{5, 3}, PageRange{9, 1}));
}

TEST(PfnArrayDecoderTest, DescendingNeighboursBecomeOneRange) {
  EXPECT_THAT(decode_array({9, 8, 7, 5}).ranges, ElementsAre(PageRange{7, 3}, PageRange{5, 1}));
}

TEST(PfnArrayDecoderTest, OrderThatTurnsAroundNamesNoPageTwice) {
  EXPECT_THAT(decode_array({5, 6, 7, 4, 3, 8}).ranges, ElementsAre(PageRange{3, 6}));
}

TEST(PfnArrayDecoderTest, RepeatedPageStaysVisible) {
  EXPECT_THAT(decode_array({5, 6, 5}).ranges, ElementsAre(PageRange{5, 2}, PageRange{5, 1}));
}

TEST(PfnArrayDecoderTest, PageNumbersDoNotWrapUpwards) {
  EXPECT_THAT(decode_array({0xFFFFFFFF, 0}).ranges,
              ElementsAre(PageRange{0xFFFFFFFF, 1}, PageRange{0, 1}));
}

TEST(PfnArrayDecoderTest, LongRunDoesNotWrapUpwards) {
  WireMessage message;
  for (std::uint32_t i = 0; i < 40; ++i) {
    message.payload = message.payload + pfns({0xFFFFFFF0 + i});
  }

  EXPECT_THAT(decode(Codec::kPfnArray, message).ranges,
              ElementsAre(PageRange{0xFFFFFFF0, 16}, PageRange{0, 24}));
}

TEST(PfnArrayDecoderTest, LongRunDoesNotWrapDownwards) {
  WireMessage message;
  for (std::uint32_t i = 0; i < 40; ++i) message.payload = message.payload + pfns({15 - i});

  EXPECT_THAT(decode(Codec::kPfnArray, message).ranges,
              ElementsAre(PageRange{0, 16}, PageRange{0xFFFFFFE8, 24}));
}

TEST(PfnArrayDecoderTest, MessageWithoutEntriesIsMissingItsPayload) {
  const Decoded decoded = decode(Codec::kPfnArray, {});

  EXPECT_THAT(decoded.errors, ElementsAre(Errc::kPayloadMissing));
}

TEST(PfnArrayDecoderTest, PartOfAnEntryIsReportedAndWholeOnesHold) {
  const Decoded decoded = decode_without(1);

  EXPECT_THAT(decoded.errors, ElementsAre(Errc::kPayloadNotMultiple));
  EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{10, 1}, PageRange{20, 1}));
}

TEST(PfnArrayDecoderTest, AnyPartOfAnEntryIsReported) {
  EXPECT_THAT(decode_without(2).errors, ElementsAre(Errc::kPayloadNotMultiple));
  EXPECT_THAT(decode_without(3).errors, ElementsAre(Errc::kPayloadNotMultiple));
}

TEST(PfnArrayDecoderTest, ArrayCutBetweenEntriesIsAShorterArray) {
  const Decoded decoded = decode_without(4);

  EXPECT_THAT(decoded.errors, IsEmpty());
  EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{10, 1}, PageRange{20, 1}));
}

TEST(PfnArrayDecoderTest, LessThanOneEntryNamesNothing) {
  const Decoded decoded = decode_without(11);

  EXPECT_THAT(decoded.errors, ElementsAre(Errc::kPayloadNotMultiple));
  EXPECT_THAT(decoded.ranges, IsEmpty());
}

TEST(PfnArrayDecoderTest, EachWritableBufferIsRefusedAndEntriesHold) {
  const Decoded decoded =
      decode(Codec::kPfnArray, {pfns({10}), {{0x1000, 0x1000}, {0x2000, 0x1000}}});

  EXPECT_THAT(decoded.errors, ElementsAre(Errc::kUnexpectedWritable, Errc::kUnexpectedWritable));
  EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{10, 1}));
}

RC_GTEST_PROP(PfnArrayProperty, AnyOrderNamesEachEntryOnce, ()) {
  // Small numbers, so that neighbours, turns and repetitions are frequent.
  const auto entries = *rc::gen::nonEmpty(
      rc::gen::container<std::vector<std::uint32_t>>(rc::gen::inRange<std::uint32_t>(0, 40)));
  WireMessage message;
  for (std::uint32_t entry : entries) message.payload = message.payload + pfns({entry});

  std::multiset<Pfn> named;
  for (const PageRange& range : decode(Codec::kPfnArray, message).ranges) {
    for (Pfn page = range.first; page < range.end(); ++page) named.insert(page);
  }

  RC_ASSERT(named == std::multiset<Pfn>(entries.begin(), entries.end()));
}

RC_GTEST_PROP(PfnArrayProperty, LongRunsOfAnyDirectionNameEachEntryOnce, ()) {
  const auto runs = *rc::gen::nonEmpty(rc::gen::container<std::vector<std::pair<Pfn, int>>>(
      rc::gen::pair(rc::gen::inRange<Pfn>(100, 400), rc::gen::inRange(-60, 60))));
  std::vector<Pfn> entries;
  for (const auto& [first, length] : runs) {
    for (int i = 0; i != length; i += length > 0 ? 1 : -1) {
      entries.push_back(first + static_cast<Pfn>(i));
    }
  }
  RC_PRE(!entries.empty());

  std::multiset<Pfn> named;
  for (const PageRange& range :
       decode(Codec::kPfnArray, PfnArrayFormat::encode(entries).front()).ranges) {
    for (Pfn page = range.first; page < range.end(); ++page) named.insert(page);
  }

  RC_ASSERT(named == std::multiset<Pfn>(entries.begin(), entries.end()));
}

// ---- 64-bit entries ----------------------------------------------------------------------------

std::vector<std::byte> wide_pfns(std::initializer_list<std::uint64_t> values) {
  return words(values);
}

TEST(WidePfnArrayTest, ArrayWhoseOddWordsAreZeroHas64BitEntries) {
  const Decoded decoded = decode(Codec::kWidePfnArray, {wide_pfns({7, 8, 100})});

  EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{7, 2}, PageRange{100, 1}));
  EXPECT_THAT(decoded.errors, IsEmpty());
}

TEST(WidePfnArrayTest, ArrayWithAnOddWordThatIsNotZeroHas32BitEntries) {
  const Decoded decoded = decode(Codec::kWidePfnArray, {pfns({7, 0, 100, 5})});

  EXPECT_EQ(decoded.ranges.size(), 4u);
}

TEST(WidePfnArrayTest, OddNumberOfWordsHas32BitEntries) {
  const Decoded decoded = decode(Codec::kWidePfnArray, {pfns({7, 0, 100})});

  EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{7, 1}, PageRange{0, 1}, PageRange{100, 1}));
}

TEST(WidePfnArrayTest, PageZeroItselfCanBeNamed) {
  EXPECT_THAT(decode(Codec::kWidePfnArray, {wide_pfns({0})}).ranges, ElementsAre(PageRange{0, 1}));
}

TEST(WidePfnArrayTest, WithoutTheOptionPageZeroIsNamedInBetween) {
  EXPECT_THAT(decode(Codec::kPfnArray, {wide_pfns({7})}).ranges,
              ElementsAre(PageRange{7, 1}, PageRange{0, 1}));
}

TEST(WidePfnArrayTest, MessageOfMoreThanAWindowHas32BitEntries) {
  const std::vector<std::byte> zeros(2 * kPayloadWindowBytes);

  EXPECT_EQ(decode(Codec::kWidePfnArray, {zeros}).ranges.size(), zeros.size() / kPfnEntryBytes);
}

}  // namespace
}  // namespace vballoon::wire_test
