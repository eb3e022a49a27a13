// SPDX-License-Identifier: MIT
#include "compare_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "compare_report.h"
#include "figures.h"
#include "guest_set_up.h"
#include "interrupt.h"
#include "limit.h"
#include "progress.h"
#include "row_run.h"

namespace vballoon::tool {
namespace {

// How long the steps of a comparison take beside each other: every page of a row is touched twice.
constexpr double kLimitWeight = 1;
constexpr double kRunWeight = 3;

// The steps of a comparison: every run of every row, and a measurement of the limit around each.
class Steps {
 public:
  Steps(const CompareOptions& options, std::size_t rows)
      : progress_(!options.quiet),
        all_(static_cast<double>(rows * options.repeat) * (kRunWeight + kLimitWeight) +
             kLimitWeight) {}

  // Begins the next step; the tick goes to what does it.
  Tick next(const std::string& label, double weight) {
    progress_.begin(label, at_ / all_, (at_ + weight) / all_);
    at_ += weight;
    return [this](double done) {
      progress_.update(done);
      return !interrupted();
    };
  }
  void done() { progress_.clear(); }

 private:
  Progress progress_;
  double all_;
  double at_ = 0;
};

// All runs, the rows in turn so that a drift of the machine meets them alike; false when stopped.
Result<bool> run_all(Comparison& comparison, Steps& steps) {
  const CompareOptions& options = comparison.options;
  const std::uint64_t bytes = comparison.plan.inflate_pages << kPageShift;
  std::vector<double> limits;
  const auto measure = [&]() -> Result<bool> {
    const auto limit =
        measure_limit(options, bytes, steps.next("limit of this machine", kLimitWeight));
    if (!limit) return tl::unexpected(limit.error());
    limits.push_back(*limit);
    return !interrupted();
  };

  if (auto going = measure(); !going || !*going) return going;
  for (unsigned i = 0; i < options.repeat; ++i) {
    for (Row& row : comparison.rows) {
      const std::string label =
          options.repeat == 1
              ? row_name(row.spec)
              : fmt::format("{}, run {} of {}", row_name(row.spec), i + 1, options.repeat);
      const auto run = run_row(options, comparison.plan, row.spec, steps.next(label, kRunWeight));
      if (!run) return tl::unexpected(run.error());
      if (!run->has_value()) return false;
      row.runs.push_back(**run);
      if (auto going = measure(); !going || !*going) return going;
    }
  }
  comparison.limit_ms = median_of(limits);
  return true;
}

int publish(const Comparison& comparison, std::FILE* out) {
  const CompareOptions& options = comparison.options;
  const std::string text = options.json ? json_of(comparison) : table_of(comparison);
  if (const int code = write_results(text, out); code != kExitDone) return code;
  if (!options.plot.empty()) {
    if (auto drawn = draw_plot(bars_of(comparison), options.plot); !drawn) {
      return report_failure(drawn.error());
    }
    if (!options.quiet) fmt::print(stderr, "picture: {}\n", options.plot);
  }
  const bool verified = std::ranges::all_of(
      comparison.rows, [](const Row& row) { return median_of(row.runs).verified; });
  if (verified) return kExitDone;
  fmt::print(stderr, "error: the check of guest memory failed; do not trust the figures\n");
  return kExitFailed;
}

}  // namespace

int run_compare(const CompareOptions& options, std::FILE* out) {
  if (!options.plot.empty()) {
    if (auto drawable = check_plot(options.plot); !drawable) {
      return report_failure(drawable.error());
    }
  }
  Comparison comparison;
  comparison.options = options;
  comparison.machine = read_machine_facts();
  auto plan = make_plan(options, comparison.machine);
  if (!plan) return report_failure(plan.error());
  comparison.plan = *plan;
  if (!plan->note.empty() && !options.quiet) fmt::print(stderr, "note: {}\n", plan->note);
  if (interrupted()) return report_interrupt();
  for (const RowSpec& spec : rows_of(options)) comparison.rows.push_back({spec, {}});

  Steps steps(options, comparison.rows.size());
  const auto finished = run_all(comparison, steps);
  steps.done();
  if (!finished) return report_failure(finished.error());
  if (!*finished) return report_interrupt();
  return publish(comparison, out);
}

}  // namespace vballoon::tool
