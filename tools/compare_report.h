// SPDX-License-Identifier: MIT
// The comparison as a table for people, as JSON for programs, and as a picture.
#ifndef VBALLOON_TOOLS_COMPARE_REPORT_H_
#define VBALLOON_TOOLS_COMPARE_REPORT_H_

#include <string>
#include <vector>

#include "compare_options.h"
#include "figures.h"
#include "machine_facts.h"
#include "stacked_bars.h"

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

[[nodiscard]] StackedBars bars_of(const Comparison& comparison);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_COMPARE_REPORT_H_
