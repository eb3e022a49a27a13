// SPDX-License-Identifier: MIT
#include "guest/page_contents.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <span>

namespace vballoon::sim {
namespace {

using Words = std::array<std::uint64_t, kPageSize / sizeof(std::uint64_t)>;

}  // namespace

void fill_page(const GuestMemory& memory, Pfn pfn, std::uint64_t word) {
  Words words;
  words.fill(word);
  [[maybe_unused]] const bool inside =
      memory.write(pfn << kPageShift, std::as_bytes(std::span(words)));
  assert(inside);
}

bool page_holds(const GuestMemory& memory, Pfn pfn, std::uint64_t word) {
  Words words;
  const bool inside = memory.read(pfn << kPageShift, std::as_writable_bytes(std::span(words)));
  assert(inside);
  return inside && std::ranges::all_of(words, [word](std::uint64_t w) { return w == word; });
}

}  // namespace vballoon::sim
