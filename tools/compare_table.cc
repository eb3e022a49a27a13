// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "compare_report.h"
#include "sizes.h"
#include "text_table.h"

namespace vballoon::tool {
namespace {

std::string stage(double ms, double wall_ms) {
  if (std::isnan(ms)) return "-";
  return fmt::format("{} {:3.0f}%", format_number(ms), wall_ms > 0 ? 100 * ms / wall_ms : 0);
}

std::string count(double value) { return std::isnan(value) ? "-" : fmt::format("{:.0f}", value); }

std::string factor(double value) { return fmt::format("{}x", format_number(value)); }

std::string gib_per_second(double bytes, double ms) {
  return ms > 0 ? format_number(bytes / static_cast<double>(kGiB) / (ms / 1000)) : "-";
}

// The rows of a comparison by their medians, and the phase that a table is about.
struct View {
  const Comparison& comparison;
  std::string_view phase_name;
  Phase RowRun::*phase;
  std::vector<RowRun> medians;

  View(const Comparison& all, std::string_view name, Phase RowRun::*part)
      : comparison(all), phase_name(name), phase(part) {
    for (const Row& row : all.rows) medians.push_back(median_of(row.runs));
  }
};

std::string stage_table(const View& view) {
  std::vector<Line> lines{{std::string(view.phase_name), "wall ms", "allocate ms", "send ms",
                           "translate ms", "discard ms"}};
  for (std::size_t i = 0; i < view.medians.size(); ++i) {
    const Phase& p = view.medians[i].*view.phase;
    lines.push_back({row_name(view.comparison.rows[i].spec), format_number(p.wall_ms),
                     stage(p.allocate_ms, p.wall_ms), stage(p.send_ms, p.wall_ms),
                     stage(p.translate_ms, p.wall_ms), stage(p.discard_ms, p.wall_ms)});
  }
  return align(lines);
}

// What a row moves, and how fast that is beside the baseline and the limit.
std::string traffic_table(const View& view) {
  const bool inflating = view.phase == &RowRun::inflate;
  std::vector<Line> lines{{std::string(view.phase_name), "GiB/s", "faster"}};
  if (inflating) lines[0].emplace_back("x limit");
  lines[0].insert(lines[0].end(), {"messages", "kicks", "queued", "calls"});
  const double baseline_ms = (view.medians.front().*view.phase).wall_ms;
  for (std::size_t i = 0; i < view.medians.size(); ++i) {
    const Phase& p = view.medians[i].*view.phase;
    const double bytes = static_cast<double>(view.medians[i].pages) * kPageSize;
    Line& line =
        lines.emplace_back(Line{row_name(view.comparison.rows[i].spec),
                                gib_per_second(bytes, p.wall_ms), factor(baseline_ms / p.wall_ms)});
    if (inflating) line.push_back(factor(p.wall_ms / view.comparison.limit_ms));
    line.insert(line.end(), {count(p.messages), count(p.kicks), format_size(p.queue_bytes),
                             count(p.discard_calls)});
  }
  return align(lines);
}

// What is to be said about single rows.
std::string remarks(const View& view) {
  std::string text;
  for (std::size_t i = 0; i < view.medians.size(); ++i) {
    const RowRun& run = view.medians[i];
    const std::string name = row_name(view.comparison.rows[i].spec);
    if (run.vcpu_loss_percent) {
      text += fmt::format("vCPU: lost {:.1f} % of its speed to {}\n", *run.vcpu_loss_percent, name);
    }
    if (run.inflate.owed_bytes != 0 || run.inflate.forgone_bytes != 0) {
      text +=
          fmt::format("{}: {} owed to the host, {} forgone\n", name,
                      format_size(run.inflate.owed_bytes), format_size(run.inflate.forgone_bytes));
    }
    if (run.inflate.moved_pages != 0) {
      text += fmt::format("{}: moved {} pages together, {} in all\n", name,
                          count(run.inflate.moved_pages),
                          format_size(run.inflate.moved_pages * kPageSize));
    }
    if (view.comparison.rows[i].spec.write_behind) {
      text += fmt::format("{}: {} ms of its stages went on at the same time as others\n", name,
                          format_number(run.inflate.overlap_ms));
    }
    if (!run.refused.empty()) {
      text += fmt::format("{}: the kernel refused to take back {}\n", name, run.refused);
    }
    if (!run.verified) text += fmt::format("{}: NOT VERIFIED: {}\n", name, run.failure);
  }
  if (std::ranges::all_of(view.medians, &RowRun::verified)) {
    text += "verified: guest memory was as it should be after every inflation and deflation\n";
  }
  return text;
}

std::string head_line(const Comparison& comparison) {
  const CompareOptions& options = comparison.options;
  return fmt::format(
      "{} guest of {} gives {} back\n{} memory, {}, {} kicks{}{}{}{}\n", to_string(options.guest),
      format_bytes(comparison.plan.guest_memory),
      format_bytes(comparison.plan.inflate_pages << kPageShift), to_string(options.backing),
      options.thp == ThpMode::kOn ? "huge pages" : "no huge pages", to_string(options.notify),
      options.busy_vcpu ? ", a busy vCPU" : "", options.faithful ? ", drivers as published" : "",
      options.poll_us != 0 ? fmt::format(", {} us of looking before a sleep", options.poll_us) : "",
      options.repeat > 1 ? fmt::format(", medians of {} runs", options.repeat) : "");
}

}  // namespace

std::string table_of(const Comparison& comparison) {
  const View inflate(comparison, "inflate", &RowRun::inflate);
  const View deflate(comparison, "deflate", &RowRun::deflate);
  const MachineFacts& machine = comparison.machine;
  std::string text = head_line(comparison) + "\n";
  for (const View* view : {&inflate, &deflate}) {
    text += stage_table(*view) + "\n" + traffic_table(*view) + "\n";
  }
  text += fmt::format("limit: {} ms, one madvise over the same bytes of fresh memory\n",
                      format_number(comparison.limit_ms));
  text += remarks(inflate);
  text += fmt::format("machine: {} x {}, {}, {} of memory\n", machine.processors, machine.processor,
                      machine.kernel, format_bytes(machine.memory_bytes));
  return text;
}

}  // namespace vballoon::tool
