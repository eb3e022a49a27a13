// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "compare_report.h"
#include "sizes.h"

namespace vballoon::tool {
namespace {

using Line = std::vector<std::string>;

// Columns as wide as their widest cell, the first one to the left, the others to the right.
std::string align(const std::vector<Line>& lines) {
  std::vector<std::size_t> widths;
  for (const Line& line : lines) {
    if (widths.size() < line.size()) widths.resize(line.size());
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  std::string text;
  for (const Line& line : lines) {
    std::string row = fmt::format("  {:<{}}", line[0], widths[0]);
    for (std::size_t i = 1; i < line.size(); ++i)
      row += fmt::format("  {:>{}}", line[i], widths[i]);
    text += row + "\n";
  }
  return text;
}

std::string stage(double ms, double wall_ms) {
  return fmt::format("{} {:3.0f}%", format_number(ms), wall_ms > 0 ? 100 * ms / wall_ms : 0);
}

std::string factor(double value) { return fmt::format("{:.2f}x", value); }

std::string gib_per_second(double bytes, double ms) {
  return ms > 0 ? fmt::format("{:.2f}", bytes / static_cast<double>(kGiB) / (ms / 1000)) : "-";
}

Line inflate_line(const Comparison& comparison, const Row& row, const RowRun& run,
                  double baseline_ms) {
  const Phase& p = run.inflate;
  const double bytes = static_cast<double>(run.pages) * kPageSize;
  Line line{row_name(row.spec),
            format_number(p.wall_ms),
            stage(p.allocate_ms, p.wall_ms),
            stage(p.send_ms, p.wall_ms),
            stage(p.translate_ms, p.wall_ms),
            stage(p.discard_ms, p.wall_ms),
            fmt::format("{:.0f}", p.messages),
            fmt::format("{:.0f}", p.kicks),
            format_size(p.queue_bytes),
            fmt::format("{:.0f}", p.discard_calls),
            gib_per_second(bytes, p.wall_ms),
            factor(baseline_ms / p.wall_ms),
            factor(p.wall_ms / comparison.limit_ms)};
  if (comparison.options.busy_vcpu) {
    line.push_back(fmt::format("{:.0f}%", 100 - run.vcpu_loss_percent.value_or(0)));
  }
  line.emplace_back(run.verified ? "yes" : "NO");
  return line;
}

std::string inflate_table(const Comparison& comparison) {
  Line head{"inflate", "wall ms", "allocate", "send",  "translate",   "discard", "messages",
            "kicks",   "queued",  "calls",    "GiB/s", "vs baseline", "vs limit"};
  if (comparison.options.busy_vcpu) head.emplace_back("vCPU speed");
  head.emplace_back("verified");
  std::vector<Line> lines{head};
  const double baseline_ms = median_of(comparison.rows.front().runs).inflate.wall_ms;
  for (const Row& row : comparison.rows) {
    lines.push_back(inflate_line(comparison, row, median_of(row.runs), baseline_ms));
  }
  return align(lines);
}

std::string deflate_table(const Comparison& comparison) {
  std::vector<Line> lines{{"deflate", "wall ms", "allocator", "send", "translate", "messages",
                           "kicks", "queued", "GiB/s", "vs baseline"}};
  const double baseline_ms = median_of(comparison.rows.front().runs).deflate.wall_ms;
  for (const Row& row : comparison.rows) {
    const RowRun run = median_of(row.runs);
    const Phase& p = run.deflate;
    lines.push_back({row_name(row.spec), format_number(p.wall_ms), stage(p.allocate_ms, p.wall_ms),
                     stage(p.send_ms, p.wall_ms), stage(p.translate_ms, p.wall_ms),
                     fmt::format("{:.0f}", p.messages), fmt::format("{:.0f}", p.kicks),
                     format_size(p.queue_bytes),
                     gib_per_second(static_cast<double>(run.pages) * kPageSize, p.wall_ms),
                     factor(baseline_ms / p.wall_ms)});
  }
  return align(lines);
}

std::string left_over(const Comparison& comparison) {
  std::string text;
  for (const Row& row : comparison.rows) {
    const RowRun run = median_of(row.runs);
    if (run.inflate.owed_bytes != 0 || run.inflate.forgone_bytes != 0) {
      text +=
          fmt::format("{}: {} of the balloon owed to the host, {} forgone\n", row_name(row.spec),
                      format_size(run.inflate.owed_bytes), format_size(run.inflate.forgone_bytes));
    }
    if (!run.verified)
      text += fmt::format("{}: NOT VERIFIED: {}\n", row_name(row.spec), run.failure);
  }
  return text;
}

}  // namespace

std::string table_of(const Comparison& comparison) {
  const CompareOptions& options = comparison.options;
  std::string text = fmt::format(
      "{} guest of {} gives {} back: {} memory, {}, kicks by {}{}{}\n\n", to_string(options.guest),
      format_size(static_cast<double>(comparison.plan.guest_memory)),
      format_size(static_cast<double>(comparison.plan.inflate_pages << kPageShift)),
      to_string(options.backing),
      options.thp == ThpMode::kOn ? "transparent huge pages" : "no transparent huge pages",
      to_string(options.notify), options.busy_vcpu ? ", a busy vCPU" : "",
      options.repeat > 1 ? fmt::format(", medians of {} runs", options.repeat) : "");
  text += inflate_table(comparison) + "\n" + deflate_table(comparison) + "\n";
  text += fmt::format("limit: {} ms, one call to the kernel over the same bytes\n",
                      format_number(comparison.limit_ms));
  text += left_over(comparison);
  text += fmt::format("machine: {} x {}, {}, {} of memory\n", comparison.machine.processors,
                      comparison.machine.processor, comparison.machine.kernel,
                      format_size(static_cast<double>(comparison.machine.memory_bytes)));
  return text;
}

}  // namespace vballoon::tool
