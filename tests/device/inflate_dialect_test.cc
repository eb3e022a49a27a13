// SPDX-License-Identifier: MIT
// Inflating in each dialect, and what only messages of one dialect can get wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "device/device_fixture.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kHigh;
using testing::kHole;
using testing::Message;
using testing::message_of;
using ::testing::Pair;
using testing::Rig;
using testing::speaking;

class InflateDialectTest : public ::testing::TestWithParam<Dialect> {
 protected:
  InflateDialectTest() { rig_.start(); }

  Message message(std::initializer_list<PageRange> ranges) const {
    return message_of(GetParam(), ranges);
  }

  Rig rig_{{.device = speaking(GetParam())}};
};

TEST_P(InflateDialectTest, NamedPagesAreDiscardedAndTheBufferReturned) {
  rig_.inflate(message({{5, 3}, {0x100, 64}, {kHigh, 2}}));

  EXPECT_THAT(rig_.discarded(),
              ElementsAre(PageRange{5, 3}, PageRange{0x100, 64}, PageRange{kHigh, 2}));
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_THAT(rig_.all_errors(), IsEmpty());
}

TEST_P(InflateDialectTest, AdjacentPiecesOfSeveralMessagesAreMerged) {
  rig_.send(kInflateQueue, message({{60, 10}}));
  rig_.send(kInflateQueue, message({{70, 60}}));

  rig_.serve(kInflateQueue);

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{60, 70}));
}

TEST_P(InflateDialectTest, PagesOutsideGuestMemoryAreCounted) {
  rig_.inflate(message({{kHole - 2, 4}}));

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{kHole - 2, 2}));
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kPageOutOfRange, 2u)));
}

TEST_P(InflateDialectTest, PagesNamedTwiceAreRepeated) {
  rig_.inflate(message({{5, 4}, {7, 4}}));

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 6}));
  EXPECT_EQ(rig_.errors(Errc::kPageRepeated), 2u);
}

INSTANTIATE_TEST_SUITE_P(All, InflateDialectTest,
                         ::testing::Values(Dialect::kStandard, Dialect::kPageBitmap,
                                           Dialect::kScatterGather),
                         testing::dialect_name);

TEST(InflateDialectChoiceTest, DriverThatRefusesTheDialectSpeaksTheStandards) {
  Rig rig({.device = speaking(Dialect::kPageBitmap),
           .accepted = Features{Feature::kVersion1, Feature::kMustTellHost}});

  rig.start().inflate({5, 6});

  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{5, 2}));
}

TEST(InflateDialectChoiceTest, MovedBitChoosesTheDialect) {
  Rig rig({.device = {.dialect = Dialect::kScatterGather, .dialect_bit = 50}});

  rig.start().inflate(message_of(Dialect::kScatterGather, {{5, 2}}));

  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{5, 2}));
}

// ---- messages that only other dialects can get wrong --------------------------------------------

TEST(InflateBitmapTest, UnknownCommandIsABadHeader) {
  Rig rig({.device = speaking(Dialect::kPageBitmap)});

  rig.start().inflate(Message{{testing::le64(std::vector<std::uint64_t>{2})}});

  EXPECT_THAT(rig.all_errors(), ElementsAre(Pair(Errc::kBadMessageHeader, 1u)));
  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
}

TEST(InflateBitmapTest, BadRecordEndsTheMessageAndThePagesBeforeItHold) {
  Rig rig({.device = speaking(Dialect::kPageBitmap)});

  rig.start().inflate(testing::bitmap_message(
      {testing::record_head(5, kPageShift, 0), testing::record_head(9, kPageShift - 1, 0)}));

  EXPECT_THAT(rig.all_errors(), ElementsAre(Pair(Errc::kBadRecord, 1u)));
  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{5, 1}));
}

TEST(InflateScatterGatherTest, PayloadIsUnexpected) {
  Rig rig({.device = speaking(Dialect::kScatterGather)});

  rig.start().inflate({5});

  EXPECT_THAT(rig.all_errors(), ElementsAre(Pair(Errc::kUnexpectedReadable, 1u)));
  EXPECT_THAT(rig.discarded(), IsEmpty());
}

TEST(InflateScatterGatherTest, BufferInsideAPageIsUnaligned) {
  Rig rig({.device = speaking(Dialect::kScatterGather)});

  rig.start().inflate(Message{{}, {{5 * kPageSize + 8, kPageSize}, {7 * kPageSize, kPageSize}}});

  EXPECT_THAT(rig.all_errors(), ElementsAre(Pair(Errc::kUnalignedRange, 1u)));
  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{7, 1}));
}

}  // namespace
}  // namespace vballoon
