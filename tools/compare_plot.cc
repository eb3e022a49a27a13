// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include "compare_report.h"
#include "sizes.h"

namespace vballoon::tool {

StackedBars bars_of(const Comparison& comparison) {
  StackedBars bars;
  bars.title =
      fmt::format("Inflating {} of a guest of {} ({}, {})",
                  format_bytes(comparison.plan.inflate_pages << kPageShift),
                  format_bytes(comparison.plan.guest_memory), to_string(comparison.options.guest),
                  to_string(comparison.options.backing));
  bars.y_label = "milliseconds";
  bars.parts = {"allocate", "send", "translate", "discard"};
  bars.line = {comparison.limit_ms,
               fmt::format("limit: {} ms", format_number(comparison.limit_ms))};
  const double baseline_ms = median_of(comparison.rows.front().runs).inflate.wall_ms;
  for (const Row& row : comparison.rows) {
    const Phase phase = median_of(row.runs).inflate;
    bars.bars.push_back({row_name(row.spec),
                         {phase.allocate_ms, phase.send_ms, phase.translate_ms, phase.discard_ms},
                         phase.wall_ms,
                         fmt::format("{} ms ({:.1f}x)", format_number(phase.wall_ms),
                                     baseline_ms / phase.wall_ms)});
  }
  return bars;
}

}  // namespace vballoon::tool
