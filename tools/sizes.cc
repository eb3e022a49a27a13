// SPDX-License-Identifier: MIT
#include "sizes.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <string_view>

namespace vballoon::tool {

std::string format_size(double bytes) {
  constexpr std::array<std::string_view, 5> kUnits{"bytes", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  const double rounded = std::round(bytes * 100) / 100;
  return fmt::format("{} {}", rounded, kUnits[unit]);
}

std::string format_number(double value) {
  const double size = std::abs(value);
  if (size >= 100 || value == 0) return fmt::format("{:.0f}", value);
  if (size >= 10) return fmt::format("{:.1f}", value);
  if (size >= 1) return fmt::format("{:.2f}", value);
  return fmt::format("{:.3f}", value);
}

}  // namespace vballoon::tool
