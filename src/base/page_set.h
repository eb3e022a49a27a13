// SPDX-License-Identifier: MIT
// A set of pages as a flat bitmap with the operations that scan and book runs.
#ifndef VBALLOON_SRC_BASE_PAGE_SET_H_
#define VBALLOON_SRC_BASE_PAGE_SET_H_

#include <cstdint>
#include <span>
#include <vector>

#include "vballoon/export.h"
#include "vballoon/page_range.h"

namespace vballoon {

// Pages [0, size()). Ranges given to a member must lie inside.
class VBALLOON_EXPORT PageSet {
 public:
  PageSet() = default;
  explicit PageSet(std::uint64_t size);

  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] bool contains(Pfn page) const {
    return ((words_[page / 64] >> (page % 64)) & 1) != 0;
  }

  // Each returns how many pages changed.
  std::uint64_t add(PageRange range);
  std::uint64_t remove(PageRange range);
  void add(Pfn page) { words_[page / 64] |= std::uint64_t{1} << (page % 64); }
  void clear();

  [[nodiscard]] std::uint64_t count(PageRange range) const;
  [[nodiscard]] std::uint64_t count() const { return count({0, size_}); }

  // The first run of pages in the set that begins at or after `from`, cut at `limit`; an empty
  // range when there is none below `limit`.
  [[nodiscard]] PageRange next_run(Pfn from, Pfn limit) const;

  // 64 pages a word, page 0 in the lowest bit of the first.
  [[nodiscard]] std::span<std::uint64_t> words() { return words_; }
  [[nodiscard]] std::span<const std::uint64_t> words() const { return words_; }

 private:
  std::vector<std::uint64_t> words_;  // bits at and above size_ are always zero
  std::uint64_t size_ = 0;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_BASE_PAGE_SET_H_
