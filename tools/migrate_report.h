// SPDX-License-Identifier: MIT
// The migrations as a table for people, as JSON for programs, and as a picture.
#ifndef VBALLOON_TOOLS_MIGRATE_REPORT_H_
#define VBALLOON_TOOLS_MIGRATE_REPORT_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "machine_facts.h"
#include "migrate_options.h"
#include "migrate_run.h"
#include "stacked_bars.h"

namespace vballoon::tool {

struct MigrateRow {
  Help help;
  MigrateRun run;
};

struct Migrations {
  MigrateOptions options;
  MigratePlan plan;
  MachineFacts machine;
  std::vector<MigrateRow> rows;
};

// The bytes of a run by rounds: those after the third are one part, and the last is always the one
// with the guest stopped.
inline constexpr std::array<std::string_view, 5> kRoundParts{"round 1", "round 2", "round 3",
                                                             "later", "stopped"};
[[nodiscard]] std::array<std::uint64_t, kRoundParts.size()> bytes_by_part(const MigrateRun& run);

// Round 1 in percent of the plain run's; not a number when there is none.
[[nodiscard]] double percent_of_plain(const Migrations& migrations, const MigrateRun& run);

[[nodiscard]] std::string table_of(const Migrations& migrations);
// One document, schema vballoon.migrate/1.
[[nodiscard]] std::string json_of(const Migrations& migrations);
[[nodiscard]] StackedBars bars_of(const Migrations& migrations);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_MIGRATE_REPORT_H_
