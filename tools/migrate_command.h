// SPDX-License-Identifier: MIT
// `vballoon migrate`: what a balloon's knowledge of free pages does for a live migration.
#ifndef VBALLOON_TOOLS_MIGRATE_COMMAND_H_
#define VBALLOON_TOOLS_MIGRATE_COMMAND_H_

#include <cstdio>

#include "migrate_options.h"

namespace vballoon::tool {

// Runs one migration for each kind of help; results go to `out`, everything else to stderr. Returns
// the exit code. Call it while this process has one thread.
[[nodiscard]] int run_migrate(const MigrateOptions& options, std::FILE* out);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_MIGRATE_COMMAND_H_
