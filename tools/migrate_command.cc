// SPDX-License-Identifier: MIT
#include "migrate_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "interrupt.h"
#include "migrate_report.h"
#include "migrate_run.h"
#include "outcome.h"
#include "progress.h"

namespace vballoon::tool {
namespace {

// False when stopped.
Result<bool> run_all(Migrations& migrations, Progress& progress) {
  const auto& helps = migrations.options.helps;
  const auto count = static_cast<double>(helps.size());
  for (std::size_t i = 0; i < helps.size(); ++i) {
    const auto at = static_cast<double>(i);
    progress.begin(helps[i].name, at / count, (at + 1) / count);
    const Tick tick = [&progress](double done) {
      progress.update(done);
      return !interrupted();
    };
    auto run = run_migration(migrations.options, migrations.plan, helps[i], tick);
    if (!run) return tl::unexpected(run.error());
    if (!run->has_value()) return false;
    migrations.rows.push_back({helps[i], std::move(**run)});
  }
  return true;
}

int publish(const Migrations& migrations, std::FILE* out) {
  const MigrateOptions& options = migrations.options;
  const std::string text = options.json ? json_of(migrations) : table_of(migrations);
  if (const int code = write_results(text, out); code != kExitDone) return code;
  if (!options.plot.empty()) {
    if (auto drawn = draw_plot(bars_of(migrations), options.plot); !drawn) {
      return report_failure(drawn.error());
    }
    if (!options.quiet) fmt::print(stderr, "picture: {}\n", options.plot);
  }
  const bool verified = std::ranges::all_of(
      migrations.rows, [](const MigrateRow& row) { return row.run.verified(); });
  if (verified) return kExitDone;
  fmt::print(stderr, "error: the two sides are not equal; do not trust the figures\n");
  return kExitFailed;
}

}  // namespace

int run_migrate(const MigrateOptions& options, std::FILE* out) {
  if (!options.plot.empty()) {
    if (auto drawable = check_plot(options.plot); !drawable) {
      return report_failure(drawable.error());
    }
  }
  Migrations migrations;
  migrations.options = options;
  migrations.machine = read_machine_facts();
  auto plan = make_plan(options, migrations.machine);
  if (!plan) return report_failure(plan.error());
  migrations.plan = *plan;
  if (!plan->note.empty() && !options.quiet) fmt::print(stderr, "note: {}\n", plan->note);

  Progress progress(!options.quiet);
  const auto finished = run_all(migrations, progress);
  progress.clear();
  if (!finished) return report_failure(finished.error());
  if (!*finished) return report_interrupt();
  return publish(migrations, out);
}

}  // namespace vballoon::tool
