// SPDX-License-Identifier: MIT
// Migrations for tests: small ones that really run, and one with figures made up by hand.
#ifndef VBALLOON_TESTS_TOOLS_MIGRATIONS_H_
#define VBALLOON_TESTS_TOOLS_MIGRATIONS_H_

#include <algorithm>
#include <string_view>
#include <utility>

#include "migrate_command.h"
#include "migrate_options.h"
#include "migrate_report.h"
#include "outcome.h"
#include "tools/outcomes.h"

namespace vballoon::tool::testing {

inline Help help_named(std::string_view name) {
  return *std::ranges::find(kHelps, name, &Help::name);
}

// The smallest guest.
inline MigrateOptions small_migration(std::string_view help = "plain") {
  MigrateOptions options;
  options.guest_memory = 32 * kMiB;
  options.free = 20 * kMiB;
  options.helps = {help_named(help)};
  options.json = true;
  options.quiet = true;
  return options;
}

inline Outcome run(const MigrateOptions& options) {
  return outcome_of([&](std::FILE* out) { return run_migrate(options, out); });
}

// Two of a guest of 1 GiB: the plain one in five rounds, the other in two and not verified.
inline Migrations made_up_migrations() {
  Migrations migrations;
  migrations.plan = {.guest_memory = kGiB, .free = 512 * kMiB, .note = {}};
  migrations.options.bandwidth = 200 * kMiB;
  migrations.machine.kernel = "Linux 6.1";
  migrations.machine.processor = "Z80";
  migrations.machine.processors = 3;
  migrations.machine.memory_bytes = 48 * kKiB;
  MigrateRun plain{.rounds = {{.pages = 262144, .bytes = 1024 * kMiB, .ms = 5000},
                              {.pages = 25600, .bytes = 100 * kMiB, .ms = 500},
                              {.pages = 12800, .bytes = 50 * kMiB, .ms = 250},
                              {.pages = 6400, .bytes = 25 * kMiB, .ms = 125},
                              {.pages = 1280, .bytes = 5 * kMiB, .ms = 25}},
                   .help_ms = 20,
                   .total_ms = 6000,
                   .downtime_ms = 30,
                   .skipped_pages = 0,
                   .tracking = "userfaultfd",
                   .failure = {}};
  MigrateRun hints{.rounds = {{.pages = 65536, .bytes = 256 * kMiB, .ms = 1250},
                              {.pages = 1280, .bytes = 5 * kMiB, .ms = 25}},
                   .help_ms = 40,
                   .total_ms = 1500,
                   .downtime_ms = 31,
                   .skipped_pages = 131072,
                   .tracking = "userfaultfd",
                   .failure = "1 page differs"};
  migrations.rows = {{help_named("plain"), std::move(plain)},
                     {help_named("hints"), std::move(hints)}};
  return migrations;
}

}  // namespace vballoon::tool::testing

#endif  // VBALLOON_TESTS_TOOLS_MIGRATIONS_H_
