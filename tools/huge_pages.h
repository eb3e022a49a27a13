// SPDX-License-Identifier: MIT
// Which memory of a region the kernel has mapped as huge pages.
#ifndef VBALLOON_TOOLS_HUGE_PAGES_H_
#define VBALLOON_TOOLS_HUGE_PAGES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "vballoon/guest_memory.h"

namespace vballoon::tool {

// Of the mappings that lie in a region, as /proc/self/smaps has it.
struct MappedMemory {
  std::uint64_t huge_pages = 0;  // "AnonHugePages", in pages of 2 MiB
  std::uint64_t resident_bytes = 0;
};
[[nodiscard]] MappedMemory mapped_memory_of(const MemoryRegion& region);

// Whether a page of that memory is there.
[[nodiscard]] bool any_resident(const std::byte* host, std::size_t bytes);

// For each 2 MiB of a region whether they are a huge page; nullopt where the kernel does not say
// (PAGEMAP_SCAN, Linux 6.7).
[[nodiscard]] std::optional<std::vector<bool>> huge_page_map_of(const MemoryRegion& region);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_HUGE_PAGES_H_
