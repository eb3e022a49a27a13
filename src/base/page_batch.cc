// SPDX-License-Identifier: MIT
#include "base/page_batch.h"

#include <algorithm>
#include <cstddef>

#include "base/page_ranges.h"

namespace vballoon {

namespace {

// Whether each range ends before the next one begins, with a gap. Looks at all of them without a
// branch: the difference of two page numbers has its top bit set when it is negative.
bool all_apart(const PageRanges& ranges) {
  std::uint64_t all_negative = ~std::uint64_t{0};
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    all_negative &= ranges[i - 1].end() - ranges[i].first;
  }
  return all_negative >> 63 != 0;
}

}  // namespace

std::uint64_t sort_and_merge(PageRanges& ranges) {
  if (ranges.empty()) return 0;
  const auto by_first = [](const PageRange& a, const PageRange& b) { return a.first < b.first; };
  if (ranges.front().first > ranges.back().first) std::reverse(ranges.begin(), ranges.end());
  if (all_apart(ranges)) return 0;
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
