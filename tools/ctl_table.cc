// SPDX-License-Identifier: MIT
#include "ctl_table.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <string_view>
#include <utility>
#include <vector>

#include "balloon_numbers.h"
#include "qmp_client.h"
#include "sizes.h"

namespace vballoon::tool {
namespace {

constexpr std::string_view kBytes = "-bytes";

std::string word_in(const Json& answer, const std::string& key) {
  return printable(answer.at(key).get_ref<const std::string&>());
}

std::string size_in(const Json& answer, const std::string& key) {
  return format_bytes(number_in(answer, key));
}

// Names and values in two columns, both to the left.
std::string lines_of(const std::vector<std::pair<std::string, std::string>>& lines) {
  std::size_t width = 0;
  for (const auto& [name, value] : lines) width = std::max(width, name.size());
  std::string text;
  for (const auto& [name, value] : lines) text += fmt::format("{:<{}}  {}\n", name, width, value);
  return text;
}

// A value under a key that says what it is.
std::string value_text(std::string_view key, const Json& value) {
  const bool size = key.ends_with(kBytes) || key == "actual";
  if (size && value.is_number_unsigned()) return format_bytes(value.get<std::uint64_t>());
  if (value.is_string()) return printable(value.get_ref<const std::string&>());
  return value.dump(-1, ' ', true, Json::error_handler_t::replace);
}

std::string_view name_without_unit(std::string_view key) {
  if (key.ends_with(kBytes)) key.remove_suffix(kBytes.size());
  return key;
}

}  // namespace

std::uint64_t number_in(const Json& answer, const std::string& key) {
  const Json& number = answer.at(key);
  // get() would turn a string into an error, but a negative number or a fraction into another one.
  static_cast<void>(number.get_ref<const Json::number_unsigned_t&>());
  return number.get<std::uint64_t>();
}

std::string status_table(const Json& answer) {
  const std::uint64_t ram = number_in(answer, "ram-bytes");
  const auto balloon = [&](const std::string& key) {
    const std::uint64_t bytes = number_in(answer, key);
    if (ram == 0) return format_bytes(bytes);
    return fmt::format("{}, leaves {} to the guest", format_bytes(bytes),
                       format_bytes(memory_left(ram, bytes)));
  };
  std::string features;
  for (const Json& feature : answer.at("features")) {
    if (!features.empty()) features += ' ';
    features += printable(feature.get_ref<const std::string&>());
  }
  return lines_of({{"state", word_in(answer, "state")},
                   {"guest memory", format_bytes(ram)},
                   {"target balloon", balloon("target-balloon-bytes")},
                   {"actual balloon", balloon("actual-balloon-bytes")},
                   {"mode", word_in(answer, "mode")},
                   {"features", features}});
}

std::string target_table(const Json& answer) {
  return lines_of({{"actual balloon", size_in(answer, "actual-balloon-bytes")}});
}

std::string memory_table(const Json& answer) {
  return lines_of({{"guest memory left", size_in(answer, "actual")}});
}

std::string stats_table(const Json& answer) {
  std::vector<std::pair<std::string, std::string>> lines;
  for (const auto& [key, value] : answer.at("stats").get_ref<const Json::object_t&>()) {
    lines.emplace_back(printable(name_without_unit(key)), value_text(key, value));
  }
  const bool known = answer.contains("age-ms");
  lines.emplace_back("age", known ? fmt::format("{} ms", number_in(answer, "age-ms"))
                                  : std::string("the guest has sent none"));
  const std::uint64_t interval = number_in(answer, "polling-interval-s");
  lines.emplace_back("asked for", interval == 0 ? std::string("no (vballoon ctl ... period 2s)")
                                                : fmt::format("every {} s", interval));
  return lines_of(lines);
}

std::string hinting_table(const Json& answer) {
  return lines_of({{"state", word_in(answer, "state")},
                   {"host command", fmt::to_string(number_in(answer, "host-cmd"))},
                   {"guest command", answer.at("guest-cmd").is_null()
                                         ? std::string("none yet")
                                         : fmt::to_string(number_in(answer, "guest-cmd"))},
                   {"hinted", size_in(answer, "hinted-bytes")}});
}

std::string event_text(const Json& event) {
  const Json& timestamp = event.at("timestamp");
  const auto seconds = static_cast<std::time_t>(number_in(timestamp, "seconds") & INT32_MAX);
  std::string text =
      fmt::format("{:%H:%M:%S} {}", fmt::localtime(seconds), word_in(event, "event"));
  const Json data = event.value("data", Json::object());
  for (const auto& [key, value] : data.get_ref<const Json::object_t&>()) {
    text += fmt::format("  {}: {}", printable(name_without_unit(key)), value_text(key, value));
  }
  return text + "\n";
}

}  // namespace vballoon::tool
