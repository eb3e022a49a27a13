// SPDX-License-Identifier: MIT
// The messages that the published drivers send for a set of pages, told page by page from what was
// published, without a line of the library's.
#ifndef VBALLOON_TESTS_GUEST_PUBLISHED_MESSAGES_H_
#define VBALLOON_TESTS_GUEST_PUBLISHED_MESSAGES_H_

#include <cstddef>
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

// The pages of an inflate that walks the whole balloon for the pages of its windows: the new ones,
// and those old ones that lie in a window between the lowest and the highest new one.
inline std::set<std::uint64_t> published_inflate(const std::set<std::uint64_t>& fresh,
                                                 const std::set<std::uint64_t>& old,
                                                 std::uint64_t window_pages) {
  const std::uint64_t lowest = *fresh.begin() / 64 * 64;
  std::uint64_t end = lowest;
  while (end <= *fresh.rbegin()) end += window_pages;
  std::set<std::uint64_t> named = fresh;
  named.insert(old.lower_bound(lowest), old.lower_bound(end));
  return named;
}

// Appends a number to a payload, the lowest byte first.
inline void put_number(std::vector<std::byte>& payload, std::uint64_t value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) payload.push_back(std::byte(value >> 8 * i & 0xff));
}

// The 64 pages from `first` on as a bitmap.
inline std::uint64_t published_word(const std::set<std::uint64_t>& pages, std::uint64_t first) {
  std::uint64_t word = 0;
  for (std::uint64_t i = 0; i < 64; ++i) word |= std::uint64_t{pages.contains(first + i)} << i;
  return word;
}

// The records for one run of ones: the whole word of a ragged beginning and of a ragged end, and a
// block for each bit of the length between them, the longest first.
inline std::vector<std::uint64_t> published_records(const std::set<std::uint64_t>& pages,
                                                    std::uint64_t first, std::uint64_t end) {
  constexpr std::uint64_t kPageShift12 = std::uint64_t{12} << 52;
  constexpr std::uint64_t kEightBytes = std::uint64_t{8} << 58;
  std::vector<std::uint64_t> words;
  const auto put_word = [&](std::uint64_t at) {
    words.insert(words.end(), {at | kPageShift12 | kEightBytes, published_word(pages, at)});
  };
  std::uint64_t middle = first;
  std::uint64_t middle_end = end;
  if (first % 64 != 0) {
    put_word(first / 64 * 64);
    middle = (first / 64 + 1) * 64;
    if (middle >= end) return words;
  }
  if (end % 64 != 0) {
    put_word(end / 64 * 64);
    middle_end = end / 64 * 64;
  }
  for (unsigned order = 52; order-- > 0;) {
    if ((middle_end - middle) >> order == 0) continue;
    words.push_back(middle | std::uint64_t{12 + order} << 52);
    middle += std::uint64_t{1} << order;
  }
  return words;
}

// The messages of the page bitmap. One is full when fewer than 64 of its 4096 words are left.
inline std::vector<std::vector<std::byte>> published_bitmap_messages(
    const std::set<std::uint64_t>& pages) {
  std::vector<std::vector<std::byte>> messages;
  std::vector<std::uint64_t> words;
  const auto flush = [&] {
    if (words.empty()) return;
    put_number(messages.emplace_back(), words.size() * 8 << 32, 8);
    for (const std::uint64_t word : words) put_number(messages.back(), word, 8);
    words.clear();
  };
  for (const auto& window : published_windows(pages, 262144)) {
    const std::set<std::uint64_t> inside(window.begin(), window.end());
    for (auto page = inside.begin(); page != inside.end();) {
      if (words.size() + 64 > 4096) flush();
      const std::uint64_t first = *page;
      std::uint64_t end = first;
      while (page != inside.end() && *page == end) ++page, ++end;
      const auto records = published_records(inside, first, end);
      words.insert(words.end(), records.begin(), records.end());
      // A word is sent once: what the run left of its last word has been sent with it.
      page = inside.lower_bound((end + 63) / 64 * 64);
    }
    flush();
  }
  return messages;
}

// With one header: a message for each window of as many pages as the bitmap has bits.
inline std::vector<std::vector<std::byte>> published_single_header_messages(
    const std::set<std::uint64_t>& pages, std::uint64_t window_pages) {
  std::vector<std::vector<std::byte>> messages;
  for (const auto& window : published_windows(pages, window_pages)) {
    const std::set<std::uint64_t> inside(window.begin(), window.end());
    const std::uint64_t first = *inside.begin() / 64 * 64;
    const std::uint64_t end = (*inside.rbegin() / 64 + 1) * 64;
    auto& message = messages.emplace_back();
    put_number(message, 0, 2);   // cmd
    put_number(message, 12, 2);  // page_shift
    put_number(message, 0, 4);   // flag, reserved
    put_number(message, 0, 8);   // req_id
    put_number(message, first, 8);
    put_number(message, (end - first) / 8, 8);
    for (std::uint64_t at = first; at < end; at += 64) {
      put_number(message, published_word(inside, at), 8);
    }
  }
  return messages;
}

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_GUEST_PUBLISHED_MESSAGES_H_
