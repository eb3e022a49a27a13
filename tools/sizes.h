// SPDX-License-Identifier: MIT
// Sizes and times for people.
#ifndef VBALLOON_TOOLS_SIZES_H_
#define VBALLOON_TOOLS_SIZES_H_

#include <chrono>
#include <cstdint>
#include <string>

namespace vballoon::tool {

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;
inline constexpr std::uint64_t kGiB = 1024 * kMiB;

// "8 GiB", "1.5 MiB", "512 bytes".
[[nodiscard]] std::string format_size(double bytes);

// Three digits that count, without a unit: "4127", "51.3", "0.042".
[[nodiscard]] std::string format_number(double value);

[[nodiscard]] inline double to_ms(std::chrono::nanoseconds time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_SIZES_H_
