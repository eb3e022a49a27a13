// SPDX-License-Identifier: MIT
// Commands of our own. Every size is in bytes and says of what; what is not known is left out.
#include <fmt/format.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "balloon_control.h"
#include "balloon_numbers.h"
#include "prometheus.h"
#include "wire/dialect.h"

namespace vballoon::tool {
namespace {

constexpr std::int64_t kMaxTimeoutMs = 24 * 60 * 60 * 1000;

const Answer kNoDriver = refuse(kDeviceNotActive, "No guest runs a driver for this balloon");

constexpr std::array<std::pair<Feature, std::string_view>, 14> kFeatureNames{
    {{Feature::kMustTellHost, "must-tell-host"},
     {Feature::kStatsVq, "stats-vq"},
     {Feature::kDeflateOnOom, "deflate-on-oom"},
     {Feature::kFreePageHint, "free-page-hint"},
     {Feature::kPagePoison, "page-poison"},
     {Feature::kPageReporting, "reporting"},
     {Feature::kIndirectDesc, "indirect-desc"},
     {Feature::kEventIdx, "event-idx"},
     {Feature::kVersion1, "version-1"},
     {Feature::kAccessPlatform, "access-platform"},
     {Feature::kRingPacked, "ring-packed"},
     {Feature::kInOrder, "in-order"},
     {Feature::kNotificationData, "notification-data"},
     {Feature::kRingReset, "ring-reset"}}};

std::string_view state_of(const BalloonDevice& device) {
  if (device.memory_bytes() == 0) return "no-guest";
  if ((device.read_status() & kStatusNeedsReset) != 0) return "needs-reset";
  return has_driver(device) ? "ready" : "no-driver";
}

}  // namespace

void BalloonControl::add_native_commands() {
  using enum ParameterType;
  const auto add = [this](QmpCommand command) { commands_.push_back(std::move(command)); };
  add({"vballoon-query", {}, [this](const auto&, const auto&) { return Answer(query()); }});
  add({"vballoon-set-target",
       {{"balloon-bytes", kInteger}, {"wait", kBoolean, false}, {"timeout-ms", kInteger, false}},
       [this](const Arguments& arguments, const AnswerLater& later) {
         return set_target(arguments, later);
       }});
  add({"vballoon-stats", {}, [this](const auto&, const auto&) { return stats(); }});
  add({"vballoon-hinting-start",
       {{"acknowledge-on-stop", kBoolean, false}},
       [this](const Arguments& arguments, const auto&) {
         if (!has_driver(device_)) return kNoDriver;
         return hints_.start(arguments.value("acknowledge-on-stop", true));
       }});
  add({"vballoon-hinting-status", {}, [this](const auto&, const auto&) {
         return Answer(hints_.status());
       }});
  add({"vballoon-hinting-stop", {}, [this](const auto&, const auto&) {
         if (!has_driver(device_)) return kNoDriver;
         hints_.stop();
         return Answer(Json::object());
       }});
  add({"vballoon-metrics",
       {{"format", kString, false}},
       [this](const Arguments& arguments, const auto&) -> Answer {
         const auto format = arguments.value("format", std::string("prometheus"));
         if (format == "prometheus") return Json{{"text", prometheus_text(device_)}};
         return refuse(kGenericError,
                       fmt::format("Parameter 'format' does not accept value '{}'", format));
       }});
}

Json BalloonControl::query() const {
  const Features negotiated = device_.negotiated_features();
  Json names = Json::array();
  for (const auto& [feature, name] : kFeatureNames) {
    if (negotiated.has(feature)) names.push_back(name);
  }
  const unsigned bit = options_.dialect_bit.value_or(published_bit(options_.dialect));
  const Dialect spoken = negotiated_dialect(options_.dialect, bit, negotiated);
  return {{"state", state_of(device_)},
          {"ram-bytes", device_.memory_bytes()},
          {"target-balloon-bytes", target_bytes(device_)},
          {"actual-balloon-bytes", actual_bytes(device_)},
          {"features", std::move(names)},
          {"mode", dialect_row(spoken).name},
          {"page-size", kPageSize}};
}

std::optional<Answer> BalloonControl::set_target(const Arguments& arguments,
                                                 const AnswerLater& later) {
  const bool wait = arguments.value("wait", false);
  const auto timeout = arguments.find("timeout-ms");
  if (timeout != arguments.end()) {
    if (!wait) return refuse(kGenericError, "Parameter 'timeout-ms' needs 'wait'");
    const auto ms = timeout->get<std::int64_t>();
    if (ms < 0 || ms > kMaxTimeoutMs) {
      return refuse(kGenericError,
                    fmt::format("Parameter 'timeout-ms' expects 0 to {}", kMaxTimeoutMs));
    }
  }
  if (!has_driver(device_)) return kNoDriver;
  const auto bytes = arguments.at("balloon-bytes").get<std::int64_t>();
  if (bytes < 0) return refuse(kInvalidTarget, "A balloon has no negative size");
  const auto set = device_.set_target_bytes(static_cast<std::uint64_t>(bytes));
  if (!set) return refuse(kInvalidTarget, set.error().message());
  if (!wait) return target_answer(device_);
  std::optional<std::chrono::nanoseconds> deadline;
  if (timeout != arguments.end()) {
    deadline = options_.clock() + std::chrono::milliseconds(timeout->get<std::int64_t>());
  }
  wait_.start(device_, deadline, later);  // look() ends it, at once if there is nothing to wait for
  return std::nullopt;
}

Answer BalloonControl::stats() const {
  if (!has_driver(device_)) return kNoDriver;
  if (!device_.negotiated_features().has(Feature::kStatsVq)) {
    return refuse(kFeatureNotNegotiated, "The guest's driver sends no statistics");
  }
  const StatsReport report = device_.stats();
  Json answer = Json::object();
  if (report.latest) {
    answer["age-ms"] = std::chrono::duration_cast<std::chrono::milliseconds>(report.age).count();
  }
  answer["polling-interval-s"] =
      std::chrono::duration_cast<std::chrono::seconds>(device_.stats_interval()).count();
  answer["stats"] = stats_json(report.latest);
  return answer;
}

}  // namespace vballoon::tool
