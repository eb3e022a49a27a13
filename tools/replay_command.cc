// SPDX-License-Identifier: MIT
#include "replay_command.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "outcome.h"
#include "sizes.h"
#include "text_table.h"
#include "trace_file.h"
#include "vballoon/error.h"

namespace vballoon::tool {
namespace {

using Json = nlohmann::ordered_json;

// Calls `say(reason, times)` for what the driver did wrong.
template <typename Say>
void each_error(const BalloonMetrics& metrics, Say say) {
  for (std::size_t code = 0; code < metrics.errors.size(); ++code) {
    if (metrics.errors[code] != 0) say(to_string(static_cast<Errc>(code)), metrics.errors[code]);
  }
}

}  // namespace

std::string replay_table(const ReplayReport& report) {
  std::vector<Line> lines{{"queue", "messages", "kicks", "payload"}};
  for (const ReplayReport::Queue& queue : report.queues) {
    if (queue.role.empty()) continue;
    lines.push_back({queue.role, std::to_string(queue.messages), std::to_string(queue.kicks),
                     format_bytes(queue.payload_bytes)});
  }
  std::string text = align(lines) + "\n";
  const BalloonMetrics& device = report.device;
  text += fmt::format(
      "drivers: {}; writes of actual: {}, the last one {}\n", report.drivers, report.actual.size(),
      report.actual.empty() ? "-"
                            : format_bytes(std::uint64_t{report.actual.back()} << kPageShift));
  text += fmt::format("device: {} inflated, {} given back, {} deflated; {} in the balloon\n",
                      format_bytes(device.inflated_bytes), format_bytes(device.freed_bytes),
                      format_bytes(device.deflated_bytes),
                      format_bytes(report.ballooned_pages << kPageShift));
  each_error(device, [&](std::string_view reason, std::uint64_t times) {
    text += fmt::format("driver: {}, {} times\n", reason, times);
  });
  for (const ReplayReport::Queue& queue : report.queues) {
    if (queue.unanswered == 0) continue;
    text += fmt::format("{}: {} messages without an answer\n", queue.role, queue.unanswered);
  }
  return text + (report.clean() ? "clean: nothing wrong with the driver, every message answered\n"
                                : "NOT CLEAN\n");
}

std::string replay_json(const ReplayReport& report) {
  Json json{
      {"schema", "vballoon.replay/1"}, {"drivers", report.drivers}, {"queues", Json::array()}};
  for (const ReplayReport::Queue& queue : report.queues) {
    if (queue.role.empty()) continue;
    json["queues"].push_back({{"role", queue.role},
                              {"messages", queue.messages},
                              {"kicks", queue.kicks},
                              {"payload_bytes", queue.payload_bytes},
                              {"unanswered", queue.unanswered}});
  }
  json["actual_pages"] = report.actual;
  json["ballooned_pages"] = report.ballooned_pages;
  json["inflated_bytes"] = report.device.inflated_bytes;
  json["freed_bytes"] = report.device.freed_bytes;
  json["deflated_bytes"] = report.device.deflated_bytes;
  json["errors"] = Json::object();
  each_error(report.device, [&](std::string_view reason, std::uint64_t times) {
    json["errors"][std::string(reason)] = times;
  });
  json["clean"] = report.clean();
  return json.dump(2) + "\n";
}

int run_replay(const ReplayOptions& options, std::FILE* out) {
  const auto trace = read_trace(options.path);
  const auto report = trace ? replay(*trace) : Result<ReplayReport>(tl::unexpected(trace.error()));
  if (!report) {
    fmt::print(stderr, "error: {}\n", report.error().message());
    return kExitFailed;
  }
  const int written =
      write_results(options.json ? replay_json(*report) : replay_table(*report), out);
  return written == kExitDone && !report->clean() ? kExitFailed : written;
}

}  // namespace vballoon::tool
