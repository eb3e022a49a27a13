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

// Gives the header alone first, so that the second window holds nothing but records.
PageRanges decode_records(const std::vector<std::byte>& data) {
  const WireMessage message = bitmap_message(BitmapCommand::kRecords, data);
  PageBitmapDecoder decoder;
  PageRanges ranges;
  ranges.reserve(kMaxRangesPerWindow);
  const PageRange* const storage = ranges.data();
  const std::span<const std::byte> payload(message.payload);

  EXPECT_EQ(decoder.begin(payload.size(), 0), std::nullopt);
  EXPECT_EQ(decoder.payload(payload.first(kBitmapHeaderBytes), ranges).consumed,
            kBitmapHeaderBytes);
  EXPECT_EQ(decoder.payload(payload.subspan(kBitmapHeaderBytes), ranges).consumed, data.size());

  EXPECT_EQ(ranges.data(), storage) << "a full window made the vector grow";
  return ranges;
}

TEST(MaxRangesPerWindowTest, DensestBitmapWindowReachesTheBoundWithoutAllocating) {
  EXPECT_EQ(decode_records(window_of_long_records(kOddBits, 12)).size(), kMaxRangesPerWindow);
}

TEST(MaxRangesPerWindowTest, RunsThatBeginAtWordBoundsReachTheBoundToo) {
  EXPECT_EQ(decode_records(window_of_long_records(kEvenBits, 12)).size(), kMaxRangesPerWindow);
}

TEST(MaxRangesPerWindowTest, LargePagesReachTheBoundToo) {
  EXPECT_EQ(decode_records(window_of_long_records(kOddBits, 20)).size(), kMaxRangesPerWindow);
}

TEST(MaxRangesPerWindowTest, ArrayOfScatteredPagesStaysBelow) {
  const auto pages = every(2, 0, kPayloadWindowBytes / kPfnEntryBytes);

  const Decoded decoded = round_trip<PfnArrayFormat>(pages);

  EXPECT_EQ(decoded.most_ranges_per_window, pages.size());
  static_assert(kPayloadWindowBytes / kPfnEntryBytes <= kMaxRangesPerWindow);
}

}  // namespace
}  // namespace vballoon::wire_test
