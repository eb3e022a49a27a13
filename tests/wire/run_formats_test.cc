// SPDX-License-Identifier: MIT
// The later formats of the page bitmap's lineage and continuous pages, byte by byte (src/wire:
// single_header.cc, range_list.cc, page_chunks.cc, cont_pages.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "wire/format_traits.h"

namespace vballoon::wire_test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr Pfn kEnd = Pfn{1} << 52;

std::vector<std::byte> bytes_of_32(std::initializer_list<std::uint32_t> values) {
  return pfns(values);
}

// ---- one bitmap behind one header ---------------------------------------------------------------

struct SingleHeader {
  std::uint16_t command = 0;
  std::uint16_t page_shift = 12;
  std::uint64_t start = 64;
  std::uint64_t bitmap_bytes = 8;
};

WireMessage single(const SingleHeader& header, std::initializer_list<std::uint64_t> bitmap) {
  return {words({header.command | std::uint64_t{header.page_shift} << 16, 0, header.start,
                 header.bitmap_bytes}) +
          words(bitmap)};
}
Decoded decode_single(const SingleHeader& header, std::initializer_list<std::uint64_t> bitmap) {
  return decode(Codec::kSingleHeader, single(header, bitmap));
}

TEST(SingleHeaderTest, MessageIsAHeaderOf32BytesAndTheBitmap) {
  std::vector<std::byte> message(kSingleHeaderBytes + 16, std::byte{0xFF});
  const std::array<std::uint64_t, 2> bitmap{0x21, 0x8000000000000000};

  EXPECT_EQ(write_single_header_message(message, 0x1000, bitmap), message.size());

  EXPECT_EQ(message, words({0x000C0000, 0, 0x1000, 16, 0x21, 0x8000000000000000}));
}

// As published it fell out of the bitmap: the end was rounded as if it were behind the last page.
TEST(SingleHeaderTest, LastPageAtAMultipleOf64IsNamed) {
  const auto messages = SingleHeaderFormat::encode(every(64, 64, 2));

  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(messages[0].payload, words({0x000C0000, 0, 64, 16, 1, 1}));
}

// As published such windows named pages at another place.
TEST(SingleHeaderTest, SecondWindowBeginsBehindTheFirst) {
  const std::array<Pfn, 2> pages{10, kSingleWindowPages + 70};

  const auto messages = SingleHeaderFormat::encode(pages);

  ASSERT_THAT(messages, SizeIs(2));
  EXPECT_EQ(load_le<std::uint64_t>(messages[1].payload.data() + 16), kSingleWindowPages);
}

TEST(SingleHeaderTest, BitsAreBlocksOfThePageShift) {
  const Decoded decoded = decode_single({.page_shift = 14}, {0b1011});

  EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{64, 8}, PageRange{76, 4}));
}

TEST(SingleHeaderTest, EmptyBitmapNamesNothing) {
  const Decoded decoded = decode_single({.bitmap_bytes = 0}, {});

  EXPECT_THAT(decoded.errors, IsEmpty());
  EXPECT_THAT(decoded.ranges, IsEmpty());
}

TEST(SingleHeaderTest, HeaderThatIsCutIsRefused) {
  const auto whole = single({}, {1}).payload;
  for (std::size_t bytes = 1; bytes < kSingleHeaderBytes; ++bytes) {
    const WireMessage cut{{whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(bytes)}};
    EXPECT_THAT(decode(Codec::kSingleHeader, cut).errors, ElementsAre(Errc::kBadMessageHeader));
  }
}

TEST(SingleHeaderTest, HeadersThatDoNotFitAreRefused) {
  for (const SingleHeader& header :
       {SingleHeader{.command = 1}, SingleHeader{.page_shift = 11}, SingleHeader{.page_shift = 52},
        SingleHeader{.bitmap_bytes = 16}, SingleHeader{.bitmap_bytes = 0},
        SingleHeader{.bitmap_bytes = 7}, SingleHeader{.start = kEnd},
        SingleHeader{.start = kEnd - 63}, SingleHeader{.start = ~std::uint64_t{0}}}) {
    const Decoded decoded = decode_single(header, {~std::uint64_t{0}});

    EXPECT_THAT(decoded.errors, ElementsAre(Errc::kBadMessageHeader));
    EXPECT_THAT(decoded.ranges, IsEmpty());
  }
}

TEST(SingleHeaderTest, LastBlocksBelowTheEndAreRead) {
  const Decoded small = decode_single({.start = kEnd - 64}, {~std::uint64_t{0}});
  const Decoded large = decode_single({.page_shift = 51, .start = 0}, {~std::uint64_t{0}});

  EXPECT_THAT(small.ranges, ElementsAre(PageRange{kEnd - 64, 64}));
  EXPECT_THAT(large.ranges, ElementsAre(PageRange{0, std::uint64_t{64} << 39}));
}

// ---- a list of ranges ---------------------------------------------------------------------------

Decoded decode_list(std::initializer_list<std::uint64_t> data) {
  return decode(Codec::kRangeList, bitmap_message(BitmapCommand::kRecords, words(data)));
}
std::vector<std::byte> list_of(std::initializer_list<PageRange> runs) {
  std::vector<std::byte> data(1024);
  RangeListEncoder encoder(data);
  for (const PageRange& run : runs) EXPECT_TRUE(encoder.append(run));
  data.resize(encoder.bytes());
  return data;
}

TEST(RangeListTest, ShortRunsTakeOneWordAndLongOnesTwo) {
  EXPECT_EQ(list_of({{0x1005, 1}, {0x2000, 4095}, {0x4000, 4097}}),
            words({0x1005001, 0x2000FFF, 0x4000000, 4097}));
}

// As published its count spilled over into the page.
TEST(RangeListTest, RunOf4096PagesTakesTwoWords) {
  EXPECT_EQ(list_of({{0x2000, 4096}}), words({0x2000000, 4096}));
}

TEST(RangeListTest, DataIsFullWhenTheLongerFormHasNoRoom) {
  std::vector<std::byte> data(24);
  RangeListEncoder encoder(data);

  EXPECT_TRUE(encoder.append({1, 1}));
  EXPECT_TRUE(encoder.append({3, 1}));
  EXPECT_FALSE(encoder.append({5, 1}));
  EXPECT_EQ(encoder.bytes(), 16u);
}

TEST(RangeListTest, BothFormsAreRead) {
  EXPECT_THAT(decode_list({0x1005001, 0x4000000, 5000}).ranges,
              ElementsAre(PageRange{0x1005, 1}, PageRange{0x4000, 5000}));
}

TEST(RangeListTest, CountThatIsMissingIsNotedAndTheRangesBeforeHold) {
  const Decoded decoded = decode_list({0x1005001, 0x4000000});

  EXPECT_THAT(decoded.errors, ElementsAre(Errc::kBadRecord));
  EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{0x1005, 1}));
}

TEST(RangeListTest, CountOfNoneOrTooManyEndsTheMessage) {
  for (const std::uint64_t count : {std::uint64_t{0}, kEnd + 1, ~std::uint64_t{0}}) {
    const Decoded decoded = decode_list({0x1005001, 0x4000000, count, 0x9000001});

    EXPECT_THAT(decoded.errors, ElementsAre(Errc::kBadRecord));
    EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{0x1005, 1}));
  }
}

TEST(RangeListTest, OtherCommandsAndLengthsAreRefused) {
  const auto refused = [](std::uint64_t header) {
    return decode(Codec::kRangeList, {words({header, 0x1005001})}).errors;
  };
  EXPECT_THAT(refused(std::uint64_t{8} << 32 | 1), ElementsAre(Errc::kBadMessageHeader));
  EXPECT_THAT(refused(std::uint64_t{16} << 32), ElementsAre(Errc::kBadMessageHeader));
  EXPECT_THAT(refused(std::uint64_t{4} << 32), ElementsAre(Errc::kBadMessageHeader));
}

// ---- a counted list of chunks -------------------------------------------------------------------

Decoded decode_chunks(std::initializer_list<std::uint64_t> message) {
  return decode(Codec::kPageChunks, {words(message)});
}

TEST(PageChunksTest, MessageIsACountAndPairsInTheUpper52Bits) {
  std::vector<std::byte> message(kPageChunksMessageBytes);
  PageChunksEncoder encoder(message);
  ASSERT_TRUE(encoder.append({0x1005, 1}));
  ASSERT_TRUE(encoder.append({0x2000, 70000}));
  message.resize(encoder.finish());

  EXPECT_EQ(message, words({2, 0x1005000, 0x1000, 0x2000000, std::uint64_t{70000} << 12}));
}

TEST(PageChunksTest, MessageOf32KibHolds2047Chunks) {
  const auto messages = PageChunksFormat::encode(every(2, 0, 2048));

  ASSERT_THAT(messages, SizeIs(2));
  EXPECT_EQ(load_le<std::uint64_t>(messages[0].payload.data()), 2047u);
  EXPECT_THAT(messages[1].payload, SizeIs(24));
}

TEST(PageChunksTest, MessageWithoutChunksIsNone) {
  std::vector<std::byte> message(64);

  EXPECT_EQ(PageChunksEncoder(message).finish(), 0u);
}

TEST(PageChunksTest, ReservedBitsAreIgnored) {
  EXPECT_THAT(decode_chunks({1, 0x1005FFF, 0x2FFF}).ranges, ElementsAre(PageRange{0x1005, 2}));
}

TEST(PageChunksTest, CountThatDoesNotFitIsRefused) {
  for (const std::uint64_t count : {std::uint64_t{0}, std::uint64_t{2}, std::uint64_t{1} << 60}) {
    EXPECT_THAT(decode_chunks({count, 0x1005000, 0x1000}).errors,
                ElementsAre(Errc::kBadMessageHeader));
  }
  EXPECT_THAT(decode_chunks({1, 0x1005000}).errors, ElementsAre(Errc::kBadMessageHeader));
}

TEST(PageChunksTest, ChunkOfNoPagesEndsTheMessage) {
  const Decoded decoded =
      decode_chunks({3, 0x1005000, 0x1000, 0x2000000, 0xFFF, 0x3000000, 0x1000});

  EXPECT_THAT(decoded.errors, ElementsAre(Errc::kBadRecord));
  EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{0x1005, 1}));
}

TEST(PageChunksTest, LargestChunkComesBack) {
  EXPECT_THAT(decode_chunks({1, ~std::uint64_t{0}, ~std::uint64_t{0}}).ranges,
              ElementsAre(PageRange{kEnd - 1, kEnd - 1}));
}

// ---- continuous pages ---------------------------------------------------------------------------

Decoded decode_cont(std::initializer_list<std::uint32_t> message) {
  return decode(Codec::kContPages, {bytes_of_32(message)});
}

TEST(ContPagesTest, EntryIsAPageAndASizeInBytes) {
  std::vector<std::byte> message(16);
  ContPagesEncoder encoder(message);
  ASSERT_TRUE(encoder.append({0x1005, 1}));
  ASSERT_TRUE(encoder.append({0x400, 1024}));

  EXPECT_FALSE(encoder.append({0x9000, 1}));
  EXPECT_EQ(message, bytes_of_32({0x1005, 0x1000, 0x400, 0x400000}));
}

TEST(ContPagesTest, LongestRunFitsInto32Bits) {
  std::vector<std::byte> message(8);
  ContPagesEncoder encoder(message);
  ASSERT_TRUE(encoder.append({0, kMaxContPages}));

  EXPECT_EQ(message, bytes_of_32({0, 0xFFFFF000}));
}

TEST(ContPagesTest, SizeOfNothingOrOfPartOfAPageEndsTheMessage) {
  for (const std::uint32_t size : {0u, 1u, 0x1001u, 0xFFFFFFFFu}) {
    const Decoded decoded = decode_cont({5, 0x1000, 9, size, 11, 0x1000});

    EXPECT_THAT(decoded.errors, ElementsAre(Errc::kBadRecord));
    EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{5, 1}));
  }
}

TEST(ContPagesTest, PartOfAnEntryIsNotedAndTheWholeOnesHold) {
  const Decoded decoded = decode_cont({5, 0x1000, 9});

  EXPECT_THAT(decoded.errors, ElementsAre(Errc::kPayloadNotMultiple));
  EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{5, 1}));
}

TEST(ContPagesTest, RunMayReachBeyondTheLastPageNumber) {
  EXPECT_THAT(decode_cont({0xFFFFFFFF, 0xFFFFF000}).ranges,
              ElementsAre(PageRange{0xFFFFFFFF, kMaxContPages}));
}

}  // namespace
}  // namespace vballoon::wire_test
