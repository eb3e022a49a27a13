// SPDX-License-Identifier: MIT
#include "guest/sparse_page_set.h"

#include <algorithm>
#include <bit>
#include <cassert>

#include "base/page_words.h"

namespace vballoon::sim {
namespace {

std::uint64_t count_of(std::uint64_t bits) {
  return static_cast<std::uint64_t>(std::popcount(bits));
}

}  // namespace

void SparsePageSet::add(PageRange pages) {
  assert(pages.count <= UINT64_MAX - pages.first);
  while (pages.count != 0) {
    const std::uint64_t number = pages.first / kLeafPages;
    if (!is_at(last_, number)) last_ = leaves_.try_emplace(number).first;
    Leaf& leaf = last_->second;
    const PageRange part{pages.first % kLeafPages,
                         std::min(pages.count, kLeafPages - pages.first % kLeafPages)};
    for_each_page_word(part, [&leaf](std::uint64_t w, std::uint64_t mask) {
      leaf.pages += count_of(mask & ~leaf.words[w]);
      leaf.words[w] |= mask;
    });
    pages = {pages.first + part.count, pages.count - part.count};
  }
}

void SparsePageSet::remove(PageRange pages) {
  assert(pages.count <= UINT64_MAX - pages.first);
  const auto from = first_from(pages.first / kLeafPages);
  auto at = leaves_.erase(from, from);  // the same, and may change what it stands at
  while (at != leaves_.end() && at->first * kLeafPages < pages.end()) {
    auto& [number, leaf] = *at;
    const Pfn base = number * kLeafPages;
    const Pfn first = std::max(pages.first, base) - base;
    const Pfn end = std::min(pages.end() - base, kLeafPages);
    for_each_page_word({first, end - first}, [&leaf = leaf](std::uint64_t w, std::uint64_t mask) {
      leaf.pages -= count_of(mask & leaf.words[w]);
      leaf.words[w] &= ~mask;
    });
    if (leaf.pages != 0) {
      ++at;
      continue;
    }
    if (last_ == at) last_ = leaves_.end();
    if (looked_ == at) looked_ = leaves_.end();
    at = leaves_.erase(at);
  }
}

bool SparsePageSet::contains(Pfn page) const {
  const auto found = first_from(page / kLeafPages);
  if (!is_at(found, page / kLeafPages)) return false;
  const std::uint64_t bit = page % kLeafPages;
  return (found->second.words[bit / 64] >> bit % 64 & 1) != 0;
}

Pfn SparsePageSet::next_set(Pfn from, Pfn limit) const {
  for (auto at = first_from(from / kLeafPages); at != leaves_.end(); ++at) {
    const Pfn base = at->first * kLeafPages;
    if (base >= limit) break;
    const Pfn found = find_page(at->second.words, std::max(from, base) - base, kLeafPages, true);
    if (found != kLeafPages) return std::min(limit, base + found);
  }
  return limit;
}

Pfn SparsePageSet::next_clear(Pfn from, Pfn limit) const {
  for (auto at = first_from(from / kLeafPages); is_at(at, from / kLeafPages); ++at) {
    const Pfn base = at->first * kLeafPages;
    const Pfn found = find_page(at->second.words, from - base, kLeafPages, false);
    if (found != kLeafPages || limit - base <= kLeafPages) return std::min(limit, base + found);
    from = base + kLeafPages;
  }
  return std::min(from, limit);
}

void SparsePageSet::copy_words(Pfn first, std::span<std::uint64_t> out) const {
  assert(first % 64 == 0);
  std::ranges::fill(out, 0);
  const std::uint64_t first_word = first / 64;
  for (auto at = leaves_.lower_bound(first / kLeafPages); at != leaves_.end(); ++at) {
    const std::uint64_t base = at->first * kLeafWords;
    const std::uint64_t begin = std::max(base, first_word);
    if (begin - first_word >= out.size()) return;
    const std::uint64_t count =
        std::min(base + kLeafWords - begin, out.size() - (begin - first_word));
    std::copy_n(at->second.words.begin() + static_cast<std::ptrdiff_t>(begin - base), count,
                out.begin() + static_cast<std::ptrdiff_t>(begin - first_word));
  }
}

}  // namespace vballoon::sim
