// SPDX-License-Identifier: MIT
// Inflating in each dialect, and what only messages of one dialect can get wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <vector>

#include "device/device_fixture.h"
#include "dialect_param.h"

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
  rig_.send(kInflateQueue, message({{5, 4}}));
  rig_.send(kInflateQueue, message({{7, 4}}));
  rig_.serve(kInflateQueue);

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 6}));
  EXPECT_EQ(rig_.errors(Errc::kPageRepeated), 2u);
}

INSTANTIATE_TEST_SUITE_P(All, InflateDialectTest, testing::every_dialect(), testing::dialect_name);

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

// A bitmap names 2^39 pages in 8 bytes, here the same ones over and over: 2^64 of them take 256
// MiB.
TEST(InflateBitmapTest, CounterThatIsFullDoesNotBeginAgain) {
  Rig rig({.device = testing::speaking(Dialect::kPageBitmap), .queue_size = 1024});
  rig.start();
  const std::vector<std::uint64_t> records(8192, testing::record_head(Pfn{1} << 50, 51, 0));
  std::memcpy(rig.host(0), records.data(), 64 << 10);
  const std::uint64_t header = (std::uint64_t{1023} * (64 << 10)) << 32;
  std::memcpy(rig.host(16), &header, sizeof header);
  std::vector<GuestBuffer> readable(1024, {0, 64 << 10});
  readable.front() = {16 * kPageSize, sizeof header};

  for (int message = 0; message < 5; ++message) {
    rig.offer(kInflateQueue, readable);
    rig.serve(kInflateQueue);
    EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
  }

  EXPECT_EQ(rig.errors(Errc::kPageRepeated), std::numeric_limits<std::uint64_t>::max());
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
