// SPDX-License-Identifier: MIT
// One migration of one guest with one kind of help, and its figures.
#ifndef VBALLOON_TOOLS_MIGRATE_RUN_H_
#define VBALLOON_TOOLS_MIGRATE_RUN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "migrate_options.h"
#include "progress.h"
#include "vballoon/result.h"

namespace vballoon::tool {

struct MigrateRound {
  std::uint64_t pages = 0;
  std::uint64_t bytes = 0;  // with what describes the pages, and in the last round the device
  double ms = 0;
};

struct MigrateRun {
  std::vector<MigrateRound> rounds;  // the last one with the guest stopped
  double help_ms = 0;                // from the decision to migrate until round 1 began
  double total_ms = 0;               // from that decision until the destination had everything
  double downtime_ms = 0;            // from the stop of the guest until then
  std::uint64_t skipped_pages = 0;   // that were never sent
  std::string tracking;              // how writes were found
  std::string failure;               // empty when both sides are equal, page by page

  [[nodiscard]] bool verified() const { return failure.empty(); }
};

// nullopt when `tick` said to stop. A destination that fails is a failure of the run.
[[nodiscard]] Result<std::optional<MigrateRun>> run_migration(const MigrateOptions& options,
                                                              const MigratePlan& plan,
                                                              const Help& help, const Tick& tick);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_MIGRATE_RUN_H_
