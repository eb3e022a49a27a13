// SPDX-License-Identifier: MIT
#include "huge_pages.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <span>
#include <string>
#include <string_view>

#include "machine_facts.h"
#include "pagemap_scan.h"

namespace vballoon::tool {
MappedMemory mapped_memory_of(const MemoryRegion& region) {
  const std::uint64_t first = address_of(region.host);
  std::uint64_t huge_kib = 0;
  std::uint64_t resident_kib = 0;
  bool inside = false;
  std::ifstream smaps("/proc/self/smaps");
  const auto add = [](const std::string& line, std::string_view field, std::uint64_t& sum) {
    if (line.starts_with(field)) sum += std::stoull(line.substr(field.size()));
  };
  for (std::string line; std::getline(smaps, line);) {
    unsigned long begin = 0;
    unsigned long end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) {
      inside = begin >= first && end <= first + region.bytes;
    } else if (inside) {
      add(line, "AnonHugePages:", huge_kib);
      add(line, "Rss:", resident_kib);
    }
  }
  return {huge_kib * kKiB / kHugePageBytes, resident_kib * kKiB};
}

bool any_resident(const std::byte* host, std::size_t bytes) {
  std::vector<unsigned char> pages(bytes >> kPageShift);
  auto* const begin = const_cast<std::byte*>(host);
  if (::mincore(begin, bytes, pages.data()) != 0) return false;
  return std::ranges::any_of(pages, [](unsigned char page) { return (page & 1) != 0; });
}

std::optional<std::vector<bool>> huge_page_map_of(const MemoryRegion& region) {
  const int pagemap = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (pagemap < 0) return std::nullopt;
  std::vector<bool> map(region.bytes / kHugePageBytes);
  const std::uint64_t base = address_of(region.host);
  std::array<ScannedRange, 256> ranges;
  ScanRequest scan{.size = sizeof(ScanRequest),
                   .start = base,
                   .end = base + region.bytes,
                   .ranges = reinterpret_cast<std::uintptr_t>(ranges.data()),
                   .ranges_room = ranges.size(),
                   .category_mask = kPageIsHuge,
                   .return_mask = kPageIsHuge};
  int found = 0;
  while (scan.start < scan.end && (found = ::ioctl(pagemap, kPagemapScan, &scan)) >= 0) {
    for (const ScannedRange& range : std::span(ranges).first(static_cast<std::size_t>(found))) {
      for (std::uint64_t at = range.start; at < range.end; at += kHugePageBytes) {
        map[(at - base) / kHugePageBytes] = true;
      }
    }
    scan.start = scan.walk_end;
  }
  ::close(pagemap);
  return found < 0 ? std::nullopt : std::optional(map);
}

}  // namespace vballoon::tool
