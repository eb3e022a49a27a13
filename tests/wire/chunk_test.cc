// SPDX-License-Identifier: MIT
// Scatter-gather (src/wire/chunk.cc).
#include "wire/chunk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "wire/format_traits.h"

namespace vballoon::wire_test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::uint64_t kMaxChunkPages = kMaxChunkBytes / kPageSize;

Decoded decode_buffer(GuestBuffer buffer) { return decode(Codec::kChunk, {{}, {buffer}}); }

TEST(FirstChunkTest, RunBecomesItsAddressAndLength) {
  EXPECT_EQ(first_chunk({0x123, 2}), (GuestBuffer{0x123000, 0x2000}));
}

TEST(FirstChunkTest, LongestPieceHasTheLargestWholeLength) {
  EXPECT_EQ(first_chunk({1, kMaxChunkPages}), (GuestBuffer{0x1000, 0xFFFFF000}));
}

// As published, the length was computed in 32 bits before the run was split.
TEST(FirstChunkTest, RunOfFourGigabytesIsSplitAndNotTruncated) {
  EXPECT_EQ(first_chunk({1, kMaxChunkPages + 1}), (GuestBuffer{0x1000, 0xFFFFF000}));
}

TEST(FirstChunkTest, RestOfALongRunIsTheSecondPiece) {
  const auto messages = ChunkFormat::encode(every(1, 1, kMaxChunkPages + 3));

  ASSERT_EQ(messages.size(), 2u);
  EXPECT_THAT(messages.back().buffers,
              ElementsAre(GuestBuffer{(kMaxChunkPages + 1) << kPageShift, 0x3000}));
}

TEST(ChunkDecoderTest, BufferIsARange) {
  EXPECT_THAT(decode_buffer({0x5000, 0x3000}).ranges, ElementsAre(PageRange{5, 3}));
}

TEST(ChunkDecoderTest, LastPageOfTheAddressSpaceDoesNotOverflow) {
  EXPECT_THAT(decode_buffer({0xFFFFFFFFFFFFF000, 0xFFFFF000}).ranges,
              ElementsAre(PageRange{0xFFFFFFFFFFFFF, 0xFFFFF}));
}

TEST(ChunkDecoderTest, UnalignedAddressIsSkipped) {
  const Decoded decoded = decode_buffer({0x5008, 0x1000});

  EXPECT_THAT(decoded.errors, ElementsAre(Errc::kUnalignedRange));
  EXPECT_THAT(decoded.ranges, IsEmpty());
}

TEST(ChunkDecoderTest, UnalignedLengthIsSkipped) {
  EXPECT_THAT(decode_buffer({0x5000, 0x1001}).errors, ElementsAre(Errc::kUnalignedRange));
}

TEST(ChunkDecoderTest, EmptyBufferIsSkipped) {
  EXPECT_THAT(decode_buffer({0x5000, 0}).errors, ElementsAre(Errc::kUnalignedRange));
}

TEST(ChunkDecoderTest, BuffersBesideABadOneHold) {
  const Decoded decoded =
      decode(Codec::kChunk, {{}, {{0x1000, 0x1000}, {0x2001, 0x1000}, {0x3000, 0x1000}}});

  EXPECT_THAT(decoded.errors, ElementsAre(Errc::kUnalignedRange));
  EXPECT_THAT(decoded.ranges, ElementsAre(PageRange{1, 1}, PageRange{3, 1}));
}

TEST(ChunkDecoderTest, MessageWithAPayloadIsRefused) {
  const Decoded decoded = decode(Codec::kChunk, {pfns({1}), {{0x1000, 0x1000}}});

  EXPECT_THAT(decoded.errors, ElementsAre(Errc::kUnexpectedReadable));
  EXPECT_THAT(decoded.ranges, IsEmpty());
}

}  // namespace
}  // namespace vballoon::wire_test
