// SPDX-License-Identifier: MIT
#include "guest/named_pages.h"

#include <algorithm>

namespace vballoon::sim {
namespace {

constexpr std::uint64_t kWordPages = 64;

}  // namespace

void NamedPages::add(PageRange pages) {
  if (pages.count == 1) {
    set_.add(pages.first);
  } else {
    set_.add(pages);
  }
  lowest_ = std::min(lowest_, pages.first);
  highest_ = std::max(highest_, pages.end() - 1);
}

PageRange NamedPages::first_run() {
  const PageRange run = lowest_ <= highest_ ? set_.next_run(lowest_, highest_ + 1) : PageRange{};
  lowest_ = run.first;
  if (run.count == 0) {
    lowest_ = UINT64_MAX;
    highest_ = 0;
    windows_begin_.reset();
  }
  return run;
}

PageRange NamedPages::windows(std::uint64_t window_pages) const {
  if (lowest_ > highest_) return {};
  const Pfn first = lowest_ / kWordPages * kWordPages;
  return {first, ((highest_ - first) / window_pages + 1) * window_pages};
}

PageRange NamedPages::first_window(std::uint64_t window_pages) {
  const PageRange run = first_run();
  if (run.count == 0) return {};
  const Pfn first = run.first / kWordPages * kWordPages;
  if (!windows_begin_) windows_begin_ = first;
  const std::uint64_t windows = (first - *windows_begin_) / window_pages + 1;
  return {first, std::min(*windows_begin_ + windows * window_pages, highest_ + 1) - first};
}

void NamedPages::remove_first(PageRange pages) {
  set_.remove(pages);
  lowest_ = pages.end();
}

std::span<const std::uint64_t> NamedPages::words_of(PageRange pages) {
  words_.resize((pages.count + kWordPages - 1) / kWordPages);
  set_.copy_words(pages.first, words_);
  return words_;
}

}  // namespace vballoon::sim
