// SPDX-License-Identifier: MIT
// How one operation becomes messages (src/guest/page_reporter.cc). Page numbers here go far beyond
// the memory of the test: a reporter only names pages.
#include "guest/page_reporter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "base/page_ranges.h"
#include "guest/decoded_message.h"
#include "ring/driver_queue.h"
#include "wire/chunk.h"
#include "wire/dialect.h"

namespace vballoon {
namespace {

using sim::BitmapReporter;
using sim::ChunkReporter;
using sim::DmaBuffer;
using sim::PageReporter;
using sim::PfnReporter;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::SizeIs;
using ::vballoon::testing::decode_message;
using ::vballoon::testing::DecodedMessage;
using ::vballoon::testing::merged;
using ::vballoon::testing::pages_of;

constexpr std::uint64_t kPages = 4 * kBitmapWindowPages;  // 4 GiB of page numbers

// A queue with a device on its other end, and a message buffer.
struct Wire {
  explicit Wire(std::uint16_t queue_size = 256) : layout(lay_out_ring(queue_size, 0)) {
    queue = DriverQueue::create(memory, layout.config).value();
    if (!device.start(memory, layout.config)) throw std::runtime_error("queue does not start");
  }

  // Posts until all is named; the messages of each round.
  std::vector<std::vector<DecodedMessage>> rounds(PageReporter& reporter, Codec codec) {
    std::vector<std::vector<DecodedMessage>> all;
    while (reporter.post(*queue, 0)) {
      (void)queue->publish();
      auto& round = all.emplace_back();
      while (auto chain = device.pop().value()) {
        round.push_back(decode_message(codec, 0, *chain));
        chain->complete();
      }
      (void)device.publish();
      while (queue->take_used()) {
      }
    }
    return all;
  }
  std::vector<DecodedMessage> messages(PageReporter& reporter, Codec codec) {
    std::vector<DecodedMessage> all;
    for (auto& round : rounds(reporter, codec)) {
      std::ranges::move(round, std::back_inserter(all));
    }
    return all;
  }

  static constexpr std::uint64_t kBuffer = 0x20000;
  std::shared_ptr<const GuestMemory> memory =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, 1 << 20}}).value();
  DmaBuffer buffer{kBuffer,
                   {memory->host(kBuffer, kBitmapHeaderBytes + kBitmapDataBytes),
                    kBitmapHeaderBytes + kBitmapDataBytes}};
  RingLayout layout;
  std::unique_ptr<DriverQueue> queue;
  DeviceQueue device;
};

void add_pages(PageReporter& reporter, std::initializer_list<PageRange> ranges) {
  for (const PageRange& range : ranges) {
    for (Pfn page = range.first; page < range.end(); ++page) reporter.add({page, 0});
  }
}

// ---- arrays ---------------------------------------------------------------------------------

TEST(PfnReporterTest, NumbersStandInTheOrderInWhichPagesWereAdded) {
  Wire wire;
  PfnReporter reporter({Wire::kBuffer, wire.buffer.bytes.first(4 * kLinuxPfnsPerMessage)});
  add_pages(reporter, {{7, 1}, {3, 1}, {4, 1}});

  const auto messages = wire.messages(reporter, Codec::kPfnArray);

  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_THAT(messages[0].numbers(), ElementsAre(7, 3, 4));
}

TEST(PfnReporterTest, NextOperationBeginsWithAnEmptyArray) {
  Wire wire;
  PfnReporter reporter({Wire::kBuffer, wire.buffer.bytes.first(4 * kLinuxPfnsPerMessage)});
  add_pages(reporter, {{0, 256}});
  (void)wire.messages(reporter, Codec::kPfnArray);
  add_pages(reporter, {{1000, 1}});

  EXPECT_THAT(pages_of(wire.messages(reporter, Codec::kPfnArray)), ElementsAre(PageRange{1000, 1}));
}

TEST(PfnReporterTest, ArrayThatWasLostIsSentAgainAsItWas) {
  Wire wire;
  PfnReporter reporter({Wire::kBuffer, wire.buffer.bytes.first(4 * kLinuxPfnsPerMessage)});
  add_pages(reporter, {{7, 1}, {3, 1}});
  ASSERT_TRUE(reporter.post(*wire.queue, 1));

  reporter.recall(1);
  const auto messages = wire.messages(reporter, Codec::kPfnArray);

  ASSERT_THAT(messages, SizeIs(2)) << "the first one is in the queue as well";
  EXPECT_THAT(messages[0].numbers(), ElementsAre(7, 3));
  EXPECT_THAT(messages[1].numbers(), ElementsAre(7, 3));
}

TEST(PfnReporterTest, OperationWithoutPagesSendsNothing) {
  Wire wire;
  PfnReporter reporter({Wire::kBuffer, wire.buffer.bytes.first(4 * kLinuxPfnsPerMessage)});

  EXPECT_FALSE(reporter.post(*wire.queue, 0));
}

// ---- bitmaps --------------------------------------------------------------------------------

class BitmapReporterTest : public ::testing::Test {
 protected:
  std::vector<DecodedMessage> messages() { return wire_.messages(reporter_, Codec::kPageBitmap); }
  PageRanges named() { return pages_of(messages()); }

  Wire wire_;
  BitmapReporter reporter_{wire_.buffer, kPages, 0};
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
  add_pages(reporter_, {{kPages - 1, 1}});

  EXPECT_THAT(named(), ElementsAre(PageRange{kPages - 1, 1}));
}

TEST_F(BitmapReporterTest, LastPageOfAGuestWhoseSizeIsNoMultipleOf64IsNamed) {
  BitmapReporter odd(wire_.buffer, 1001, 0);
  add_pages(odd, {{999, 2}});

  EXPECT_THAT(pages_of(wire_.messages(odd, Codec::kPageBitmap)), ElementsAre(PageRange{999, 2}));
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

TEST_F(BitmapReporterTest, WindowWithMoreRecordsThanTheBufferTakesSeveralMessages) {
  PageRanges expected;
  for (Pfn page = 0; page < kBitmapWindowPages; page += 64) {
    reporter_.add({page, 0});
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
  BitmapReporter reporter(wire_.buffer, kPages, 3);
  add_pages(reporter, {{50, 1}, {52, 1}});
  (void)wire_.messages(reporter, Codec::kPageBitmap);
  add_pages(reporter, {{40, 10}, {53, 1}});

  EXPECT_THAT(pages_of(wire_.messages(reporter, Codec::kPageBitmap)),
              ElementsAre(PageRange{40, 10}, PageRange{53, 1}));
}

TEST_F(BitmapReporterTest, ArrayOfAFewPagesIsAscending) {
  BitmapReporter reporter(wire_.buffer, kPages, 3);
  add_pages(reporter, {{kPages - 1, 1}, {9, 1}, {64, 1}});

  const auto sent = wire_.messages(reporter, Codec::kPageBitmap);

  ASSERT_THAT(sent, SizeIs(1));
  EXPECT_THAT(sent[0].numbers(kBitmapHeaderBytes), ElementsAre(9, 64, kPages - 1));
}

TEST_F(BitmapReporterTest, ThresholdBeyondTheBufferLosesNoPage) {
  BitmapReporter reporter(wire_.buffer, kPages, UINT64_MAX);
  PageRanges expected;
  for (Pfn page = 0; page < 2 * 10000; page += 2) {
    reporter.add({page, 0});
    expected.push_back({page, 1});
  }

  EXPECT_THAT(pages_of(wire_.messages(reporter, Codec::kPageBitmap)), ElementsAreArray(expected));
}

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

  Wire wire_{8};
  ChunkReporter reporter_{kPages, sim::kMaxOrder};
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
  add_pages(reporter_, {{kPages - 1, 1}});

  EXPECT_THAT(chunks(reporter_), ElementsAre(GuestBuffer{(kPages - 1) << kPageShift, 4096}));
}

TEST_F(ChunkReporterTest, BlocksAddedOutOfOrderAreNamedAsAscendingRuns) {
  reporter_.add({1024, 10});
  reporter_.add({0, 3});
  reporter_.add({512, 9});

  EXPECT_THAT(chunks(reporter_), ElementsAre(GuestBuffer{0, 8 << kPageShift},
                                             GuestBuffer{512 << kPageShift, 1536 << kPageShift}));
}

// As published, the length of a run was cut to 32 bits before it was split.
TEST_F(ChunkReporterTest, RunOf4GiBIsSplit) {
  ChunkReporter reporter(2 * kPages, sim::kMaxOrder);
  for (Pfn page = 0; page < kPages + 1024; page += 1024) reporter.add({page, 10});

  EXPECT_THAT(chunks(reporter),
              ElementsAre(GuestBuffer{0, kMaxChunkBytes},
                          GuestBuffer{kMaxChunkBytes, (4 << 20) + (1 << kPageShift)}));
}

TEST_F(ChunkReporterTest, MoreRunsThanTheRingHoldsTakeSeveralRounds) {
  for (Pfn page = 0; page < 40; page += 2) reporter_.add({page, 0});

  const auto rounds = wire_.rounds(reporter_, Codec::kChunk);

  EXPECT_THAT(rounds, ElementsAre(SizeIs(8), SizeIs(8), SizeIs(4)));
}

TEST_F(ChunkReporterTest, NextOperationNamesOnlyItsOwnPages) {
  add_pages(reporter_, {{0, 10}, {20, 10}});
  (void)chunks(reporter_);
  add_pages(reporter_, {{15, 1}});

  EXPECT_THAT(chunks(reporter_), ElementsAre(GuestBuffer{15 << kPageShift, 4096}));
}

// ---- all ------------------------------------------------------------------------------------

// Pages of some operations, each within a few windows and clustered so that runs occur.
std::set<Pfn> any_pages() {
  std::set<Pfn> pages;
  for (const Pfn base : *rc::gen::container<std::vector<Pfn>>(rc::gen::oneOf(
           rc::gen::inRange<Pfn>(0, 300), rc::gen::inRange<Pfn>(0, kPages - 200),
           rc::gen::inRange<Pfn>(kBitmapWindowPages - 70, kBitmapWindowPages + 70)))) {
    const Pfn count = *rc::gen::inRange<Pfn>(1, 200);
    for (Pfn page = base; page < base + count; ++page) pages.insert(page);
  }
  return pages;
}

PageRanges ranges_of(const std::set<Pfn>& pages) {
  PageRanges ranges;
  for (const Pfn page : pages) ranges.push_back({page, 1});
  return merged(std::move(ranges));
}

void names_exactly_what_was_added(PageReporter& reporter, Wire& wire, Codec codec) {
  for (int operation = 0; operation < 3; ++operation) {
    const auto pages = any_pages();
    for (const Pfn page : pages) reporter.add({page, 0});
    RC_ASSERT(pages_of(wire.messages(reporter, codec)) == ranges_of(pages));
  }
}

RC_GTEST_PROP(PageReporterPropertyTest, BitmapsNameExactlyThePagesOfTheirOperation, ()) {
  Wire wire;
  BitmapReporter reporter(wire.buffer, kPages, *rc::gen::inRange<std::uint64_t>(0, 300));

  names_exactly_what_was_added(reporter, wire, Codec::kPageBitmap);
}

// Messages of which a device loses some buffers, all or none, and answers the others.
void names_again_what_was_lost(PageReporter& reporter, Wire& wire, Codec codec) {
  const auto pages = any_pages();
  for (const Pfn page : pages) reporter.add({page, 0});
  std::vector<DecodedMessage> answered;
  for (std::uint64_t token = 1; reporter.post(*wire.queue, token);) {
    (void)wire.queue->publish();
    std::uint64_t next = token;
    while (auto chain = wire.device.pop().value()) {
      if (*rc::gen::weightedElement<bool>({{1, true}, {3, false}})) {
        reporter.recall(next);
      } else {
        answered.push_back(decode_message(codec, 0, *chain));
      }
      ++next;
      chain->complete();
    }
    token = next;
    (void)wire.device.publish();
    while (wire.queue->take_used()) {
    }
  }
  RC_ASSERT(pages_of(answered) == ranges_of(pages));
}

RC_GTEST_PROP(PageReporterPropertyTest, BitmapsNameAgainWhatWasLost, ()) {
  Wire wire;
  BitmapReporter reporter(wire.buffer, kPages, *rc::gen::inRange<std::uint64_t>(0, 300));

  names_again_what_was_lost(reporter, wire, Codec::kPageBitmap);
  names_again_what_was_lost(reporter, wire, Codec::kPageBitmap);
}

RC_GTEST_PROP(PageReporterPropertyTest, ChunksNameAgainWhatWasLost, ()) {
  Wire wire(8);
  ChunkReporter reporter(kPages, 0);

  names_again_what_was_lost(reporter, wire, Codec::kChunk);
  names_again_what_was_lost(reporter, wire, Codec::kChunk);
}

RC_GTEST_PROP(PageReporterPropertyTest, ChunksNameExactlyThePagesOfTheirOperation, ()) {
  Wire wire(8);
  ChunkReporter reporter(kPages, 0);

  names_exactly_what_was_added(reporter, wire, Codec::kChunk);
}

}  // namespace
}  // namespace vballoon
