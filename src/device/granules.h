// SPDX-License-Identifier: MIT
// In which pieces the memory of a region goes back to the kernel.
#ifndef VBALLOON_SRC_DEVICE_GRANULES_H_
#define VBALLOON_SRC_DEVICE_GRANULES_H_

#include <algorithm>
#include <array>
#include <cstdint>

#include "vballoon/balloon_device.h"
#include "vballoon/guest_memory.h"
#include "vballoon/page_range.h"

namespace vballoon {

// The huge pages of a region, those of the host or transparent ones.
struct Granules {
  PageRange pages;          // what they make up of the region; the rest are pages of their own
  std::uint64_t each = 1;   // pages
  bool only_whole = false;  // none goes before all of it can

  [[nodiscard]] bool any() const { return pages.count != 0; }
  [[nodiscard]] bool has(Pfn page) const { return page >= pages.first && page < pages.end(); }
  // The one that a page of them lies in.
  [[nodiscard]] PageRange of(Pfn page) const { return {page - (page - pages.first) % each, each}; }
  // What of a range lies before them, in them and behind them.
  [[nodiscard]] std::array<PageRange, 3> cut(PageRange range) const {
    const Pfn begin = std::clamp(pages.first, range.first, range.end());
    const Pfn end = std::clamp(pages.end(), begin, range.end());
    return {PageRange{range.first, begin - range.first}, PageRange{begin, end - begin},
            PageRange{end, range.end() - end}};
  }
};

[[nodiscard]] inline bool has_transparent_huge_pages(const MemoryRegion& region) {
  return region.huge_page_bytes != 0;
}
// Only there is it known what the kernel does.
[[nodiscard]] inline bool can_heal(const MemoryRegion& region) {
  return has_transparent_huge_pages(region) && region.method == DiscardMethod::kDontNeed;
}

// Where it has no say transparent huge pages are as good as none.
[[nodiscard]] inline Granules granules_of(const MemoryRegion& region, HugePagePolicy policy) {
  const bool transparent = has_transparent_huge_pages(region);
  const bool apart =
      policy == HugePagePolicy::kSplit || (policy == HugePagePolicy::kHeal && !can_heal(region));
  if (transparent ? apart : region.host_page_bytes == kPageSize) return {};
  const std::uint64_t bytes = transparent ? region.huge_page_bytes : region.host_page_bytes;
  const std::uint64_t head = -reinterpret_cast<std::uintptr_t>(region.host) % bytes;
  if (head >= region.bytes) return {};
  const std::uint64_t inside = (region.bytes - head) / bytes * bytes;
  return {{region.pages().first + (head >> kPageShift), inside >> kPageShift},
          bytes >> kPageShift,
          !transparent || policy == HugePagePolicy::kKeepWhole};
}

// What a policy comes to with this memory on this kernel.
[[nodiscard]] inline HugePagePolicy usable_policy(HugePagePolicy policy,
                                                  const GuestMemory& memory) {
  if (policy != HugePagePolicy::kHeal) return policy;
  const bool heals = std::ranges::any_of(memory.regions(), can_heal) && healing_available();
  return heals ? policy : HugePagePolicy::kSplit;
}

}  // namespace vballoon

#endif  // VBALLOON_SRC_DEVICE_GRANULES_H_
