// SPDX-License-Identifier: MIT
// When free memory of a guest counts as low: the watermarks of Linux.              room: guest
#ifndef VBALLOON_SIM_WATERMARKS_H_
#define VBALLOON_SIM_WATERMARKS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "vballoon/export.h"
#include "vballoon/page_range.h"

namespace vballoon::sim {

// In free pages. Below `low` kswapd wakes, and sleeps again above `high`; below `min` who allocates
// has to reclaim.
struct Watermarks {
  std::uint64_t min = 0;
  std::uint64_t low = 0;
  std::uint64_t high = 0;

  friend bool operator==(const Watermarks&, const Watermarks&) = default;
};

// Those of each zone as they are at boot; a balloon does not move them. All zones together have a
// minimum of sqrt(16 * KiB of memory) KiB, but from 128 KiB to 256 MiB, shared out by their size.
// `low` and `high` are one and two steps above it: a quarter of the minimum or 1/1000 of the zone.
[[nodiscard]] VBALLOON_EXPORT std::vector<Watermarks> zone_watermarks(
    std::span<const PageRange> zones);

// Those of all zones together.
[[nodiscard]] VBALLOON_EXPORT Watermarks guest_watermarks(std::span<const PageRange> zones);

}  // namespace vballoon::sim

#endif  // VBALLOON_SIM_WATERMARKS_H_
