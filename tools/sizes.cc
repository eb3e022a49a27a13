// SPDX-License-Identifier: MIT
#include "sizes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <system_error>

namespace vballoon::tool {
namespace {

// 1024 to the power of what the unit stands for, or 0 for a word that is none.
double factor_of(std::string unit) {
  for (char& c : unit) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (unit.empty() || unit == "b" || unit == "bytes") return 1;
  constexpr std::string_view kPrefixes = "kmgt";
  const std::size_t power = kPrefixes.find(unit.front());
  const std::string_view rest = std::string_view(unit).substr(1);
  const bool known = rest.empty() || rest == "b" || rest == "ib";
  if (power == std::string_view::npos || !known) return 0;
  return std::pow(1024.0, static_cast<double>(power + 1));
}

struct NumberWithUnit {
  double number;  // NaN: none
  std::string_view unit;
};

// What std::from_chars takes beside digits, signs and words, is no number here.
NumberWithUnit split_number(std::string_view text) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  if (text.empty() || std::isdigit(static_cast<unsigned char>(text.front())) == 0)
    return {kNone, {}};
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  const char* const unit = std::find_if(parsed.ptr, end, [](char c) { return c != ' '; });
  return {parsed.ec == std::errc{} ? number : kNone, {unit, end}};
}

}  // namespace

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

std::optional<std::uint64_t> parse_size(std::string_view text) {
  const auto [number, unit] = split_number(text);
  const double factor = factor_of(std::string(unit));
  const double bytes = number * factor;
  constexpr double kTooLarge = 18446744073709551616.0;  // 2^64
  if (!(bytes < kTooLarge) || factor == 0 || bytes != std::floor(bytes)) return {};
  return static_cast<std::uint64_t>(bytes);
}

std::optional<std::chrono::milliseconds> parse_duration(std::string_view text) {
  const auto [number, unit] = split_number(text);
  const double factor = unit == "ms" ? 1 : unit == "s" ? 1000 : unit == "min" ? 60'000 : 0;
  const double ms = number * factor;
  constexpr double kTooLong = 1e12;  // some 30 years
  if (!(ms < kTooLong) || factor == 0 || ms != std::floor(ms)) return {};
  return std::chrono::milliseconds(static_cast<std::int64_t>(ms));
}

std::string format_number(double value) {
  const double size = std::abs(value);
  if (size >= 100 || value == 0) return fmt::format("{:.0f}", value);
  if (size >= 10) return fmt::format("{:.1f}", value);
  if (size >= 1) return fmt::format("{:.2f}", value);
  return fmt::format("{:.3f}", value);
}

}  // namespace vballoon::tool
