// SPDX-License-Identifier: MIT
// A set of page numbers anywhere in 64 bits: bitmaps of 4 KiB, where there are pages.
#ifndef VBALLOON_SRC_GUEST_SPARSE_PAGE_SET_H_
#define VBALLOON_SRC_GUEST_SPARSE_PAGE_SET_H_

#include <array>
#include <cstdint>
#include <map>
#include <span>

#include "vballoon/export.h"
#include "vballoon/page_range.h"

namespace vballoon::sim {

// The last page that there can be is 2^64 - 2.
class VBALLOON_EXPORT SparsePageSet {
 public:
  SparsePageSet() = default;
  SparsePageSet(const SparsePageSet&) = delete;
  SparsePageSet& operator=(const SparsePageSet&) = delete;

  void add(PageRange pages);
  void remove(PageRange pages);
  // As a driver mostly has them.
  void add(Pfn page) {
    const std::uint64_t number = page / kLeafPages;
    if (!is_at(last_, number)) last_ = leaves_.try_emplace(number).first;
    Leaf& leaf = last_->second;
    std::uint64_t& word = leaf.words[page % kLeafPages / 64];
    const std::uint64_t with = word | std::uint64_t{1} << page % 64;
    leaf.pages += with != word ? 1 : 0;
    word = with;
  }

  [[nodiscard]] bool contains(Pfn page) const;
  [[nodiscard]] bool empty() const { return leaves_.empty(); }
  // The first page at or after `from` that is in the set, or that is not; `limit` when there is
  // none below it.
  [[nodiscard]] Pfn next_set(Pfn from, Pfn limit) const;
  [[nodiscard]] Pfn next_clear(Pfn from, Pfn limit) const;
  // The first run of pages that begins at or after `from`, cut at `limit`; an empty range when
  // there is none below `limit`.
  [[nodiscard]] PageRange next_run(Pfn from, Pfn limit) const {
    const Pfn first = next_set(from, limit);
    return {first, next_clear(first, limit) - first};
  }

  // 64 pages a word, from a multiple of 64 on.
  void copy_words(Pfn first, std::span<std::uint64_t> out) const;

 private:
  static constexpr std::uint64_t kLeafWords = 512;
  static constexpr std::uint64_t kLeafPages = kLeafWords * 64;

  struct Leaf {
    std::array<std::uint64_t, kLeafWords> words{};
    std::uint64_t pages = 0;  // in the set
  };
  using Leaves = std::map<std::uint64_t, Leaf>;  // by number of page / kLeafPages; none is empty

  [[nodiscard]] bool is_at(Leaves::const_iterator at, std::uint64_t number) const {
    return at != leaves_.end() && at->first == number;
  }
  // The first leaf of that number or a higher one.
  [[nodiscard]] Leaves::const_iterator first_from(std::uint64_t number) const {
    if (!is_at(looked_, number)) looked_ = leaves_.lower_bound(number);
    return looked_;
  }

  Leaves leaves_;
  // Where a page was added, and where one was looked for: the next is often near.
  Leaves::iterator last_ = leaves_.end();
  mutable Leaves::const_iterator looked_ = leaves_.end();
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_SPARSE_PAGE_SET_H_
