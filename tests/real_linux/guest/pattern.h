// SPDX-License-Identifier: MIT
// What the guest's processes write into their memory, to see later that nobody else has.
#ifndef VBALLOON_TESTS_REAL_LINUX_GUEST_PATTERN_H_
#define VBALLOON_TESTS_REAL_LINUX_GUEST_PATTERN_H_

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace vballoon::guest {

inline constexpr std::size_t kMib = 1 << 20;
inline constexpr std::size_t kWordsInPage = 4096 / sizeof(std::uint64_t);

// Memory of this process alone, given back at the end.
class Memory {
 public:
  explicit Memory(std::size_t bytes)
      : bytes_(bytes),
        address_(
            ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
  ~Memory() { ::munmap(address_, bytes_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  [[nodiscard]] bool mapped() const { return address_ != MAP_FAILED; }
  [[nodiscard]] std::span<std::uint64_t> words() const {
    return {static_cast<std::uint64_t*>(address_), bytes_ / sizeof(std::uint64_t)};
  }

 private:
  std::size_t bytes_;
  void* address_;
};

// Every word of memory has a value of its own, never 0: a page that was exchanged or zeroed shows.
[[nodiscard]] inline std::uint64_t pattern_word(std::uint64_t seed, std::size_t index) {
  return (seed << 32 | index) * 0x9E3779B97F4A7C15U | 1;
}

inline void fill(std::span<std::uint64_t> words, std::uint64_t seed) {
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = pattern_word(seed, i);
}

[[nodiscard]] inline std::uint64_t count_wrong_pages(std::span<const std::uint64_t> words,
                                                     std::uint64_t seed) {
  std::uint64_t wrong_pages = 0;
  for (std::size_t page = 0; page < words.size(); page += kWordsInPage) {
    bool right = true;
    for (std::size_t i = page; i < std::min(page + kWordsInPage, words.size()); ++i) {
      right = right && words[i] == pattern_word(seed, i);
    }
    if (!right) ++wrong_pages;
  }
  return wrong_pages;
}

}  // namespace vballoon::guest

#endif  // VBALLOON_TESTS_REAL_LINUX_GUEST_PATTERN_H_
