// SPDX-License-Identifier: MIT
// Sizes and times for people.
#ifndef VBALLOON_TOOLS_SIZES_H_
#define VBALLOON_TOOLS_SIZES_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vballoon::tool {

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;
inline constexpr std::uint64_t kGiB = 1024 * kMiB;

// "8 GiB", "1.5 MiB", "512 bytes".
[[nodiscard]] std::string format_size(double bytes);
[[nodiscard]] inline std::string format_bytes(std::uint64_t bytes) {
  return format_size(static_cast<double>(bytes));
}

// The bytes of "8GiB", "1.5 g", "512M", "4096": all units are powers of 1024, in either case, with
// or without "B" or "iB". nullopt for anything else, and for what is no whole number of bytes.
[[nodiscard]] std::optional<std::uint64_t> parse_size(std::string_view text);

// The time of "500ms", "2s", "1.5 s", "1min": nullopt for anything else, and for what is no whole
// number of milliseconds.
[[nodiscard]] std::optional<std::chrono::milliseconds> parse_duration(std::string_view text);

// Three digits that count, without a unit: "4127", "51.3", "0.042".
[[nodiscard]] std::string format_number(double value);

[[nodiscard]] inline double to_ms(std::chrono::nanoseconds time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_SIZES_H_
