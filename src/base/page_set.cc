// SPDX-License-Identifier: MIT
#include "base/page_set.h"

#include <algorithm>
#include <bit>
#include <cassert>

namespace vballoon {
namespace {

// Calls `word(w, mask)` for each word that the range touches.
template <typename Word>
void for_each_word(PageRange range, Word word) {
  if (range.count == 0) return;
  const std::uint64_t last = (range.end() - 1) / 64;
  std::uint64_t w = range.first / 64;
  std::uint64_t mask = ~std::uint64_t{0} << (range.first % 64);
  for (; w < last; ++w) {
    word(w, mask);
    mask = ~std::uint64_t{0};
  }
  word(w, mask & (~std::uint64_t{0} >> (63 - (range.end() - 1) % 64)));
}

}  // namespace

PageSet::PageSet(std::uint64_t size) : words_((size + 63) / 64), size_(size) {}

std::uint64_t PageSet::add(PageRange range) {
  assert(range.end() <= size_);
  std::uint64_t changed = 0;
  for_each_word(range, [&](std::uint64_t w, std::uint64_t mask) {
    changed += static_cast<std::uint64_t>(std::popcount(mask & ~words_[w]));
    words_[w] |= mask;
  });
  return changed;
}

std::uint64_t PageSet::remove(PageRange range) {
  assert(range.end() <= size_);
  std::uint64_t changed = 0;
  for_each_word(range, [&](std::uint64_t w, std::uint64_t mask) {
    changed += static_cast<std::uint64_t>(std::popcount(mask & words_[w]));
    words_[w] &= ~mask;
  });
  return changed;
}

void PageSet::clear() { std::fill(words_.begin(), words_.end(), 0); }

std::uint64_t PageSet::count(PageRange range) const {
  assert(range.end() <= size_);
  std::uint64_t pages = 0;
  for_each_word(range, [&](std::uint64_t w, std::uint64_t mask) {
    pages += static_cast<std::uint64_t>(std::popcount(mask & words_[w]));
  });
  return pages;
}

PageRange PageSet::next_run(Pfn from, Pfn limit) const {
  limit = std::min(limit, size_);
  // The first page at or after `from` whose bit, xor-ed with `flip`, is one.
  const auto find = [&](Pfn at, std::uint64_t flip) {
    if (at >= limit) return limit;
    std::uint64_t w = at / 64;
    std::uint64_t bits = (words_[w] ^ flip) & (~std::uint64_t{0} << (at % 64));
    const std::uint64_t words = (limit + 63) / 64;
    while (bits == 0) {
      if (++w >= words) return limit;
      bits = words_[w] ^ flip;
    }
    return std::min(limit, w * 64 + static_cast<std::uint64_t>(std::countr_zero(bits)));
  };
  const Pfn first = find(from, 0);
  return {first, find(first, ~std::uint64_t{0}) - first};
}

}  // namespace vballoon
