// SPDX-License-Identifier: MIT
// The comparison as a table for people, as JSON for programs, and as a picture.
#ifndef VBALLOON_TOOLS_COMPARE_REPORT_H_
#define VBALLOON_TOOLS_COMPARE_REPORT_H_

#include <string>
#include <vector>

#include "compare_options.h"
#include "figures.h"
#include "machine_facts.h"
#include "vballoon/result.h"

namespace vballoon::tool {

struct Comparison {
  CompareOptions options;
  ComparePlan plan;
  MachineFacts machine;
  double limit_ms = 0;    // median of what was measured before and after each row
  std::vector<Row> rows;  // the baseline first; each with at least one run
};

[[nodiscard]] std::string table_of(const Comparison& comparison);

// One document, schema vballoon.compare/1.
[[nodiscard]] std::string json_of(const Comparison& comparison);

// What makes gnuplot draw it to its standard output: SVG, or PNG, as the file ends.
[[nodiscard]] std::string gnuplot_script_of(const Comparison& comparison, const std::string& file);

// Whether the file can be drawn: its name, its folder (both kInvalidArgument), and gnuplot
// (kNotSupported).
[[nodiscard]] Result<void> check_plot(const std::string& file);
[[nodiscard]] Result<void> draw_plot(const Comparison& comparison, const std::string& file);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_COMPARE_REPORT_H_
