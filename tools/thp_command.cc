// SPDX-License-Identifier: MIT
#include "thp_command.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>

#include "compare_command.h"
#include "interrupt.h"
#include "sizes.h"
#include "wire/dialect.h"

namespace vballoon::tool {
namespace {

struct ThpRow {
  Dialect mode = Dialect::kStandard;
  ThpRun run;
};

nlohmann::ordered_json json_of(const ThpOptions& options, const std::vector<ThpRow>& rows) {
  nlohmann::ordered_json document{{"schema", "vballoon.thp/1"},
                                  {"guest_memory_bytes", options.plan.guest_memory},
                                  {"inflate_bytes", options.plan.inflate},
                                  {"compaction", options.compaction}};
  document["results"] = nlohmann::ordered_json::array();
  for (const auto& [mode, run] : rows) {
    nlohmann::ordered_json row{{"mode", dialect_row(mode).name},
                               {"huge_pages_before", run.huge_before},
                               {"huge_pages_inflated", run.huge_inflated},
                               {"huge_pages_reused", run.huge_reused},
                               {"moved_pages", run.moved_pages},
                               {"allocations_by_order", run.allocations_by_order},
                               {"inflate_ms", run.inflate_ms},
                               {"deflate_ms", run.deflate_ms},
                               {"verified", run.failure.empty()}};
    if (!run.failure.empty()) row["failure"] = run.failure;
    document["results"].push_back(std::move(row));
  }
  return document;
}

void print_table(const ThpOptions& options, const std::vector<ThpRow>& rows, std::FILE* out) {
  fmt::print(out, "guest of {} with holes gives {} back and gets it again, compaction {}\n\n",
             format_bytes(options.plan.guest_memory), format_bytes(options.plan.inflate),
             options.compaction ? "on" : "off");
  fmt::print(out, "huge pages   before  inflated   reused   pages moved  inflate ms\n");
  for (const auto& [mode, run] : rows) {
    fmt::print(out, "{:<13}{:6}{:10}{:9}{:14}{:12.1f}\n", dialect_row(mode).name, run.huge_before,
               run.huge_inflated, run.huge_reused, run.moved_pages, run.inflate_ms);
  }
  fmt::print(out, "\n");
  bool verified = true;
  for (const auto& [mode, run] : rows) {
    if (run.failure.empty()) continue;
    verified = false;
    fmt::print(out, "not verified: {}: {}\n", dialect_row(mode).name, run.failure);
  }
  if (verified) fmt::print(out, "verified: the guest's pages held what they should\n");
}

}  // namespace

int run_thp_command(const ThpOptions& options, std::FILE* out) {
  std::vector<ThpRow> rows;
  bool verified = true;
  for (const Dialect mode : options.modes) {
    if (interrupted()) return kExitInterrupted;
    if (!options.quiet) fmt::print(stderr, "{} ...\n", dialect_row(mode).name);
    auto run = run_thp(mode, options.compaction, options.plan);
    if (!run) {
      fmt::print(stderr, "error: {}\n", run.error().message());
      return kExitFailed;
    }
    verified = verified && run->failure.empty();
    rows.push_back({mode, std::move(*run)});
  }
  if (options.json) {
    fmt::print(out, "{}\n", json_of(options, rows).dump(2));
  } else {
    print_table(options, rows, out);
  }
  return verified ? kExitDone : kExitFailed;
}

}  // namespace vballoon::tool
