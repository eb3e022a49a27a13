// SPDX-License-Identifier: MIT
// How one operation becomes arrays and page bitmaps (src/guest/page_reporter.cc,
// bitmap_reporter.cc).
#include "guest/page_reporter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <utility>
#include <vector>

#include "guest/bitmap_reporter.h"
#include "guest/published_messages.h"
#include "guest/reporter_wire.h"

namespace vballoon {
namespace {

using sim::BitmapReporter;
using sim::ContReporter;
using sim::PfnReporter;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
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
using ::vballoon::testing::published_bitmap_messages;
using ::vballoon::testing::ReporterWire;

// ---- arrays ---------------------------------------------------------------------------------

TEST(PfnReporterTest, NumbersStandInTheOrderInWhichPagesWereAdded) {
  ReporterWire wire;
  PfnReporter reporter({ReporterWire::kBuffer, wire.buffer.bytes.first(4 * kLinuxPfnsPerMessage)});
  add_pages(reporter, {{7, 1}, {3, 1}, {4, 1}});

  const auto messages = wire.messages(reporter, Codec::kPfnArray);

  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_THAT(messages[0].numbers(), ElementsAre(7, 3, 4));
}

TEST(PfnReporterTest, NextOperationBeginsWithAnEmptyArray) {
  ReporterWire wire;
  PfnReporter reporter({ReporterWire::kBuffer, wire.buffer.bytes.first(4 * kLinuxPfnsPerMessage)});
  add_pages(reporter, {{0, 256}});
  (void)wire.messages(reporter, Codec::kPfnArray);
  add_pages(reporter, {{1000, 1}});

  EXPECT_THAT(pages_of(wire.messages(reporter, Codec::kPfnArray)), ElementsAre(PageRange{1000, 1}));
}

TEST(PfnReporterTest, ArrayThatWasLostIsSentAgainAsItWas) {
  ReporterWire wire;
  PfnReporter reporter({ReporterWire::kBuffer, wire.buffer.bytes.first(4 * kLinuxPfnsPerMessage)});
  add_pages(reporter, {{7, 1}, {3, 1}});
  ASSERT_TRUE(reporter.post(*wire.queue, 1));

  reporter.recall(1);
  const auto messages = wire.messages(reporter, Codec::kPfnArray);

  ASSERT_THAT(messages, SizeIs(2)) << "the first one is in the queue as well";
  EXPECT_THAT(messages[0].numbers(), ElementsAre(7, 3));
  EXPECT_THAT(messages[1].numbers(), ElementsAre(7, 3));
}

TEST(PfnReporterTest, OperationWithoutPagesSendsNothing) {
  ReporterWire wire;
  PfnReporter reporter({ReporterWire::kBuffer, wire.buffer.bytes.first(4 * kLinuxPfnsPerMessage)});

  EXPECT_FALSE(reporter.post(*wire.queue, 0));
}

// ---- bitmaps --------------------------------------------------------------------------------

class BitmapReporterTest : public ::testing::Test {
 protected:
  std::vector<DecodedMessage> messages() { return wire_.messages(reporter_, Codec::kPageBitmap); }
  PageRanges named() { return pages_of(messages()); }

  ReporterWire wire_;
  BitmapReporter reporter_{wire_.buffer, 0};
};

TEST_F(BitmapReporterTest, OperationWithoutPagesSendsNothing) {
  EXPECT_FALSE(reporter_.post(*wire_.queue, 0));
}

TEST_F(BitmapReporterTest, LonePageAtAMultipleOf64IsNamed) {
  add_pages(reporter_, {{128, 1}});

  EXPECT_THAT(named(), ElementsAre(PageRange{128, 1}));
}

TEST_F(BitmapReporterTest, HighestPageAtAMultipleOf64IsNamed) {
  add_pages(reporter_, {{100, 3}, {192, 1}});

  EXPECT_THAT(named(), ElementsAre(PageRange{100, 3}, PageRange{192, 1}));
}

TEST_F(BitmapReporterTest, LastPageOfTheGuestIsNamed) {
  add_pages(reporter_, {{kReportedPages - 1, 1}});

  EXPECT_THAT(named(), ElementsAre(PageRange{kReportedPages - 1, 1}));
}

TEST_F(BitmapReporterTest, HighestPageInsideAWordIsNamed) {
  add_pages(reporter_, {{999, 2}});

  EXPECT_THAT(named(), ElementsAre(PageRange{999, 2}));
}

// As published, the highest page was taken for the end: a page that begins a window was lost.
TEST_F(BitmapReporterTest, PageThatBeginsANewWindowIsNamed) {
  add_pages(reporter_, {{0, 1}, {kBitmapWindowPages, 1}});

  EXPECT_THAT(named(), ElementsAre(PageRange{0, 1}, PageRange{kBitmapWindowPages, 1}));
}

// As published, pages behind the first window were named relative to the wrong page.
TEST_F(BitmapReporterTest, PagesInLaterWindowsKeepTheirNumbers) {
  add_pages(reporter_, {{70, 2}, {kBitmapWindowPages + 77, 2}, {3 * kBitmapWindowPages + 5, 1}});

  EXPECT_THAT(named(), ElementsAre(PageRange{70, 2}, PageRange{kBitmapWindowPages + 77, 2},
                                   PageRange{3 * kBitmapWindowPages + 5, 1}));
}

TEST_F(BitmapReporterTest, EachWindowIsAMessageAndEmptyOnesSendNothing) {
  add_pages(reporter_, {{10, 1}, {3 * kBitmapWindowPages + 10, 1}});

  EXPECT_THAT(messages(), SizeIs(2));
}

TEST_F(BitmapReporterTest, RunAcrossTwoWindowsIsNamedWhole) {
  add_pages(reporter_, {{1, 1}, {kBitmapWindowPages - 3, 10}});

  EXPECT_THAT(named(), ElementsAre(PageRange{1, 1}, PageRange{kBitmapWindowPages - 3, 10}));
}

TEST_F(BitmapReporterTest, WindowsBeginWithTheFirstWordAndAreWhole) {
  add_pages(reporter_, {{70, 1}, {100, 1}});

  EXPECT_EQ(reporter_.windows(), (PageRange{64, kBitmapWindowPages}));
}

TEST_F(BitmapReporterTest, PageThatBeginsANewWindowBringsAllOfIt) {
  add_pages(reporter_, {{64, 1}, {64 + kBitmapWindowPages, 1}});

  EXPECT_EQ(reporter_.windows(), (PageRange{64, 2 * kBitmapWindowPages}));
}

TEST_F(BitmapReporterTest, OperationThatIsOverLeavesNoWindows) {
  add_pages(reporter_, {{64, 1}});
  (void)messages();

  EXPECT_EQ(reporter_.windows(), PageRange{});
}

TEST_F(BitmapReporterTest, WindowWithMoreRecordsThanTheBufferTakesSeveralMessages) {
  PageRanges expected;
  for (Pfn page = 0; page < kBitmapWindowPages; page += 64) {
    reporter_.add({page, 1});
    expected.push_back({page, 1});
  }

  const auto sent = messages();

  EXPECT_GT(sent.size(), 1u);
  EXPECT_THAT(pages_of(sent), ElementsAreArray(expected));
}

TEST_F(BitmapReporterTest, NextOperationNamesOnlyItsOwnPages) {
  add_pages(reporter_, {{5, 100}, {kBitmapWindowPages + 5, 1}});
  (void)messages();
  add_pages(reporter_, {{3, 1}, {2 * kBitmapWindowPages, 1}});

  EXPECT_THAT(named(), ElementsAre(PageRange{3, 1}, PageRange{2 * kBitmapWindowPages, 1}));
}

TEST_F(BitmapReporterTest, PagesOfAnArrayAreNotNamedAgainByTheNextOperation) {
  BitmapReporter reporter(wire_.buffer, 3);
  add_pages(reporter, {{50, 1}, {52, 1}});
  (void)wire_.messages(reporter, Codec::kPageBitmap);
  add_pages(reporter, {{40, 10}, {53, 1}});

  EXPECT_THAT(pages_of(wire_.messages(reporter, Codec::kPageBitmap)),
              ElementsAre(PageRange{40, 10}, PageRange{53, 1}));
}

TEST_F(BitmapReporterTest, ArrayOfAFewPagesIsAscending) {
  BitmapReporter reporter(wire_.buffer, 3);
  add_pages(reporter, {{kReportedPages - 1, 1}, {9, 1}, {64, 1}});

  const auto sent = wire_.messages(reporter, Codec::kPageBitmap);

  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_THAT(sent[0].numbers(kBitmapHeaderBytes), ElementsAre(9, 64, kReportedPages - 1));
}

TEST_F(BitmapReporterTest, ThresholdBeyondTheBufferLosesNoPage) {
  BitmapReporter reporter(wire_.buffer, UINT64_MAX);
  PageRanges expected;
  for (Pfn page = 0; page < 2 * 10000; page += 2) {
    reporter.add({page, 1});
    expected.push_back({page, 1});
  }

  EXPECT_THAT(pages_of(wire_.messages(reporter, Codec::kPageBitmap)), ElementsAreArray(expected));
}

// ---- blocks -----------------------------------------------------------------------------------

TEST(ContReporterTest, RunsStandInTheOrderInWhichTheyWereAdded) {
  ReporterWire wire;
  ContReporter reporter({ReporterWire::kBuffer, wire.buffer.bytes.first(1024)});
  reporter.add({4096, 1024});
  reporter.add({7, 1});

  const auto messages = wire.messages(reporter, Codec::kContPages);

  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_THAT(messages[0].numbers(), ElementsAre(4096, 4 << 20, 7, 4096));
}

TEST(ContReporterTest, MessageHasRoomFor128Runs) {
  ReporterWire wire;
  const ContReporter reporter({ReporterWire::kBuffer, wire.buffer.bytes.first(1024)});

  EXPECT_EQ(reporter.max_runs(), 128u);
}

// ---- any pages ----------------------------------------------------------------------------------

RC_GTEST_PROP(PageReporterPropertyTest, BitmapsNameExactlyThePagesOfTheirOperation, ()) {
  ReporterWire wire;
  BitmapReporter reporter(wire.buffer, *rc::gen::inRange<std::uint64_t>(0, 300));

  names_exactly_what_was_added(reporter, wire, Codec::kPageBitmap);
}

RC_GTEST_PROP(PageReporterPropertyTest, BitmapsNameAgainWhatWasLost, ()) {
  ReporterWire wire;
  BitmapReporter reporter(wire.buffer, *rc::gen::inRange<std::uint64_t>(0, 300));

  names_again_what_was_lost(reporter, wire, Codec::kPageBitmap);
  names_again_what_was_lost(reporter, wire, Codec::kPageBitmap);
}

RC_GTEST_PROP(PageReporterPropertyTest, BitmapsAreThePublishedMessagesToTheByte, ()) {
  ReporterWire wire;
  BitmapReporter reporter(wire.buffer, 0);
  const auto pages = many_pages();
  for (const Pfn page : pages) reporter.add({page, 1});

  const auto sent = wire.messages(reporter, Codec::kPageBitmap);

  RC_ASSERT(payloads_of(sent) == published_bitmap_messages(pages));
}

// What a driver that walks its whole balloon adds to an inflate.
RC_GTEST_PROP(PageReporterPropertyTest, OldPagesInTheWindowsMakeThePublishedMessages, ()) {
  ReporterWire wire;
  BitmapReporter reporter(wire.buffer, 0);

  names_again_as_published(reporter, wire, Codec::kPageBitmap, kBitmapWindowPages,
                           published_bitmap_messages);
}

}  // namespace
}  // namespace vballoon
