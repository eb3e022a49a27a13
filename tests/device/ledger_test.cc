// SPDX-License-Identifier: MIT
#include "device/ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "base/page_ranges.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

constexpr std::uint64_t kAll = ~std::uint64_t{0};

class WordGathererTest : public ::testing::Test {
 protected:
  using Words = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

  static Words gather(const PageRanges& ranges) {
    Words words;
    WordGatherer gatherer(
        [&](std::uint64_t word, std::uint64_t mask) { words.emplace_back(word, mask); },
        [&](std::uint64_t word, std::uint64_t count) {
          for (std::uint64_t i = 0; i < count; ++i) words.emplace_back(word + i, kAll);
        });
    gatherer.add(ranges, 0);
    gatherer.flush();
    return words;
  }
};

TEST_F(WordGathererTest, RangesOfOneWordComeAsOneMask) {
  EXPECT_THAT(gather({{0, 1}, {2, 2}, {63, 1}}),
              ElementsAre(Pair(0u, std::uint64_t{1} << 63 | 0b1101u)));
}

TEST_F(WordGathererTest, RangeOfAWholeWordIsOneFullMask) {
  EXPECT_THAT(gather({{64, 64}}), ElementsAre(Pair(1u, kAll)));
}

TEST_F(WordGathererTest, RangeAcrossWordsIsCutAtWordBounds) {
  EXPECT_THAT(gather({{63, 66}}), ElementsAre(Pair(0u, std::uint64_t{1} << 63), Pair(1u, kAll),
                                              Pair(2u, std::uint64_t{1})));
}

TEST_F(WordGathererTest, RangeThatEndsOnAWordBoundLeavesNoEmptyWordBehind) {
  EXPECT_THAT(gather({{32, 96}}), ElementsAre(Pair(0u, kAll << 32), Pair(1u, kAll)));
}

TEST_F(WordGathererTest, WordSharedWithTheTailOfALongRangeComesOnce) {
  EXPECT_THAT(gather({{0, 65}, {66, 1}}), ElementsAre(Pair(0u, kAll), Pair(1u, 0b101u)));
}

TEST_F(WordGathererTest, EveryOtherPageOfAWordIsOneMask) {
  EXPECT_THAT(gather({{0, 1}, {2, 1}, {4, 1}, {6, 1}, {8, 1}, {10, 1}}),
              ElementsAre(Pair(0u, 0b10101010101u)));
}

TEST_F(WordGathererTest, PagesOnBothSidesOfAWordBoundAreToldApart) {
  EXPECT_THAT(gather({{60, 1}, {62, 1}, {64, 1}, {66, 1}}),
              ElementsAre(Pair(0u, 0b101ull << 60), Pair(1u, 0b101u)));
}

TEST_F(WordGathererTest, RangeBehindSinglePagesKeepsItsLength) {
  EXPECT_THAT(gather({{0, 1}, {2, 1}, {4, 1}, {6, 60}}),
              ElementsAre(Pair(0u, kAll << 6 | 0b10101u), Pair(1u, 0b11u)));
}

TEST_F(WordGathererTest, WholeWordsOfARangeComeTogether) {
  Words whole;
  WordGatherer gatherer(
      [](std::uint64_t, std::uint64_t) {},
      [&](std::uint64_t word, std::uint64_t words) { whole.emplace_back(word, words); });

  gatherer.add(PageRanges{{63, 1 + 3 * 64 + 5}}, 0);

  EXPECT_THAT(whole, ElementsAre(Pair(1u, 3u)));
}

class LedgerTest : public ::testing::Test {
 protected:
  Ledger::Booked inflate(std::uint64_t word, std::uint64_t mask) {
    Ledger::Booked booked;
    ledger_.inflate(word, mask, booked);
    return booked;
  }
  Ledger::Booked deflate(std::uint64_t word, std::uint64_t mask) {
    Ledger::Booked booked;
    ledger_.deflate(word, mask, booked);
    return booked;
  }

  Ledger ledger_{200};
};

TEST_F(LedgerTest, InflatedPagesAreInTheBalloon) {
  const Ledger::Booked booked = inflate(1, 0b101);

  EXPECT_EQ(booked.pages, 2u);
  EXPECT_EQ(booked.unchanged, 0u);
  EXPECT_EQ(ledger_.ballooned_pages(), 2u);
  EXPECT_TRUE(ledger_.is_ballooned(66));
  EXPECT_FALSE(ledger_.is_ballooned(65));
}

TEST_F(LedgerTest, PagesInflatedTwiceAreUnchangedAndCountOnce) {
  inflate(0, 0b0011);

  const Ledger::Booked booked = inflate(0, 0b0110);

  EXPECT_EQ(booked.pages, 2u);
  EXPECT_EQ(booked.unchanged, 1u);
  EXPECT_EQ(ledger_.ballooned_pages(), 3u);
}

TEST_F(LedgerTest, DeflatedPagesLeaveTheBalloon) {
  inflate(0, 0b11);

  const Ledger::Booked booked = deflate(0, 0b10);

  EXPECT_EQ(booked.pages, 1u);
  EXPECT_EQ(booked.unchanged, 0u);
  EXPECT_EQ(ledger_.ballooned_pages(), 1u);
  EXPECT_FALSE(ledger_.is_ballooned(1));
}

TEST_F(LedgerTest, PagesDeflatedThatWereNotInTheBalloonAreUnchanged) {
  inflate(0, 0b01);

  const Ledger::Booked booked = deflate(0, 0b11);

  EXPECT_EQ(booked.pages, 2u);
  EXPECT_EQ(booked.unchanged, 1u);
  EXPECT_EQ(ledger_.ballooned_pages(), 0u);
}

TEST_F(LedgerTest, WholeWordsInflatedCountOnlyWhatWasOutside) {
  inflate(1, 0b111);
  Ledger::Booked booked;

  ledger_.inflate_whole(0, 3, booked);

  EXPECT_EQ(booked.pages, 192u);
  EXPECT_EQ(booked.unchanged, 3u);
  EXPECT_EQ(ledger_.ballooned_pages(), 192u);
}

TEST_F(LedgerTest, WholeWordsDeflatedCountOnlyWhatWasInside) {
  inflate(0, kAll);
  inflate(1, 0b111);
  Ledger::Booked booked;

  ledger_.deflate_whole(0, 3, booked);

  EXPECT_EQ(booked.pages, 192u);
  EXPECT_EQ(booked.unchanged, 64u + 61u);
  EXPECT_EQ(ledger_.ballooned_pages(), 0u);
}

TEST_F(LedgerTest, WholeWordsDeflatedCancelWhatWasOwed) {
  inflate(0, kAll);
  ledger_.owe({3, 2});
  Ledger::Booked booked;

  ledger_.deflate_whole(0, 1, booked);

  EXPECT_EQ(booked.cancelled, 2u);
  EXPECT_EQ(ledger_.owed_pages(), 0u);
}

TEST_F(LedgerTest, OwingAPageTwiceCountsOnce) {
  inflate(0, 0b111);
  ledger_.owe({0, 2});

  EXPECT_EQ(ledger_.owe({1, 2}), 1u);
  EXPECT_EQ(ledger_.owed_pages(), 3u);
}

TEST_F(LedgerTest, SettlingAnswersOnlyWhatWasOwed) {
  inflate(0, 0b1111);
  ledger_.owe({1, 2});

  EXPECT_EQ(ledger_.settle({0, 4}), 2u);
  EXPECT_EQ(ledger_.owed_pages(), 0u);
  EXPECT_EQ(ledger_.ballooned_pages(), 4u);
}

TEST_F(LedgerTest, DeflatingAnOwedPageCancelsIt) {
  inflate(0, 0b11);
  ledger_.owe({0, 2});

  EXPECT_EQ(deflate(0, 0b01).cancelled, 1u);
  EXPECT_EQ(ledger_.owed_pages(), 1u);
}

TEST_F(LedgerTest, InflatingAnOwedPageAgainCancelsWhatWasOwed) {
  inflate(0, 0b11);
  ledger_.owe({0, 2});

  EXPECT_EQ(inflate(0, 0b01).cancelled, 1u);
  EXPECT_EQ(ledger_.owed_pages(), 1u);
}

TEST_F(LedgerTest, AllBalloonedLooksAcrossWords) {
  inflate(0, kAll << 60);
  inflate(1, 0b11);

  EXPECT_TRUE(ledger_.all_ballooned({60, 6}));
  EXPECT_FALSE(ledger_.all_ballooned({60, 7}));
  EXPECT_FALSE(ledger_.all_ballooned({59, 7}));
}

TEST_F(LedgerTest, CopiedPagesAreBookedAsInTheOther) {
  inflate(1, 0b1111);
  ledger_.owe({66, 1});
  Ledger other(10);

  other.copy(ledger_, 65, {2, 4});

  EXPECT_EQ(other.ballooned_pages(), 3u);
  EXPECT_TRUE(other.all_ballooned({2, 3}));
  EXPECT_EQ(other.owed_pages(), 1u);
  EXPECT_EQ(other.next_owed(0, 10), (PageRange{3, 1}));
}

TEST_F(LedgerTest, ClearForgetsTheBalloonAndWhatIsOwed) {
  inflate(2, 0b11);
  ledger_.owe({128, 1});

  ledger_.clear();

  EXPECT_EQ(ledger_.ballooned_pages(), 0u);
  EXPECT_EQ(ledger_.owed_pages(), 0u);
  EXPECT_FALSE(ledger_.is_ballooned(128));
  EXPECT_EQ(ledger_.settle({128, 1}), 0u);
}

}  // namespace
}  // namespace vballoon
