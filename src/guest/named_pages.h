// SPDX-License-Identifier: MIT
// The pages that one operation names, given back in ascending order.
#ifndef VBALLOON_SRC_GUEST_NAMED_PAGES_H_
#define VBALLOON_SRC_GUEST_NAMED_PAGES_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "guest/sparse_page_set.h"
#include "vballoon/page_range.h"

namespace vballoon::sim {

// When all pages were removed the next ones are those of another operation.
class NamedPages {
 public:
  void add(PageRange pages);

  // The first run that was not removed; of no pages when there is none left.
  [[nodiscard]] PageRange first_run();
  // The windows, as below, from the first one to that of the last page; of no pages when none was
  // added.
  [[nodiscard]] PageRange windows(std::uint64_t window_pages) const;
  // From the word of the first page that was not removed to the end of its window, or behind the
  // last page; of no pages when there is none left. Windows of so many pages, a multiple of 64,
  // follow one another from the word of the operation's lowest page on.
  [[nodiscard]] PageRange first_window(std::uint64_t window_pages);
  // Removes what has been named: the first of all pages, those of a range.
  void remove_first(PageRange pages);

  // The bits of a range that begins with a word, until the next call.
  [[nodiscard]] std::span<const std::uint64_t> words_of(PageRange pages);

 private:
  SparsePageSet set_;
  Pfn lowest_ = UINT64_MAX;  // no page lies outside of these
  Pfn highest_ = 0;
  std::optional<Pfn> windows_begin_;
  std::vector<std::uint64_t> words_;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_NAMED_PAGES_H_
