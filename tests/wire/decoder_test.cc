// SPDX-License-Identifier: MIT
// The contract that all decoders share (src/wire/decoder.h): the bound of a window.
#include "wire/decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/page_ranges.h"
#include "wire/format_traits.h"

namespace vballoon::wire_test {
namespace {

constexpr std::uint64_t kOddBits = 0xAAAAAAAAAAAAAAAA;
constexpr std::uint64_t kEvenBits = 0x5555555555555555;

// A window full of records of 7 words with that pattern, far apart from one another.
std::vector<std::byte> window_of_long_records(std::uint64_t pattern, unsigned page_shift) {
  std::vector<std::byte> data;
  for (std::uint64_t i = 0; data.size() < kPayloadWindowBytes; ++i) {
    const std::uint64_t head = i * 4096 | std::uint64_t{page_shift} << 52 | std::uint64_t{56} << 58;
    data = data + words({head, pattern, pattern, pattern, pattern, pattern, pattern, pattern});
  }
  return data;
}

// Gives the header alone first, so that the second window holds nothing but data.
PageRanges decode_data(Codec codec, const std::vector<std::byte>& message,
                       std::size_t header_bytes) {
  const std::unique_ptr<Decoder> decoder = make_decoder(codec);
  PageRanges ranges;
  ranges.reserve(kMaxRangesPerWindow);
  const PageRange* const storage = ranges.data();
  const std::span<const std::byte> payload(message);
  const auto data = payload.subspan(header_bytes);

  EXPECT_EQ(decoder->begin(payload.size(), 0), std::nullopt);
  EXPECT_EQ(decoder->payload(payload.first(header_bytes), ranges).consumed, header_bytes);
  EXPECT_EQ(decoder->payload(data, ranges).consumed, data.size());

  EXPECT_EQ(ranges.data(), storage) << "a full window made the vector grow";
  return ranges;
}
PageRanges decode_records(const std::vector<std::byte>& data) {
  return decode_data(Codec::kPageBitmap, bitmap_message(BitmapCommand::kRecords, data).payload,
                     kBitmapHeaderBytes);
}
PageRanges decode_bitmap_of(std::uint64_t pattern) {
  const std::vector<std::uint64_t> bitmap(kPayloadWindowBytes / 8, pattern);
  std::vector<std::byte> message(kSingleHeaderBytes + kPayloadWindowBytes);
  std::ignore = write_single_header_message(message, 64, bitmap);
  return decode_data(Codec::kSingleHeader, message, kSingleHeaderBytes);
}

TEST(MaxRangesPerWindowTest, DensestBitmapReachesTheBoundWithoutAllocating) {
  EXPECT_EQ(decode_bitmap_of(kOddBits).size(), kMaxRangesPerWindow);
}

TEST(MaxRangesPerWindowTest, RunsThatBeginAtWordBoundsReachTheBoundToo) {
  EXPECT_EQ(decode_bitmap_of(kEvenBits).size(), kMaxRangesPerWindow);
}

// 7 words of 8 are bitmap in the densest record.
TEST(MaxRangesPerWindowTest, RecordsStayBelow) {
  EXPECT_EQ(decode_records(window_of_long_records(kOddBits, 12)).size(),
            kMaxRangesPerWindow / 8 * 7);
}

TEST(MaxRangesPerWindowTest, RecordsOfLargePagesStayBelow) {
  EXPECT_EQ(decode_records(window_of_long_records(kOddBits, 20)).size(),
            kMaxRangesPerWindow / 8 * 7);
}

TEST(MaxRangesPerWindowTest, ArrayOfScatteredPagesStaysBelow) {
  const auto pages = every(2, 0, kPayloadWindowBytes / kPfnEntryBytes);

  const Decoded decoded = round_trip<PfnArrayFormat>(pages);

  EXPECT_EQ(decoded.most_ranges_per_window, pages.size());
  static_assert(kPayloadWindowBytes / kPfnEntryBytes <= kMaxRangesPerWindow);
}

}  // namespace
}  // namespace vballoon::wire_test
