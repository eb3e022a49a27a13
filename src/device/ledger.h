// SPDX-License-Identifier: MIT
// Which pages are in the balloon, and which of those still have to be given back.
//
// Two bits a page: *ballooned*, and *owed* (in the balloon, not yet discarded). Pages are known by
// their index in the dense table over all regions (MemoryRegion::first_page_index), so holes cost
// nothing.
#ifndef VBALLOON_SRC_DEVICE_LEDGER_H_
#define VBALLOON_SRC_DEVICE_LEDGER_H_

#include <cstdint>
#include <limits>
#include <span>

#include "base/page_set.h"
#include "vballoon/page_range.h"

namespace vballoon {

// Gathers ascending ranges into one mask for each word of 64 pages, so that a word that many
// small ranges share is read and written once: on_word(word, mask), and on_whole(word, words) for
// words that one range covers.
template <typename OnWord, typename OnWhole>
class WordGatherer {
 public:
  WordGatherer(OnWord on_word, OnWhole on_whole) : on_word_(on_word), on_whole_(on_whole) {}

  // `offset` is added to each page, modulo 2^64.
  void add(std::span<const PageRange> ranges, std::uint64_t offset) {
    // In locals, for the compiler to keep them in registers: a page can be a range of its own.
    std::uint64_t word = word_;
    std::uint64_t mask = mask_;
    for (auto range = ranges.begin(); range != ranges.end(); ++range) {
      const std::uint64_t first = range->first + offset;
      if (first / 64 != word) {
        if (mask != 0) on_word_(word, mask);
        word = first / 64;
        mask = 0;
      }
      if (ranges.end() - range >= 4 && are_pages_of_one_word(&*range, offset)) {
        mask |= bit_of(first) | bit_of(range[1].first + offset) | bit_of(range[2].first + offset) |
                bit_of(range[3].first + offset);
        range += 3;
        continue;
      }
      if (range->count == 1) {
        mask |= bit_of(first);
        continue;
      }
      const unsigned bit = first % 64;
      if (range->count <= 64 - bit) {
        mask |= (kAll >> (64 - range->count)) << bit;
        continue;
      }
      on_word_(word++, mask | kAll << bit);
      const std::uint64_t left = range->count - (64 - bit);
      if (left >= 64) on_whole_(word, left / 64);
      word += left / 64;
      mask = left % 64 != 0 ? kAll >> (64 - left % 64) : 0;
    }
    word_ = word;
    mask_ = mask;
  }

  void flush() {
    if (mask_ != 0) on_word_(word_, mask_);
    mask_ = 0;
  }

 private:
  static constexpr std::uint64_t kAll = std::numeric_limits<std::uint64_t>::max();

  static std::uint64_t bit_of(std::uint64_t page) { return std::uint64_t{1} << page % 64; }
  // Looked at four at a time, as they ascend: a bitmap with every other bit has nothing else.
  static bool are_pages_of_one_word(const PageRange* four, std::uint64_t offset) {
    return (four[0].count | four[1].count | four[2].count | four[3].count) == 1 &&
           (four[0].first + offset) / 64 == (four[3].first + offset) / 64;
  }

  OnWord on_word_;
  OnWhole on_whole_;
  std::uint64_t word_ = 0;
  std::uint64_t mask_ = 0;
};

class Ledger {
 public:
  explicit Ledger(std::uint64_t pages) : ballooned_(pages), owed_(pages) {}

  // What booking some pages found.
  struct Booked {
    std::uint64_t pages = 0;      // named
    std::uint64_t unchanged = 0;  // inflated while in the balloon, deflated while not in it
    std::uint64_t cancelled = 0;  // were owed and no longer are
  };

  // Books one word of pages as inflated, or as deflated.
  void inflate(std::uint64_t word, std::uint64_t mask, Booked& booked);
  void deflate(std::uint64_t word, std::uint64_t mask, Booked& booked);
  // The same for whole words, one behind the other.
  void inflate_whole(std::uint64_t word, std::uint64_t words, Booked& booked);
  void deflate_whole(std::uint64_t word, std::uint64_t words, Booked& booked);

  // Marks pages of the balloon as owed; returns how many were not before.
  std::uint64_t owe(PageRange pages);
  std::uint64_t owe(std::uint64_t word, std::uint64_t mask);
  // Marks pages as given back; returns how many were owed.
  std::uint64_t settle(PageRange pages);

  // The first run of owed pages in [from, limit); empty, at `limit`, when there is none.
  [[nodiscard]] PageRange next_owed(std::uint64_t from, std::uint64_t limit) const {
    return owed_.next_run(from, limit);
  }

  [[nodiscard]] std::uint64_t ballooned_pages() const { return ballooned_pages_; }
  [[nodiscard]] std::uint64_t owed_pages() const { return owed_pages_; }
  [[nodiscard]] bool is_ballooned(std::uint64_t page) const { return ballooned_.contains(page); }
  [[nodiscard]] bool all_ballooned(PageRange pages) const {
    return ballooned_.count(pages) == pages.count;
  }

  [[nodiscard]] bool none_ballooned(PageRange pages) const { return ballooned_.count(pages) == 0; }

  void clear();

  // Books pages, of which nothing is booked here, as those from `from_first` on are in another
  // ledger.
  void copy(const Ledger& from, std::uint64_t from_first, PageRange pages);

  // For saving a device.
  [[nodiscard]] const PageSet& ballooned() const { return ballooned_; }
  [[nodiscard]] const PageSet& owed() const { return owed_; }
  // False, with nothing changed, when these are no pages of this ledger, or when some are owed that
  // are not in the balloon.
  [[nodiscard]] bool restore(PageSet ballooned, PageSet owed);

 private:
  void cancel_owed(std::uint64_t word, std::uint64_t mask, Booked& booked);

  PageSet ballooned_;
  PageSet owed_;  // a subset of ballooned_
  std::uint64_t ballooned_pages_ = 0;
  std::uint64_t owed_pages_ = 0;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_DEVICE_LEDGER_H_
