// SPDX-License-Identifier: MIT
// Sets of page numbers anywhere in 64 bits (src/guest/sparse_page_set.cc).
#include "guest/sparse_page_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <set>
#include <vector>

namespace vballoon {
namespace {

using sim::SparsePageSet;
using ::testing::Each;
using ::testing::ElementsAre;

constexpr Pfn kLast = UINT64_MAX - 1;
constexpr std::uint64_t kLeaf = 1 << 15;  // pages of one bitmap

class SparsePageSetTest : public ::testing::Test {
 protected:
  SparsePageSet set_;
};

TEST_F(SparsePageSetTest, HasNothingAtFirst) {
  EXPECT_TRUE(set_.empty());
  EXPECT_FALSE(set_.contains(0));
  EXPECT_EQ(set_.next_set(0, UINT64_MAX), UINT64_MAX);
  EXPECT_EQ(set_.next_clear(5, UINT64_MAX), 5u);
}

TEST_F(SparsePageSetTest, FirstAndLastPageOfAllAreFound) {
  set_.add({0, 1});
  set_.add({kLast, 1});

  EXPECT_TRUE(set_.contains(0));
  EXPECT_TRUE(set_.contains(kLast));
  EXPECT_EQ(set_.next_set(1, UINT64_MAX), kLast);
  EXPECT_EQ(set_.next_run(1, UINT64_MAX), (PageRange{kLast, 1}));
}

TEST_F(SparsePageSetTest, RunGoesOnFromOneBitmapToTheNext) {
  set_.add({kLeaf - 3, 2 * kLeaf});

  EXPECT_EQ(set_.next_run(0, UINT64_MAX), (PageRange{kLeaf - 3, 2 * kLeaf}));
  EXPECT_EQ(set_.next_clear(kLeaf, UINT64_MAX), 3 * kLeaf - 3);
}

TEST_F(SparsePageSetTest, RunEndsWithABitmapThatHasNoNeighbour) {
  set_.add({0, kLeaf});
  set_.add({2 * kLeaf, 1});

  EXPECT_EQ(set_.next_run(0, UINT64_MAX), (PageRange{0, kLeaf}));
  EXPECT_EQ(set_.next_run(kLeaf, UINT64_MAX), (PageRange{2 * kLeaf, 1}));
}

TEST_F(SparsePageSetTest, RunsAreCutAtTheLimit) {
  set_.add({100, 100});

  EXPECT_EQ(set_.next_run(0, 150), (PageRange{100, 50}));
  EXPECT_EQ(set_.next_run(0, 100).count, 0u);
}

TEST_F(SparsePageSetTest, PagesInTheMiddleAreRemoved) {
  set_.add({0, 3 * kLeaf});

  set_.remove({10, 3 * kLeaf - 20});

  EXPECT_EQ(set_.next_run(0, UINT64_MAX), (PageRange{0, 10}));
  EXPECT_EQ(set_.next_run(10, UINT64_MAX), (PageRange{3 * kLeaf - 10, 10}));
}

TEST_F(SparsePageSetTest, RemovingMoreThanThereIsLeavesNothing) {
  set_.add({5, 1});
  set_.add({kLast, 1});

  set_.remove({0, UINT64_MAX});

  EXPECT_TRUE(set_.empty());
}

TEST_F(SparsePageSetTest, PageIsAddedAgainAfterItsBitmapWent) {
  set_.add({5, 1});
  set_.remove({5, 1});

  set_.add({6, 1});

  EXPECT_EQ(set_.next_run(0, UINT64_MAX), (PageRange{6, 1}));
}

TEST_F(SparsePageSetTest, WordsAreThoseOfSeveralBitmapsWithZerosBetween) {
  set_.add({kLeaf - 1, 1});
  set_.add({2 * kLeaf, 2});
  std::vector<std::uint64_t> words(kLeaf / 64 + 2, ~std::uint64_t{0});

  set_.copy_words(kLeaf - 64, words);

  EXPECT_EQ(words.front(), std::uint64_t{1} << 63);
  EXPECT_EQ(words.back(), 3u);
  EXPECT_THAT(std::span(words).subspan(1, kLeaf / 64), Each(0u));
}

TEST_F(SparsePageSetTest, WordsWhereNothingIsAreZero) {
  set_.add({0, 1});
  std::array<std::uint64_t, 2> words{1, 1};

  set_.copy_words(64, words);

  EXPECT_THAT(words, ElementsAre(0u, 0u));
}

// ---- any pages, against a std::set --------------------------------------------------------------

Pfn any_page() {
  const Pfn base = *rc::gen::element<Pfn>(0, kLeaf, 5 * kLeaf, std::uint64_t{1} << 40,
                                          std::uint64_t{1} << 63, kLast - 2 * kLeaf);
  return base + *rc::gen::inRange<Pfn>(0, 200) * *rc::gen::element<Pfn>(1, 63, 64, kLeaf / 128);
}

RC_GTEST_PROP(SparsePageSetPropertyTest, HoldsWhatASetOfNumbersHolds, ()) {
  SparsePageSet set;
  std::set<Pfn> model;
  const int steps = *rc::gen::inRange(1, 30);
  for (int step = 0; step < steps; ++step) {
    const Pfn first = any_page();
    const auto most = std::min<std::uint64_t>(200, UINT64_MAX - first);
    const PageRange pages{first, *rc::gen::inRange<std::uint64_t>(0, most + 1)};
    const bool add = *rc::gen::weightedElement<bool>({{2, true}, {1, false}});
    if (add) {
      set.add(pages);
    } else {
      set.remove(pages);
    }
    for (Pfn page = pages.first; page < pages.end(); ++page) {
      if (add) {
        model.insert(page);
      } else {
        model.erase(page);
      }
    }
    const Pfn from = any_page();
    const auto found = model.lower_bound(from);
    RC_ASSERT(set.next_set(from, UINT64_MAX) == (found == model.end() ? UINT64_MAX : *found));
    Pfn clear = from;
    while (model.contains(clear)) ++clear;
    RC_ASSERT(set.next_clear(from, UINT64_MAX) == clear);
    RC_ASSERT(set.contains(from) == model.contains(from));
    RC_ASSERT(set.empty() == model.empty());
  }
  std::set<Pfn> held;
  for (PageRange run = set.next_run(0, UINT64_MAX); run.count != 0;
       run = set.next_run(run.end(), UINT64_MAX)) {
    for (Pfn page = run.first; page < run.end(); ++page) held.insert(page);
  }
  RC_ASSERT(held == model);
}

RC_GTEST_PROP(SparsePageSetPropertyTest, WordsHaveTheBitsOfTheirPages, ()) {
  SparsePageSet set;
  const auto pages = *rc::gen::container<std::set<Pfn>>(rc::gen::inRange<Pfn>(0, 3 * kLeaf));
  for (const Pfn page : pages) set.add({page, 1});
  const Pfn first = *rc::gen::inRange<Pfn>(0, 2 * kLeaf / 64) * 64;
  std::vector<std::uint64_t> words(*rc::gen::inRange<std::size_t>(0, kLeaf / 64 + 2));

  set.copy_words(first, words);

  for (Pfn bit = 0; bit < words.size() * 64; ++bit) {
    RC_ASSERT((words[bit / 64] >> bit % 64 & 1) == (pages.contains(first + bit) ? 1u : 0u));
  }
}

}  // namespace
}  // namespace vballoon
