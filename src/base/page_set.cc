// SPDX-License-Identifier: MIT
#include "base/page_set.h"

#include <algorithm>
#include <bit>
#include <cassert>

#include "base/page_words.h"

namespace vballoon {

PageSet::PageSet(std::uint64_t size) : words_((size + 63) / 64), size_(size) {}

std::uint64_t PageSet::add(PageRange range) {
  assert(range.end() <= size_);
  std::uint64_t changed = 0;
  for_each_page_word(range, [&](std::uint64_t w, std::uint64_t mask) {
    changed += static_cast<std::uint64_t>(std::popcount(mask & ~words_[w]));
    words_[w] |= mask;
  });
  return changed;
}

std::uint64_t PageSet::remove(PageRange range) {
  assert(range.end() <= size_);
  std::uint64_t changed = 0;
  for_each_page_word(range, [&](std::uint64_t w, std::uint64_t mask) {
    changed += static_cast<std::uint64_t>(std::popcount(mask & words_[w]));
    words_[w] &= ~mask;
  });
  return changed;
}

void PageSet::clear() { std::fill(words_.begin(), words_.end(), 0); }

std::uint64_t PageSet::count(PageRange range) const {
  assert(range.end() <= size_);
  std::uint64_t pages = 0;
  for_each_page_word(range, [&](std::uint64_t w, std::uint64_t mask) {
    pages += static_cast<std::uint64_t>(std::popcount(mask & words_[w]));
  });
  return pages;
}

PageRange PageSet::next_run(Pfn from, Pfn limit) const {
  limit = std::min(limit, size_);
  const Pfn first = find_page(words_, from, limit, true);
  return {first, find_page(words_, first, limit, false) - first};
}

}  // namespace vballoon
