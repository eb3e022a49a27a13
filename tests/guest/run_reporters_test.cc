// SPDX-License-Identifier: MIT
// How one operation becomes runs in ascending order (src/guest/run_reporters.cc).
#include "guest/run_reporters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <utility>
#include <vector>

#include "guest/published_messages.h"
#include "guest/reporter_wire.h"
#include "wire/chunk.h"
#include "wire/page_chunks.h"
#include "wire/single_header.h"

namespace vballoon {
namespace {

using sim::ChunkReporter;
using sim::PageChunksReporter;
using sim::RangeListReporter;
using sim::SingleHeaderReporter;
using ::testing::ElementsAre;
using ::testing::SizeIs;
using ::vballoon::testing::add_pages;
using ::vballoon::testing::DecodedMessage;
using ::vballoon::testing::kReportedPages;
using ::vballoon::testing::many_pages;
using ::vballoon::testing::names_again_as_published;
using ::vballoon::testing::names_again_what_was_lost;
using ::vballoon::testing::names_exactly_what_was_added;
using ::vballoon::testing::pages_of;
using ::vballoon::testing::payloads_of;
using ::vballoon::testing::published_single_header_messages;
using ::vballoon::testing::ReporterWire;

// ---- runs of pages --------------------------------------------------------------------------

class ChunkReporterTest : public ::testing::Test {
 protected:
  // The buffers of all messages.
  std::vector<GuestBuffer> chunks(ChunkReporter& reporter) {
    std::vector<GuestBuffer> all;
    for (const DecodedMessage& message : wire_.messages(reporter, Codec::kChunk)) {
      std::ranges::copy(message.writable, std::back_inserter(all));
    }
    return all;
  }

  ReporterWire wire_{8};
  ChunkReporter reporter_;
};

TEST_F(ChunkReporterTest, OperationWithoutPagesSendsNothing) {
  EXPECT_FALSE(reporter_.post(*wire_.queue, 0));
}

// As published, the loop ended before a last run of one page.
TEST_F(ChunkReporterTest, LonePageIsNamed) {
  add_pages(reporter_, {{77, 1}});

  EXPECT_THAT(chunks(reporter_), ElementsAre(GuestBuffer{77 << kPageShift, 4096}));
}

TEST_F(ChunkReporterTest, LoneFinalPageBehindAHoleOfOneIsNamed) {
  add_pages(reporter_, {{0, 10}, {11, 1}});

  EXPECT_THAT(chunks(reporter_),
              ElementsAre(GuestBuffer{0, 10 << kPageShift}, GuestBuffer{11 << kPageShift, 4096}));
}

TEST_F(ChunkReporterTest, LastPageOfTheGuestIsNamed) {
  add_pages(reporter_, {{kReportedPages - 1, 1}});

  EXPECT_THAT(chunks(reporter_),
              ElementsAre(GuestBuffer{(kReportedPages - 1) << kPageShift, 4096}));
}

TEST_F(ChunkReporterTest, BlocksAddedOutOfOrderAreNamedAsAscendingRuns) {
  reporter_.add({1024, 1024});
  reporter_.add({0, 8});
  reporter_.add({512, 512});

  EXPECT_THAT(chunks(reporter_), ElementsAre(GuestBuffer{0, 8 << kPageShift},
                                             GuestBuffer{512 << kPageShift, 1536 << kPageShift}));
}

// As published, the length of a run was cut to 32 bits before it was split.
TEST_F(ChunkReporterTest, RunOf4GiBIsSplit) {
  ChunkReporter reporter;
  reporter.add({0, kReportedPages + 1024});

  EXPECT_THAT(chunks(reporter),
              ElementsAre(GuestBuffer{0, kMaxChunkBytes},
                          GuestBuffer{kMaxChunkBytes, (4 << 20) + (1 << kPageShift)}));
}

TEST_F(ChunkReporterTest, MoreRunsThanTheRingHoldsTakeSeveralRounds) {
  for (Pfn page = 0; page < 40; page += 2) reporter_.add({page, 1});

  const auto rounds = wire_.rounds(reporter_, Codec::kChunk);

  EXPECT_THAT(rounds, ElementsAre(SizeIs(8), SizeIs(8), SizeIs(4)));
}

TEST_F(ChunkReporterTest, NextOperationNamesOnlyItsOwnPages) {
  add_pages(reporter_, {{0, 10}, {20, 10}});
  (void)chunks(reporter_);
  add_pages(reporter_, {{15, 1}});

  EXPECT_THAT(chunks(reporter_), ElementsAre(GuestBuffer{15 << kPageShift, 4096}));
}

// ---- one bitmap behind one header -----------------------------------------------------------

class SingleHeaderReporterTest : public ::testing::Test {
 protected:
  // A bitmap of so many words.
  SingleHeaderReporter reporter_with(std::size_t words) {
    return SingleHeaderReporter(
        {ReporterWire::kBuffer, wire_.buffer.bytes.first(kSingleHeaderBytes + 8 * words)});
  }

  ReporterWire wire_;
};

TEST_F(SingleHeaderReporterTest, OperationWithoutPagesSendsNothing) {
  auto reporter = reporter_with(16);

  EXPECT_FALSE(reporter.post(*wire_.queue, 0));
}

TEST_F(SingleHeaderReporterTest, BitmapReachesFromTheFirstWordToTheLast) {
  auto reporter = reporter_with(16);
  add_pages(reporter, {{70, 1}, {200, 3}});

  const auto messages = wire_.messages(reporter, Codec::kSingleHeader);

  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_THAT(messages[0].payload, SizeIs(kSingleHeaderBytes + 3 * 8));
}

TEST_F(SingleHeaderReporterTest, PagesBeyondABitmapComeInTheNextOneWithoutTheWordsBetween) {
  auto reporter = reporter_with(2);
  add_pages(reporter, {{0, 1}, {127, 2}, {100000, 1}});

  const auto messages = wire_.messages(reporter, Codec::kSingleHeader);

  ASSERT_THAT(messages, SizeIs(3));
  EXPECT_THAT(messages[0].payload, SizeIs(kSingleHeaderBytes + 2 * 8));
  EXPECT_THAT(messages[1].payload, SizeIs(kSingleHeaderBytes + 8));
  EXPECT_THAT(pages_of(messages),
              ElementsAre(PageRange{0, 1}, PageRange{127, 2}, PageRange{100000, 1}));
}

TEST_F(SingleHeaderReporterTest, LastPageOfTheGuestIsNamed) {
  auto reporter = reporter_with(16);
  add_pages(reporter, {{kReportedPages - 1, 1}});

  EXPECT_THAT(pages_of(wire_.messages(reporter, Codec::kSingleHeader)),
              ElementsAre(PageRange{kReportedPages - 1, 1}));
}

// ---- lists of runs --------------------------------------------------------------------------

TEST(RangeListReporterTest, ListThatIsFullIsSentAndTheNextOneBegun) {
  ReporterWire wire;
  RangeListReporter reporter(
      {ReporterWire::kBuffer, wire.buffer.bytes.first(kBitmapHeaderBytes + 32)});
  add_pages(reporter, {{0, 1}, {2, 1}, {4, 1}, {6, 1}});

  const auto messages = wire.messages(reporter, Codec::kRangeList);

  ASSERT_THAT(messages, SizeIs(2));
  EXPECT_THAT(messages[0].payload, SizeIs(8 + 3 * 8)) << "room for a longer entry is needed";
  EXPECT_THAT(messages[1].payload, SizeIs(8 + 8));
  EXPECT_FALSE(reporter.post(*wire.queue, 0));
}

TEST(PageChunksReporterTest, ListThatIsFullIsSentAndTheNextOneBegun) {
  ReporterWire wire;
  PageChunksReporter reporter(
      {ReporterWire::kBuffer,
       wire.buffer.bytes.first(kPageChunksHeaderBytes + 2 * kPageChunkBytes)});
  add_pages(reporter, {{0, 1}, {2, 1}, {4, 1}});

  const auto messages = wire.messages(reporter, Codec::kPageChunks);

  ASSERT_THAT(messages, SizeIs(2));
  EXPECT_THAT(messages[0].payload, SizeIs(8 + 2 * 16));
  EXPECT_THAT(messages[1].payload, SizeIs(8 + 16));
  EXPECT_FALSE(reporter.post(*wire.queue, 0));
}

// ---- any pages ----------------------------------------------------------------------------------

RC_GTEST_PROP(RunReportersPropertyTest, ChunksNameAgainWhatWasLost, ()) {
  ReporterWire wire(8);
  ChunkReporter reporter;

  names_again_what_was_lost(reporter, wire, Codec::kChunk);
  names_again_what_was_lost(reporter, wire, Codec::kChunk);
}

RC_GTEST_PROP(RunReportersPropertyTest, ChunksNameExactlyThePagesOfTheirOperation, ()) {
  ReporterWire wire(8);
  ChunkReporter reporter;

  names_exactly_what_was_added(reporter, wire, Codec::kChunk);
}

RC_GTEST_PROP(RunReportersPropertyTest, SingleBitmapsNameExactlyThePagesOfTheirOperation, ()) {
  ReporterWire wire;
  SingleHeaderReporter reporter(wire.buffer);

  names_exactly_what_was_added(reporter, wire, Codec::kSingleHeader);
}

RC_GTEST_PROP(RunReportersPropertyTest, RangeListsNameExactlyThePagesOfTheirOperation, ()) {
  ReporterWire wire;
  RangeListReporter reporter(wire.buffer);

  names_exactly_what_was_added(reporter, wire, Codec::kRangeList);
}

RC_GTEST_PROP(RunReportersPropertyTest, PageChunksNameExactlyThePagesOfTheirOperation, ()) {
  ReporterWire wire;
  PageChunksReporter reporter(wire.buffer);

  names_exactly_what_was_added(reporter, wire, Codec::kPageChunks);
}

RC_GTEST_PROP(RunReportersPropertyTest, SingleBitmapsAreThePublishedMessagesToTheByte, ()) {
  ReporterWire wire;
  const std::size_t words = *rc::gen::inRange<std::size_t>(1, 64);
  SingleHeaderReporter reporter(
      {ReporterWire::kBuffer, wire.buffer.bytes.first(kSingleHeaderBytes + 8 * words)});
  const auto pages = many_pages();
  for (const Pfn page : pages) reporter.add({page, 1});

  const auto sent = wire.messages(reporter, Codec::kSingleHeader);

  RC_ASSERT(payloads_of(sent) == published_single_header_messages(pages, 64 * words));
}

// What a driver that walks its whole balloon adds to an inflate.
RC_GTEST_PROP(RunReportersPropertyTest, OldPagesInTheWindowsMakeThePublishedSingleBitmaps, ()) {
  ReporterWire wire;
  const std::size_t words = *rc::gen::inRange<std::size_t>(1, 64);
  SingleHeaderReporter reporter(
      {ReporterWire::kBuffer, wire.buffer.bytes.first(kSingleHeaderBytes + 8 * words)});

  names_again_as_published(reporter, wire, Codec::kSingleHeader, 64 * words,
                           [words](const std::set<Pfn>& pages) {
                             return published_single_header_messages(pages, 64 * words);
                           });
}

}  // namespace
}  // namespace vballoon
