// SPDX-License-Identifier: MIT
// What a guest says about its memory: the values that Linux's balloon driver sends.  room: guest
#ifndef VBALLOON_SIM_MEMORY_STATISTICS_H_
#define VBALLOON_SIM_MEMORY_STATISTICS_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace vballoon::sim {

// By the tag of the statistics queue; those above kHugetlbFailures are Linux's (6.12).
enum class MemoryStatistic : std::uint8_t {
  kSwapIn = 0,              // bytes read back from swap
  kSwapOut = 1,             // bytes written to swap
  kMajorFaults = 2,         // faults that had to read a page from a disk
  kMinorFaults = 3,         // all faults, as in Linux
  kFreeMemory = 4,          // bytes
  kTotalMemory = 5,         // bytes
  kAvailableMemory = 6,     // bytes that could be used without swapping: an estimate
  kCaches = 7,              // bytes of the page cache
  kHugetlbAllocations = 8,  // huge pages
  kHugetlbFailures = 9,     // huge pages that could not be had
  kOomKills = 10,           // processes
  kAllocationStalls = 11,   // allocations that had to reclaim first
  kAsyncScan = 12,          // bytes that kswapd looked at
  kDirectScan = 13,         // bytes that allocations looked at
  kAsyncReclaim = 14,       // bytes that kswapd took
  kDirectReclaim = 15,      // bytes that allocations took
};

inline constexpr std::size_t kMemoryStatisticCount = 16;

// All of them, indexed by tag.
struct MemoryStatistics {
  std::array<std::uint64_t, kMemoryStatisticCount> values{};

  [[nodiscard]] std::uint64_t& operator[](MemoryStatistic tag) {
    return values[static_cast<std::size_t>(tag)];
  }
  [[nodiscard]] std::uint64_t operator[](MemoryStatistic tag) const {
    return values[static_cast<std::size_t>(tag)];
  }
  friend bool operator==(const MemoryStatistics&, const MemoryStatistics&) = default;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SIM_MEMORY_STATISTICS_H_
