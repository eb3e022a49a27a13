// SPDX-License-Identifier: MIT
// Bitmaps of pages, 64 to a word and page 0 in the lowest bit of the first: what every set of them
// does with its words.
#ifndef VBALLOON_SRC_BASE_PAGE_WORDS_H_
#define VBALLOON_SRC_BASE_PAGE_WORDS_H_

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>

#include "vballoon/page_range.h"

namespace vballoon {

// Calls on_word(word, mask) for each word that the range touches.
template <typename OnWord>
void for_each_page_word(PageRange range, OnWord on_word) {
  if (range.count == 0) return;
  const std::uint64_t last = (range.end() - 1) / 64;
  std::uint64_t w = range.first / 64;
  std::uint64_t mask = ~std::uint64_t{0} << (range.first % 64);
  for (; w < last; ++w) {
    on_word(w, mask);
    mask = ~std::uint64_t{0};
  }
  on_word(w, mask & (~std::uint64_t{0} >> (63 - (range.end() - 1) % 64)));
}

// The first page at or after `from` whose bit is `value`; `limit`, which lies in the last word at
// the most, when there is none below it.
[[nodiscard]] inline Pfn find_page(std::span<const std::uint64_t> words, Pfn from, Pfn limit,
                                   bool value) {
  if (from >= limit) return limit;
  const std::uint64_t flip = value ? 0 : ~std::uint64_t{0};
  std::uint64_t w = from / 64;
  std::uint64_t bits = (words[w] ^ flip) & (~std::uint64_t{0} << (from % 64));
  const std::uint64_t end = (limit + 63) / 64;
  while (bits == 0) {
    if (++w >= end) return limit;
    bits = words[w] ^ flip;
  }
  return std::min(limit, w * 64 + static_cast<std::uint64_t>(std::countr_zero(bits)));
}

}  // namespace vballoon

#endif  // VBALLOON_SRC_BASE_PAGE_WORDS_H_
