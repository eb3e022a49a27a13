// SPDX-License-Identifier: MIT
// Pages of guest memory that are filled with one word, and the check whether they still are.
#ifndef VBALLOON_SRC_GUEST_PAGE_CONTENTS_H_
#define VBALLOON_SRC_GUEST_PAGE_CONTENTS_H_

#include <cstdint>

#include "vballoon/guest_memory.h"
#include "vballoon/page_range.h"

namespace vballoon::sim {

[[nodiscard]] constexpr std::uint64_t word_of_byte(std::uint8_t byte) {
  return std::uint64_t{0x0101010101010101} * byte;
}

// Both require a page of guest memory.
void fill_page(const GuestMemory& memory, Pfn pfn, std::uint64_t word);
[[nodiscard]] bool page_holds(const GuestMemory& memory, Pfn pfn, std::uint64_t word);

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_PAGE_CONTENTS_H_
