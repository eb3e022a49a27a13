// SPDX-License-Identifier: MIT
#include "thp_command.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>

#include "interrupt.h"
#include "outcome.h"
#include "sizes.h"
#include "vballoon/discarder.h"
#include "wire/dialect.h"

namespace vballoon::tool {
namespace {

struct ThpRow {
  Dialect mode = Dialect::kStandard;
  ThpPolicy policy;
  ThpRun run;
};

std::string name_of(const ThpRow& row) {
  return fmt::format("{}/{}", dialect_row(row.mode).name, row.policy.name);
}

nlohmann::ordered_json json_of(const ThpOptions& options, const std::vector<ThpRow>& rows) {
  nlohmann::ordered_json document{{"schema", "vballoon.thp/1"},
                                  {"guest_memory_bytes", options.plan.guest_memory},
                                  {"inflate_bytes", options.plan.inflate},
                                  {"compaction", options.compaction}};
  document["results"] = nlohmann::ordered_json::array();
  for (const auto& [mode, policy, run] : rows) {
    nlohmann::ordered_json row{{"mode", dialect_row(mode).name},
                               {"policy", policy.name},
                               {"huge_pages_before", run.huge_before},
                               {"huge_pages_inflated", run.huge_inflated},
                               {"huge_pages_reused", run.huge_reused},
                               {"huge_pages_complete", run.huge_complete},
                               {"huge_pages_complete_reused", run.complete_reused},
                               {"huge_pages_complete_huge", nullptr},
                               {"resident_bytes_before", run.resident_before},
                               {"resident_bytes_inflated", run.resident_inflated},
                               {"resident_bytes_deflated", run.resident_deflated},
                               {"owed_bytes", run.owed_bytes},
                               {"collapsed_bytes", run.collapsed_bytes},
                               {"moved_pages", run.moved_pages},
                               {"allocations_by_order", run.allocations_by_order},
                               {"inflate_ms", run.inflate_ms},
                               {"deflate_ms", run.deflate_ms},
                               {"verified", run.failure.empty()}};
    if (run.complete_huge) row["huge_pages_complete_huge"] = *run.complete_huge;
    if (!run.failure.empty()) row["failure"] = run.failure;
    document["results"].push_back(std::move(row));
  }
  return document;
}

// How much less the second is; the kernel moves some by itself.
std::uint64_t mib_less(std::uint64_t bytes, std::uint64_t then) {
  return bytes > then ? (bytes - then) / kMiB : 0;
}

void print_table(const ThpOptions& options, const std::vector<ThpRow>& rows, std::FILE* out) {
  fmt::print(out, "guest of {} with holes gives {} back and gets it again, compaction {}\n\n",
             format_bytes(options.plan.guest_memory), format_bytes(options.plan.inflate),
             options.compaction ? "on" : "off");
  fmt::print(out, "{:23}{:^24}{:^26}{:^24}{:>8}{:>19}\n", "", "huge pages", "whole in the balloon",
             "MiB", "pages", "ms");
  fmt::print(out, "{:23}{:>7}{:>9}{:>8}{:>10}{:>8}{:>8}{:>8}{:>7}{:>9}{:>8}{:>10}{:>9}\n", "",
             "before", "inflated", "reused", "inflated", "reused", "huge", "freed", "owed",
             "regained", "moved", "inflate", "deflate");
  for (const ThpRow& row : rows) {
    const ThpRun& run = row.run;
    fmt::print(out, "{:<23}{:7}{:9}{:8}{:10}{:8}{:>8}{:8}{:7}{:9}{:8}{:10.1f}{:9.1f}\n",
               name_of(row), run.huge_before, run.huge_inflated, run.huge_reused, run.huge_complete,
               run.complete_reused, run.complete_huge ? std::to_string(*run.complete_huge) : "?",
               mib_less(run.resident_before, run.resident_inflated), run.owed_bytes / kMiB,
               mib_less(run.resident_deflated, run.resident_inflated), run.moved_pages,
               run.inflate_ms, run.deflate_ms);
  }
  fmt::print(out, "\n");
  for (const ThpRow& row : rows) {
    if (row.policy.inflate != HugePagePolicy::kHeal || healing_available()) continue;
    fmt::print(out, "{}: this kernel keeps empty page tables, so nothing heals\n", name_of(row));
  }
  bool verified = true;
  for (const ThpRow& row : rows) {
    if (row.run.failure.empty()) continue;
    verified = false;
    fmt::print(out, "not verified: {}: {}\n", name_of(row), row.run.failure);
  }
  if (verified) fmt::print(out, "verified: the guest's pages held what they should\n");
}

}  // namespace

int run_thp_command(const ThpOptions& options, std::FILE* out) {
  std::vector<ThpRow> rows;
  bool verified = true;
  for (const Dialect mode : options.modes) {
    for (const ThpPolicy& policy : options.policies) {
      if (interrupted()) return kExitInterrupted;
      ThpRow row{mode, policy, {}};
      if (!options.quiet) fmt::print(stderr, "{} ...\n", name_of(row));
      auto run = run_thp(mode, policy, options.compaction, options.plan);
      if (!run) {
        fmt::print(stderr, "error: {}\n", run.error().message());
        return kExitFailed;
      }
      row.run = std::move(*run);
      verified = verified && row.run.failure.empty();
      rows.push_back(std::move(row));
    }
  }
  if (options.json) {
    fmt::print(out, "{}\n", json_of(options, rows).dump(2));
  } else {
    print_table(options, rows, out);
  }
  return verified ? kExitDone : kExitFailed;
}

}  // namespace vballoon::tool
