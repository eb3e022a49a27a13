// SPDX-License-Identifier: MIT
// How many messages the published drivers send for a set of pages, told page by page from what was
// published, without a line of the library's.
#ifndef VBALLOON_TESTS_GUEST_PUBLISHED_MESSAGES_H_
#define VBALLOON_TESTS_GUEST_PUBLISHED_MESSAGES_H_

#include <cstdint>
#include <set>
#include <vector>

namespace vballoon::testing {

// Windows of so many pages follow one another from the first multiple of 64 at or below the lowest
// page; those that have a page.
inline std::vector<std::vector<std::uint64_t>> published_windows(
    const std::set<std::uint64_t>& pages, std::uint64_t window_pages) {
  std::vector<std::vector<std::uint64_t>> windows;
  std::uint64_t end = 0;
  for (const std::uint64_t page : pages) {
    if (windows.empty() || page >= end) {
      const std::uint64_t base = *pages.begin() / 64 * 64;
      end = base + ((page - base) / window_pages + 1) * window_pages;
      windows.emplace_back();
    }
    windows.back().push_back(page);
  }
  return windows;
}

// The 64-bit words of the records for one run of ones, and where the scan goes on: the whole word
// of a ragged beginning and of a ragged end, and a block for each bit of the length between them.
inline std::uint64_t published_record_words(std::uint64_t first, std::uint64_t end,
                                            std::uint64_t& next) {
  std::uint64_t words = 0;
  next = (end + 63) / 64 * 64;
  std::uint64_t middle = first;
  std::uint64_t middle_end = end;
  if (first % 64 != 0) {
    words += 2;
    middle = (first / 64 + 1) * 64;
    if (middle >= end) return words;
  }
  if (end % 64 != 0) {
    words += 2;
    middle_end = end / 64 * 64;
  }
  for (std::uint64_t left = middle_end - middle; left != 0; left &= left - 1) ++words;
  return words;
}

// In the page bitmap: a message is full when fewer than 64 of its 4096 words are left.
inline std::uint64_t published_bitmap_messages(const std::set<std::uint64_t>& pages) {
  std::uint64_t messages = 0;
  for (const auto& window : published_windows(pages, 262144)) {
    std::uint64_t used = 0;
    std::uint64_t next = 0;
    for (std::size_t i = 0; i < window.size();) {
      // A word is sent once: what the last run left of its last word has been sent with it.
      if (window[i] < next) {
        ++i;
        continue;
      }
      if (used + 64 > 4096) {
        ++messages;
        used = 0;
      }
      std::size_t last = i;
      while (last + 1 < window.size() && window[last + 1] == window[last] + 1) ++last;
      used += published_record_words(window[i], window[last] + 1, next);
      i = last + 1;
    }
    if (used != 0) ++messages;
  }
  return messages;
}

// With one header: a message for each window of as many pages as the bitmap has bits.
inline std::uint64_t published_single_header_messages(const std::set<std::uint64_t>& pages,
                                                      std::uint64_t window_pages) {
  return published_windows(pages, window_pages).size();
}

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_GUEST_PUBLISHED_MESSAGES_H_
