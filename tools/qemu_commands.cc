// SPDX-License-Identifier: MIT
// Commands as QEMU has them: the same names, arguments, replies and errors.
#include <fmt/format.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <limits>
#include <string>

#include "balloon_control.h"
#include "balloon_numbers.h"

namespace vballoon::tool {
namespace {

constexpr std::string_view kGuestStats = "guest-stats";
constexpr std::string_view kInterval = "guest-stats-polling-interval";
// As the documentation of QEMU spells it in one example.
constexpr std::string_view kOtherInterval = "stats-polling-interval";

const Answer kInactive = refuse(kDeviceNotActive, "No balloon device has been activated");

// The device has the name that management tools give to theirs, or that of QEMU's documentation.
// Some leave out the first slash.
bool names_the_balloon(std::string_view path) {
  if (path.starts_with('/')) path.remove_prefix(1);
  return path == "machine/peripheral/balloon0" || path == "machine/peripheral-anon/device[1]";
}

// The property that is meant, or why there is none.
tl::expected<std::string, QmpError> property_of(const Arguments& arguments) {
  const auto path = arguments.at("path").get<std::string>();
  if (!names_the_balloon(path)) {
    return refuse(kDeviceNotFound, fmt::format("Device '{}' not found", path));
  }
  auto property = arguments.at("property").get<std::string>();
  if (property == kOtherInterval) property = kInterval;
  if (property != kGuestStats && property != kInterval) {
    return refuse(kGenericError, fmt::format("Property 'vballoon.{}' not found", property));
  }
  return property;
}

}  // namespace

void BalloonControl::add_qemu_commands() {
  using enum ParameterType;
  const auto add = [this](QmpCommand command) { commands_.push_back(std::move(command)); };
  add({"query-version", {}, [this](const auto&, const auto&) {
         return Answer(version_json(options_.version));
       }});
  add({"query-commands", {}, [this](const auto&, const auto&) {
         Json names = Json::array();
         for (const QmpCommand& command : commands_) names.push_back({{"name", command.name}});
         return Answer(std::move(names));
       }});
  add({"quit", {}, [this](const auto&, const auto&) {
         quit_wanted_ = true;
         return Answer(Json::object());
       }});
  add({"balloon", {{"value", kInteger}}, [this](const Arguments& arguments, const auto&) {
         return set_memory_left(arguments);
       }});
  add({"query-balloon", {}, [this](const auto&, const auto&) {
         if (!has_driver(device_)) return kInactive;
         return Answer(Json{{"actual", actual_memory_left(device_)}});
       }});
  add({"qom-get",
       {{"path", kString}, {"property", kString}},
       [this](const Arguments& arguments, const auto&) { return qom_get(arguments); }});
  add({"qom-set",
       {{"path", kString}, {"property", kString}, {"value", kAnything}},
       [this](const Arguments& arguments, const auto&) { return qom_set(arguments); }});
}

Answer BalloonControl::set_memory_left(const Arguments& arguments) {
  if (!has_driver(device_)) return kInactive;
  const auto value = arguments.at("value").get<std::int64_t>();
  if (value <= 0) return refuse(kGenericError, "Parameter 'value' expects a size");
  const auto set = device_.set_target_bytes(
      balloon_that_leaves(device_.memory_bytes(), static_cast<std::uint64_t>(value)));
  if (!set) return refuse(kGenericError, set.error().message());
  return Json::object();
}

Answer BalloonControl::qom_get(const Arguments& arguments) const {
  const auto property = property_of(arguments);
  if (!property) return tl::unexpected(property.error());
  if (*property == kGuestStats) return guest_stats();
  return std::chrono::duration_cast<std::chrono::seconds>(device_.stats_interval()).count();
}

// 0 stops asking, and what was said stays. look() makes the device know.
Answer BalloonControl::qom_set(const Arguments& arguments) {
  const auto property = property_of(arguments);
  if (!property) return tl::unexpected(property.error());
  if (*property == kGuestStats) {
    return refuse(kGenericError, "Property 'vballoon.guest-stats' is not writable");
  }
  const std::vector<QmpParameter> integer{{"value", ParameterType::kInteger}};
  if (auto bad = check_arguments(integer, {{"value", arguments.at("value")}})) {
    return tl::unexpected(std::move(*bad));
  }
  const auto seconds = arguments.at("value").get<std::int64_t>();
  if (seconds < 0) return refuse(kGenericError, "timer value must be greater than zero");
  if (seconds > std::numeric_limits<std::uint32_t>::max()) {
    return refuse(kGenericError, "timer value is too big");
  }
  device_.set_stats_interval(std::chrono::seconds(seconds));
  return Json::object();
}

Json BalloonControl::guest_stats() const {
  constexpr auto kUnset = std::numeric_limits<std::uint64_t>::max();  // -1, as QEMU writes it
  const StatsReport report = device_.stats();
  Json stats = Json::object();
  for (std::size_t i = 0; i < kStatCount; ++i) {
    const auto tag = static_cast<StatTag>(i);
    stats[fmt::format("stat-{}", vballoon::to_string(tag))] =
        report.latest ? report.latest->value(tag).value_or(kUnset) : kUnset;
  }
  const auto received = options_.wall_clock() - report.age;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(received).count();
  return {{"stats", std::move(stats)}, {"last-update", report.latest ? seconds : 0}};
}

}  // namespace vballoon::tool
