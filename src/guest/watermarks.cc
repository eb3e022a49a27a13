// SPDX-License-Identifier: MIT
#include "vballoon/sim/watermarks.h"

#include <algorithm>
#include <cmath>

namespace vballoon::sim {
namespace {

constexpr std::uint64_t kKibPerPage = kPageSize / 1024;
constexpr double kLeastKib = 128;
constexpr double kMostKib = 256 * 1024;

std::uint64_t pages_of(std::span<const PageRange> zones) {
  std::uint64_t pages = 0;
  for (const PageRange& zone : zones) pages += zone.count;
  return pages;
}

}  // namespace

std::vector<Watermarks> zone_watermarks(std::span<const PageRange> zones) {
  const std::uint64_t all = pages_of(zones);
  const double kib = std::floor(std::sqrt(static_cast<double>(16 * all * kKibPerPage)));
  const auto min_of_all =
      static_cast<std::uint64_t>(std::clamp(kib, kLeastKib, kMostKib)) / kKibPerPage;
  std::vector<Watermarks> marks;
  for (const PageRange& zone : zones) {
    const std::uint64_t min = min_of_all * zone.count / all;
    const std::uint64_t step = std::max(min / 4, zone.count / 1000);
    marks.push_back({min, min + step, min + 2 * step});
  }
  return marks;
}

Watermarks guest_watermarks(std::span<const PageRange> zones) {
  Watermarks sum;
  for (const Watermarks& zone : zone_watermarks(zones)) {
    sum.min += zone.min;
    sum.low += zone.low;
    sum.high += zone.high;
  }
  return sum;
}

}  // namespace vballoon::sim
