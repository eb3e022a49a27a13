// SPDX-License-Identifier: MIT
#include "base/page_batch.h"

#include <algorithm>
#include <cstddef>

#include "base/page_ranges.h"

namespace vballoon {

std::uint64_t sort_and_merge(PageRanges& ranges) {
  if (ranges.empty()) return 0;
  const auto apart = [](const PageRange& a, const PageRange& b) { return a.end() < b.first; };
  const auto by_first = [](const PageRange& a, const PageRange& b) { return a.first < b.first; };
  if (ranges.front().first > ranges.back().first) std::reverse(ranges.begin(), ranges.end());
  const auto no_gap = [&](const PageRange& a, const PageRange& b) { return !apart(a, b); };
  if (std::ranges::adjacent_find(ranges, no_gap) == ranges.end()) return 0;
  if (!std::is_sorted(ranges.begin(), ranges.end(), by_first)) {
    std::sort(ranges.begin(), ranges.end(), by_first);
  }

  std::uint64_t repeated = 0;
  std::size_t last = 0;
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    const PageRange next = ranges[i];
    PageRange& merged = ranges[last];
    if (next.first > merged.end()) {
      ranges[++last] = next;
      continue;
    }
    repeated += std::min(merged.end(), next.end()) - next.first;
    merged.count = std::max(merged.end(), next.end()) - merged.first;
  }
  ranges.resize(last + 1);
  return repeated;
}

}  // namespace vballoon
