// SPDX-License-Identifier: MIT
// The table of dialects (src/wire/dialect.cc).
#include "wire/dialect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "wire/chunk.h"
#include "wire/page_bitmap.h"
#include "wire/pfn_array.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::NotNull;
using ::testing::WhenDynamicCastTo;

TEST(DialectTest, StandardSpeaksArraysOnBothQueues) {
  const DialectRow& row = dialect_row(Dialect::kStandard);

  EXPECT_EQ(row.name, "pfn");
  EXPECT_EQ(row.queues[0].codec, Codec::kPfnArray);
  EXPECT_EQ(row.queues[1].codec, Codec::kPfnArray);
}

TEST(DialectTest, PageBitmapSpeaksBitmaps) {
  const DialectRow& row = dialect_row(Dialect::kPageBitmap);

  EXPECT_EQ(row.name, "bitmap");
  EXPECT_EQ(row.queues[0].codec, Codec::kPageBitmap);
}

TEST(DialectTest, ScatterGatherSpeaksChunks) {
  const DialectRow& row = dialect_row(Dialect::kScatterGather);

  EXPECT_EQ(row.name, "chunk");
  EXPECT_EQ(row.queues[1].codec, Codec::kChunk);
}

TEST(DialectTest, ContPagesSpeakArraysFirstAndBlocksOverTheLastTwoQueues) {
  const DialectRow& row = dialect_row(Dialect::kContPages);

  ASSERT_EQ(row.queues.size(), 7u);
  EXPECT_EQ(row.queues[0].codec, Codec::kPfnArray);
  EXPECT_EQ(row.queues[5].role, QueueRole::kInflate);
  EXPECT_EQ(row.queues[5].codec, Codec::kContPages);
  EXPECT_EQ(row.queues[6].role, QueueRole::kDeflate);
}

TEST(DialectTest, BitsAreThoseOfTheAuthors) {
  EXPECT_EQ(published_bit(Dialect::kScatterGather), 3u);
  EXPECT_EQ(published_bit(Dialect::kContPages), 6u);
}

TEST(DialectTest, FirstQueueInflatesAndSecondDeflates) {
  const DialectRow& row = dialect_row(Dialect::kPageBitmap);

  EXPECT_EQ(row.queues[0].role, QueueRole::kInflate);
  EXPECT_EQ(row.queues[1].role, QueueRole::kDeflate);
}

TEST(DialectTest, BitThatWasNotAcceptedMeansTheStandard) {
  EXPECT_EQ(negotiated_dialect(Dialect::kPageBitmap, 3, Features{Feature::kVersion1}),
            Dialect::kStandard);
}

TEST(DialectTest, BitThatWasAcceptedMeansTheDialectOffered) {
  EXPECT_EQ(negotiated_dialect(Dialect::kScatterGather, 50, Features{}.with_bit(50)),
            Dialect::kScatterGather);
}

// The roles of the queues up to the last one, by number; nothing where there is none.
std::vector<std::optional<QueueRole>> roles(Features features, QueueNumbering numbering) {
  std::vector<std::optional<QueueRole>> all;
  for (const QueueRow* row : number_queues(dialect_row(Dialect::kStandard), features, numbering)) {
    all.push_back(row == nullptr ? std::nullopt : std::optional(row->role));
  }
  while (!all.back()) all.pop_back();
  return all;
}

TEST(QueueNumberTest, QueuesThatDoNotExistAreSkipped) {
  EXPECT_THAT(roles(Features{Feature::kPageReporting}, QueueNumbering::kDense),
              ElementsAre(QueueRole::kInflate, QueueRole::kDeflate, QueueRole::kReporting));
}

TEST(QueueNumberTest, FixedNumbersAreThoseOfTheStandard) {
  EXPECT_THAT(roles(Features{Feature::kPageReporting}, QueueNumbering::kFixed),
              ElementsAre(QueueRole::kInflate, QueueRole::kDeflate, std::nullopt, std::nullopt,
                          QueueRole::kReporting));
}

TEST(QueueNumberTest, AllFeaturesGiveTheSameNumbersEitherWay) {
  const Features all{Feature::kStatsVq, Feature::kFreePageHint, Feature::kPageReporting};

  EXPECT_EQ(roles(all, QueueNumbering::kDense), roles(all, QueueNumbering::kFixed));
}

// The roles of the queues of a dialect with statistics, with requests to the guest or without.
std::vector<QueueRole> roles_with_statistics(Dialect dialect, bool guest_requests) {
  std::vector<QueueRole> all;
  for (const QueueRow* row : number_queues(dialect_row(dialect), Features{Feature::kStatsVq},
                                           QueueNumbering::kFixed, guest_requests)) {
    if (row != nullptr) all.push_back(row->role);
  }
  return all;
}

TEST(QueueNumberTest, RequestQueueStandsBehindTheStatistics) {
  EXPECT_THAT(roles_with_statistics(Dialect::kPageBitmap, true),
              ElementsAre(QueueRole::kInflate, QueueRole::kDeflate, QueueRole::kStats,
                          QueueRole::kRequest));
}

TEST(QueueNumberTest, ControlQueueStandsInFrontOfTheOneForFreePages) {
  EXPECT_THAT(roles_with_statistics(Dialect::kScatterGather, true),
              ElementsAre(QueueRole::kInflate, QueueRole::kDeflate, QueueRole::kStats,
                          QueueRole::kControl, QueueRole::kFreePages));
}

TEST(QueueNumberTest, QueuesForRequestsTakeNoNumberWhereThereAreNone) {
  EXPECT_THAT(number_queues(dialect_row(Dialect::kScatterGather), Features{Feature::kFreePageHint},
                            QueueNumbering::kFixed)[3],
              Field(&QueueRow::role, QueueRole::kFreePageHint));
}

TEST(MakeDecoderTest, EachCodecHasItsDecoder) {
  EXPECT_THAT(make_decoder(Codec::kPfnArray).get(), WhenDynamicCastTo<PfnArrayDecoder*>(NotNull()));
  EXPECT_THAT(make_decoder(Codec::kPageBitmap).get(),
              WhenDynamicCastTo<PageBitmapDecoder*>(NotNull()));
  EXPECT_THAT(make_decoder(Codec::kChunk).get(), WhenDynamicCastTo<ChunkDecoder*>(NotNull()));
}

}  // namespace
}  // namespace vballoon
