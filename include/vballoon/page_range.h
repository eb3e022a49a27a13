// SPDX-License-Identifier: MIT
// Guest pages by number: the currency of the library up to translation.          room: base
//
// A page is always 4 KiB, whatever the page size of the guest (virtio 1.3, section 5.5.6).
#ifndef VBALLOON_PAGE_RANGE_H_
#define VBALLOON_PAGE_RANGE_H_

#include <cstdint>

namespace vballoon {

inline constexpr unsigned kPageShift = 12;
inline constexpr std::uint64_t kPageSize = std::uint64_t{1} << kPageShift;

// Page frame number: guest-physical address >> 12.
using Pfn = std::uint64_t;

// Guest-physical pages [first, first + count).
struct PageRange {
  Pfn first = 0;
  std::uint64_t count = 0;

  [[nodiscard]] constexpr Pfn end() const { return first + count; }
  [[nodiscard]] constexpr std::uint64_t bytes() const { return count << kPageShift; }
  friend constexpr bool operator==(const PageRange&, const PageRange&) = default;
};

}  // namespace vballoon

#endif  // VBALLOON_PAGE_RANGE_H_
