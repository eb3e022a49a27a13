// SPDX-License-Identifier: MIT
// The page bitmap (src/wire/page_bitmap.cc).
#include "wire/page_bitmap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <random>

#include "base/page_ranges.h"
#include "wire/format_traits.h"

namespace vballoon::wire_test {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::uint64_t head(Pfn start, unsigned page_shift, unsigned bitmap_bytes) {
  return start | std::uint64_t{page_shift} << 52 | std::uint64_t{bitmap_bytes} << 58;
}

// The words of the data that name these ranges; the bitmap begins at page `base`.
std::vector<std::uint64_t> encode_words(Pfn base, std::initializer_list<PageRange> ranges) {
  PageSet set(kBitmapWindowPages);
  for (PageRange range : ranges) set.add({range.first - base, range.count});
  std::vector<std::byte> data(kBitmapDataBytes);
  PageBitmapEncoder encoder(set.words(), base);
  data.resize(encoder.encode(data));
  EXPECT_TRUE(encoder.done());

  std::vector<std::uint64_t> out;
  for (std::size_t at = 0; at < data.size(); at += 8) {
    out.push_back(load_le<std::uint64_t>(data.data() + at));
  }
  return out;
}

Decoded decode_records(std::initializer_list<std::uint64_t> data) {
  return decode(Codec::kPageBitmap, bitmap_message(BitmapCommand::kRecords, words(data)));
}

Decoded decode_raw(const std::vector<std::byte>& payload) {
  return decode(Codec::kPageBitmap, {payload});
}

// The errors of all payloads that are shorter than this one.
std::vector<Errc> errors_of_all_cuts(const std::vector<std::byte>& whole) {
  std::vector<Errc> errors;
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    const Decoded decoded = decode_raw({whole.begin(), whole.begin() + static_cast<long>(bytes)});
    errors.insert(errors.end(), decoded.errors.begin(), decoded.errors.end());
  }
  return errors;
}

// Random well-formed records, and what they mean read bit by bit.
struct RandomRecords {
  std::vector<std::byte> data = {};
  PageRanges pages = {};

  RandomRecords(std::uint64_t seed, std::size_t bytes) {
    std::mt19937_64 random(seed);
    while (data.size() < bytes) {
      const Pfn start = random() % 100000;
      const auto shift = static_cast<unsigned>(12 + random() % 3 / 2 * (random() % 40));
      const auto count = static_cast<unsigned>(random() % 8);
      data = data + words({head(start, shift, count * 8)});
      if (count == 0) add(start, shift);
      for (unsigned i = 0; i < count; ++i) add_word(start, shift, i, random() & random());
    }
  }

  void add(Pfn first, unsigned shift) {
    pages.push_back({first, std::uint64_t{1} << (shift - 12)});
  }

  void add_word(Pfn start, unsigned shift, unsigned index, std::uint64_t word) {
    data = data + words({word});
    for (std::uint64_t i = 0; i < 64; ++i) {
      if ((word >> i & 1) != 0) add(start + ((index * 64 + i) << (shift - 12)), shift);
    }
  }
};

// The published test vectors: pages in, words of the data out.
TEST(PageBitmapVectorTest, V1LonePage) {
  EXPECT_THAT(encode_words(0x1000, {{0x1005, 1}}), ElementsAre(0x20c0000000001000, 0x20));
}

TEST(PageBitmapVectorTest, V2WholeWord) {
  EXPECT_THAT(encode_words(0x2000, {{0x2000, 64}}), ElementsAre(0x0120000000002000));
}

TEST(PageBitmapVectorTest, V3RunWithRaggedEnds) {
  EXPECT_THAT(encode_words(0x2000, {{0x2005, 512}}),
              ElementsAre(0x20c0000000002000, 0xffffffffffffffe0, 0x20c0000000002200, 0x1f,
                          0x0140000000002040, 0x0130000000002140, 0x01200000000021c0));
}

TEST(PageBitmapVectorTest, V4EveryOtherPage) {
  const auto message = PageBitmapFormat::encode(every(2, 0x3000, 64)).front();

  EXPECT_EQ(message.payload, words({0x0000002000000000, 0x20c0000000003000, 0x5555555555555555,
                                    0x20c0000000003040, 0x5555555555555555}));
}

TEST(PageBitmapVectorTest, V5RunsThatShareWords) {
  EXPECT_THAT(encode_words(0x40, {{0x40, 8}, {0x60, 0x30}, {0x98, 0x68}}),
              ElementsAre(0x20c0000000000040, 0xffffffff000000ff, 0x20c0000000000080,
                          0xffffffffff00ffff, 0x01200000000000c0));
}

TEST(PageBitmapVectorTest, V6AlignedBlock) {
  EXPECT_THAT(encode_words(0x400, {{0x400, 0x400}}), ElementsAre(0x0160000000000400));
}

TEST(PageBitmapVectorTest, V7BlocksLargestFirst) {
  EXPECT_THAT(encode_words(0, {{0, 0xc0}}), ElementsAre(0x0130000000000000, 0x0120000000000080));
}

TEST(PageBitmapHeaderTest, NamesCommandAndLength) {
  std::array<std::byte, kBitmapHeaderBytes> header{};

  write_bitmap_header(header, BitmapCommand::kPfnArray, 0x20);

  EXPECT_EQ(load_le<std::uint64_t>(header.data()), 0x0000002000000001u);
}

TEST(PageBitmapEncoderTest, EmptyBitmapIsDoneAtOnce) {
  const std::vector<std::uint64_t> bitmap(10);

  EXPECT_TRUE(PageBitmapEncoder(bitmap, 0).done());
}

TEST(PageBitmapEncoderTest, BufferIsGivenBackWhenFewerThan64WordsAreLeft) {
  const std::vector<std::uint64_t> bitmap(1000, 1);
  std::vector<std::byte> data(1024);
  PageBitmapEncoder encoder(bitmap, 0);

  // 128 words: records of 2 are begun while 64 words or more are free.
  EXPECT_EQ(encoder.encode(data), 66u * 8);
  EXPECT_FALSE(encoder.done());
}

TEST(PageBitmapEncoderTest, LastMessageIsNeverEmpty) {
  // 33 words fill the buffer up to the limit; nothing but zeros stands behind them.
  std::vector<std::uint64_t> bitmap(1000);
  std::fill_n(bitmap.begin(), 33, 1);
  std::vector<std::byte> data(1024);
  PageBitmapEncoder encoder(bitmap, 0);

  EXPECT_EQ(encoder.encode(data), 66u * 8);
  EXPECT_TRUE(encoder.done());
  EXPECT_EQ(encoder.encode(data), 0u);
}

TEST(PageBitmapEncoderTest, SmallBuffersNameTheSamePagesAsALargeOne) {
  const std::vector<std::uint64_t> bitmap(1000, 0x8000000000000001);
  std::vector<std::byte> data(1024);
  PageBitmapEncoder encoder(bitmap, 0x1000);
  Decoded decoded;
  PageBitmapDecoder decoder;

  while (const std::size_t bytes = encoder.encode(data)) {
    const std::vector<std::byte> part(data.begin(),
                                      data.begin() + static_cast<std::ptrdiff_t>(bytes));
    decode(decoder, bitmap_message(BitmapCommand::kRecords, part), decoded);
  }

  EXPECT_EQ(sort_and_merge(decoded.ranges), 0u);
  EXPECT_EQ(decoded.ranges.size(), 1001u);
}

TEST(PageBitmapDecoderTest, WordRecordBecomesItsRuns) {
  EXPECT_THAT(decode_records({head(64, 12, 8), 0b1011}).ranges,
              ElementsAre(PageRange{64, 2}, PageRange{67, 1}));
}

TEST(PageBitmapDecoderTest, BlockRecordNeedNotBeAligned) {
  EXPECT_THAT(decode_records({head(5, 21, 0)}).ranges, ElementsAre(PageRange{5, 512}));
}

TEST(PageBitmapDecoderTest, BitsOfALargePageRecordAreLargePages) {
  EXPECT_THAT(decode_records({head(1024, 21, 8), 0b1101}).ranges,
              ElementsAre(PageRange{1024, 512}, PageRange{1024 + 2 * 512, 1024}));
}

TEST(PageBitmapDecoderTest, RecordOfSeveralWordsIsOneBitmap) {
  EXPECT_THAT(decode_records({head(64, 12, 16), std::uint64_t{1} << 63, 0b101}).ranges,
              ElementsAre(PageRange{127, 2}, PageRange{130, 1}));
}

TEST(PageBitmapDecoderTest, RunAcrossRecordsIsMerged) {
  EXPECT_THAT(
      decode_records({head(0, 12, 8), std::uint64_t{1} << 63, head(64, 18, 0), head(128, 12, 8), 1})
          .ranges,
      ElementsAre(PageRange{63, 66}));
}

TEST(PageBitmapDecoderTest, WordOfZerosNamesNothing) {
  const Decoded decoded = decode_records({head(64, 12, 8), 0});

  EXPECT_THAT(decoded.errors, IsEmpty());
  EXPECT_THAT(decoded.ranges, IsEmpty());
}

TEST(PageBitmapDecoderTest, HighestRecordDoesNotOverflow) {
  const Pfn last = (Pfn{1} << 52) - 1;
  const std::uint64_t block = std::uint64_t{1} << 39;

  const Decoded decoded =
      decode_records({head(last, 51, 56), 0, 0, 0, 0, 0, 0, std::uint64_t{1} << 63});

  EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{last + 447 * block, block}));
}

TEST(PageBitmapDecoderTest, ArrayCommandReadsPageNumbers) {
  const Decoded decoded =
      decode(Codec::kPageBitmap, bitmap_message(BitmapCommand::kPfnArray, pfns({0, 1, 9})));

  EXPECT_THAT(decoded.errors, IsEmpty());
  EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{0, 2}, PageRange{9, 1}));
}

TEST(PageBitmapDecoderTest, FlagAndIdAreNotLookedAt) {
  EXPECT_THAT(decode_raw(words({0x00000008FFFFFF00, head(7, 12, 0)})).ranges,
              ElementsAre(PageRange{7, 1}));
}

TEST(PageBitmapDecoderTest, EmptyMessageIsMissingItsPayload) {
  EXPECT_THAT(decode_raw({}).errors, ElementsAre(Errc::kPayloadMissing));
}

TEST(PageBitmapDecoderTest, PartOfAHeaderIsRefused) {
  EXPECT_THAT(decode_raw(std::vector<std::byte>(7)).errors, ElementsAre(Errc::kBadMessageHeader));
}

TEST(PageBitmapDecoderTest, UnknownCommandIsRefused) {
  EXPECT_THAT(decode_raw(words({0x0000000800000002, head(7, 12, 0)})).errors,
              ElementsAre(Errc::kBadMessageHeader));
}

TEST(PageBitmapDecoderTest, LengthBeyondThePayloadIsRefused) {
  const Decoded decoded = decode_raw(words({0x0000001000000000, head(7, 12, 0)}));

  EXPECT_THAT(decoded.errors, ElementsAre(Errc::kBadMessageHeader));
  EXPECT_THAT(decoded.ranges, IsEmpty());
}

TEST(PageBitmapDecoderTest, BytesBehindTheLengthAreRefused) {
  EXPECT_THAT(decode_raw(words({0x0000000800000000, head(7, 12, 0), 0})).errors,
              ElementsAre(Errc::kBadMessageHeader));
}

TEST(PageBitmapDecoderTest, RecordsThatAreNoWholeWordsAreRefused) {
  EXPECT_THAT(
      decode(Codec::kPageBitmap, bitmap_message(BitmapCommand::kRecords, pfns({1, 2, 3}))).errors,
      ElementsAre(Errc::kBadMessageHeader));
}

TEST(PageBitmapDecoderTest, ArrayThatIsNoWholeEntriesIsRefused) {
  EXPECT_THAT(decode(Codec::kPageBitmap,
                     bitmap_message(BitmapCommand::kPfnArray, std::vector<std::byte>(6)))
                  .errors,
              ElementsAre(Errc::kBadMessageHeader));
}

TEST(PageBitmapDecoderTest, PagesSmallerThan4KiBAreRefusedAndEarlierRecordsHold) {
  const Decoded decoded = decode_records({head(7, 12, 0), head(9, 11, 0)});

  EXPECT_THAT(decoded.errors, ElementsAre(Errc::kBadRecord));
  EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{7, 1}));
}

TEST(PageBitmapDecoderTest, PagesLargerThanTheAddressSpaceAreRefused) {
  EXPECT_THAT(decode_records({head(0, 52, 0)}).errors, ElementsAre(Errc::kBadRecord));
}

TEST(PageBitmapDecoderTest, BitmapThatIsNoWholeWordsIsRefused) {
  EXPECT_THAT(decode_records({head(0, 12, 9), 1, 1}).errors, ElementsAre(Errc::kBadRecord));
}

TEST(PageBitmapDecoderTest, RecordBeyondTheDataIsRefused) {
  EXPECT_THAT(decode_records({head(7, 12, 0), head(0, 12, 16), 1}).errors,
              ElementsAre(Errc::kBadRecord));
}

TEST(PageBitmapDecoderTest, WritableBufferIsRefusedAndRecordsHold) {
  WireMessage message = bitmap_message(BitmapCommand::kRecords, words({head(7, 12, 0)}));
  message.buffers.push_back({0x1000, 0x1000});

  const Decoded decoded = decode(Codec::kPageBitmap, message);

  EXPECT_THAT(decoded.errors, ElementsAre(Errc::kUnexpectedWritable));
  EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{7, 1}));
}

TEST(PageBitmapDecoderTest, PayloadCutAtAnyByteIsRefused) {
  const std::vector<std::byte> whole =
      words({0x0000003000000000, head(7, 12, 0), head(64, 12, 16), 5, 5, head(256, 18, 8), 3});
  ASSERT_THAT(decode_raw(whole).errors, IsEmpty());

  EXPECT_THAT(
      errors_of_all_cuts(whole),
      AllOf(SizeIs(whole.size()), Each(AnyOf(Errc::kPayloadMissing, Errc::kBadMessageHeader))));
}

TEST(PageBitmapDecoderTest, MessageThatIsGivenUpWithinItsHeaderFailsAtItsEnd) {
  PageBitmapDecoder decoder;
  ASSERT_EQ(decoder.begin(16, 0), std::nullopt);

  EXPECT_EQ(decoder.end(), Errc::kBadMessageHeader);
}

TEST(PageBitmapDecoderTest, MessageThatIsGivenUpWithinItsRecordsFailsAtItsEnd) {
  const WireMessage message = bitmap_message(BitmapCommand::kRecords, words({head(7, 12, 8), 1}));
  PageBitmapDecoder decoder;
  PageRanges ranges;
  ASSERT_EQ(decoder.begin(message.payload.size(), 0), std::nullopt);
  ASSERT_EQ(decoder.payload(std::span(message.payload).first(16), ranges).consumed, 8u);

  EXPECT_EQ(decoder.end(), Errc::kBadRecord);
}

// Records cut at any word, under a header that fits what is left.
TEST(PageBitmapApartTest, EveryOtherPageIsApartWhicheverPageItBeginsWith) {
  constexpr std::uint64_t kEven = 0x5555555555555555;

  EXPECT_TRUE(decode_records({head(0, 12, 16), kEven, kEven}).apart);
  EXPECT_TRUE(decode_records({head(0, 12, 16), kEven << 1, kEven << 1}).apart);
}

TEST(PageBitmapApartTest, RunAcrossWordsIsOneRangeAndApart) {
  const Decoded decoded = decode_records({head(0, 12, 16), ~std::uint64_t{0} << 60, 0xF00F});

  EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{60, 8}, PageRange{76, 4}));
  EXPECT_TRUE(decoded.apart);
}

TEST(PageBitmapApartTest, RunThatIsCutAtAByteIsNot) {
  EXPECT_FALSE(decode_records({head(0, 12, 8), 0x55555555555555D5 | 0x100}).apart);
}

TEST(PageBitmapApartTest, RecordBelowTheOneBeforeIsNot) {
  EXPECT_FALSE(decode_records({head(64, 12, 8), 1, head(0, 12, 8), 1}).apart);
  EXPECT_FALSE(decode_records({head(64, 18, 0), head(0, 18, 0)}).apart);
}

TEST(PageBitmapApartTest, RecordInsideTheOneBeforeIsNot) {
  EXPECT_FALSE(decode_records({head(0, 18, 0), head(0, 12, 8), 0x10}).apart);
  EXPECT_FALSE(decode_records({head(0, 18, 0), head(32, 12, 0)}).apart);
}

RC_GTEST_PROP(PageBitmapProperty, RecordsCutAnywhereGiveAPrefix, ()) {
  std::vector<std::byte> data =
      words({head(7, 12, 0), head(64, 12, 16), 5, 5, head(256, 18, 8), 3});
  const PageRanges all =
      decode(Codec::kPageBitmap, bitmap_message(BitmapCommand::kRecords, data)).ranges;
  data.resize(*rc::gen::inRange<std::size_t>(0, 6) * 8);

  const Decoded decoded = decode(Codec::kPageBitmap, bitmap_message(BitmapCommand::kRecords, data));

  RC_ASSERT(decoded.ranges.size() <= all.size());
  RC_ASSERT(std::equal(decoded.ranges.begin(), decoded.ranges.end(), all.begin()));
}

// Each bit stands for its page, whatever the pattern: read against a bit-by-bit model.
RC_GTEST_PROP(PageBitmapProperty, AnyWordsNameTheirBits, (std::uint64_t a, std::uint64_t b)) {
  const auto shift = *rc::gen::inRange(12u, 16u);
  const std::uint64_t block = std::uint64_t{1} << (shift - 12);
  PageRanges expected;
  for (std::uint64_t i = 0; i < 128; ++i) {
    const std::uint64_t word = i < 64 ? a : b;
    if ((word >> (i % 64) & 1) != 0) expected.push_back({1000 + i * block, block});
  }
  sort_and_merge(expected);

  Decoded decoded = decode_records({head(1000, shift, 16), a, b});

  RC_ASSERT(decoded.errors.empty());
  RC_ASSERT(sort_and_merge(decoded.ranges) == 0u);
  RC_ASSERT(decoded.ranges == expected);
}

RC_GTEST_PROP(PageBitmapProperty, AnyRecordsInWindowsNameTheirBits, (std::uint64_t seed)) {
  RandomRecords records(seed, 2000);

  Decoded decoded =
      decode(Codec::kPageBitmap, bitmap_message(BitmapCommand::kRecords, records.data),
             *rc::gen::inRange<std::size_t>(72, 2100));

  RC_ASSERT(decoded.errors.empty());
  RC_ASSERT(decoded.most_ranges_per_window <= kMaxRangesPerWindow);
  RC_ASSERT(sort_and_merge(decoded.ranges) == sort_and_merge(records.pages));
  RC_ASSERT(decoded.ranges == records.pages);
}

}  // namespace
}  // namespace vballoon::wire_test
