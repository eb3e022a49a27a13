// SPDX-License-Identifier: MIT
#include "migrate_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <span>

#include "machine_json.h"
#include "text_table.h"

namespace vballoon::tool {
namespace {

using Json = nlohmann::ordered_json;

std::uint64_t all_bytes(const MigrateRun& run) {
  const auto parts = bytes_by_part(run);
  return std::accumulate(parts.begin(), parts.end(), std::uint64_t{0});
}

std::string mib(std::uint64_t bytes) {
  return format_number(static_cast<double>(bytes) / static_cast<double>(kMiB));
}

std::string speed(const std::optional<std::uint64_t>& rate, std::string_view without) {
  return rate ? format_bytes(*rate) + "/s" : std::string(without);
}

std::string percent(double value) {
  return std::isnan(value) ? "-" : fmt::format("{:.1f} %", value);
}

Json round_json(const MigrateRound& round) {
  return {{"pages", round.pages}, {"bytes", round.bytes}, {"ms", round.ms}};
}

Json row_json(const Migrations& migrations, const MigrateRow& row) {
  const MigrateRun& run = row.run;
  const double share = percent_of_plain(migrations, run);
  Json json{{"name", row.help.name},
            {"bytes", all_bytes(run)},
            {"round_1_percent_of_plain", std::isnan(share) ? Json(nullptr) : Json(share)},
            {"help_ms", run.help_ms},
            {"total_ms", run.total_ms},
            {"downtime_ms", run.downtime_ms},
            {"skipped_pages", run.skipped_pages},
            {"write_tracking", run.tracking},
            {"rounds", Json::array()},
            {"verified", run.verified()}};
  for (const MigrateRound& round : run.rounds) json["rounds"].push_back(round_json(round));
  if (!run.verified()) json["failure"] = run.failure;
  return json;
}

}  // namespace

std::array<std::uint64_t, kRoundParts.size()> bytes_by_part(const MigrateRun& run) {
  std::array<std::uint64_t, kRoundParts.size()> parts{};
  for (std::size_t i = 0; i < run.rounds.size(); ++i) {
    const bool stopped = i != 0 && i + 1 == run.rounds.size();
    parts[stopped ? parts.size() - 1 : std::min(i, parts.size() - 2)] += run.rounds[i].bytes;
  }
  return parts;
}

double percent_of_plain(const Migrations& migrations, const MigrateRun& run) {
  const auto plain = std::ranges::find(migrations.rows, kHelps.front().name,
                                       [](const MigrateRow& row) { return row.help.name; });
  if (plain == migrations.rows.end() || plain->run.rounds.empty() || run.rounds.empty()) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  return 100 * static_cast<double>(run.rounds.front().bytes) /
         static_cast<double>(plain->run.rounds.front().bytes);
}

std::string table_of(const Migrations& migrations) {
  std::string text =
      fmt::format("guest of {} with {} free, all of it touched, writes {}{}; link {}\n\n",
                  format_bytes(migrations.plan.guest_memory), format_bytes(migrations.plan.free),
                  speed(migrations.options.write_rate, "nothing"),
                  migrations.options.faithful ? ", drivers as published" : "",
                  speed(migrations.options.bandwidth, "as fast as the socket is"));
  std::vector<Line> lines{{"MiB sent"}};
  lines[0].insert(lines[0].end(), kRoundParts.begin(), kRoundParts.end());
  lines[0].insert(lines[0].end(),
                  {"1 / plain", "rounds", "never sent", "help ms", "total ms", "downtime ms"});
  for (const auto& [help, run] : migrations.rows) {
    Line& line = lines.emplace_back(Line{std::string(help.name)});
    for (const std::uint64_t bytes : bytes_by_part(run)) line.push_back(mib(bytes));
    line.insert(line.end(),
                {percent(percent_of_plain(migrations, run)), std::to_string(run.rounds.size()),
                 mib(run.skipped_pages * kPageSize), format_number(run.help_ms),
                 format_number(run.total_ms), format_number(run.downtime_ms)});
  }
  text += align(lines) + "\n";
  const bool verified = std::ranges::all_of(
      migrations.rows, [](const MigrateRow& row) { return row.run.verified(); });
  for (const auto& [help, run] : migrations.rows) {
    if (!run.verified()) text += fmt::format("{}: NOT VERIFIED: {}\n", help.name, run.failure);
  }
  if (verified) {
    text += "verified: every page of the guest is at the destination as it was when it stopped\n";
  }
  if (!migrations.rows.empty()) {
    text += fmt::format("write tracking: {}\n", migrations.rows.front().run.tracking);
  }
  const MachineFacts& machine = migrations.machine;
  return text + fmt::format("machine: {} x {}, {}, {} of memory\n", machine.processors,
                            machine.processor, machine.kernel, format_bytes(machine.memory_bytes));
}

std::string json_of(const Migrations& migrations) {
  const MigrateOptions& options = migrations.options;
  const auto or_null = [](const std::optional<std::uint64_t>& value) {
    return value ? Json(*value) : Json(nullptr);
  };
  Json json{{"schema", "vballoon.migrate/1"},
            {"machine", machine_json(migrations.machine)},
            {"options",
             {{"guest_memory_bytes", migrations.plan.guest_memory},
              {"free_bytes", migrations.plan.free},
              {"bandwidth_bytes_per_second", or_null(options.bandwidth)},
              {"write_rate_bytes_per_second", or_null(options.write_rate)},
              {"seed", options.seed},
              {"faithful", options.faithful}}},
            {"results", Json::array()}};
  for (const MigrateRow& row : migrations.rows) {
    json["results"].push_back(row_json(migrations, row));
  }
  return json.dump(2) + "\n";
}

StackedBars bars_of(const Migrations& migrations) {
  StackedBars bars;
  bars.title =
      fmt::format("Migrating a guest of {} with {} free that writes {}",
                  format_bytes(migrations.plan.guest_memory), format_bytes(migrations.plan.free),
                  speed(migrations.options.write_rate, "nothing"));
  bars.y_label = "MiB sent";
  bars.parts.assign(kRoundParts.begin(), kRoundParts.end());
  for (const auto& [help, run] : migrations.rows) {
    StackedBars::Bar bar{.name = std::string(help.name), .parts = {}, .height = 0, .label = {}};
    for (const std::uint64_t bytes : bytes_by_part(run)) {
      bar.parts.push_back(static_cast<double>(bytes) / static_cast<double>(kMiB));
    }
    bar.height = std::accumulate(bar.parts.begin(), bar.parts.end(), 0.0);
    bar.label =
        fmt::format("{} MiB, {} s", format_number(bar.height), format_number(run.total_ms / 1000));
    bars.bars.push_back(std::move(bar));
  }
  return bars;
}

}  // namespace vballoon::tool
