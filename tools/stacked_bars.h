// SPDX-License-Identifier: MIT
// A picture of stacked bars, drawn by gnuplot.
#ifndef VBALLOON_TOOLS_STACKED_BARS_H_
#define VBALLOON_TOOLS_STACKED_BARS_H_

#include <optional>
#include <string>
#include <vector>

#include "vballoon/result.h"

namespace vballoon::tool {

struct StackedBars {
  // One bar: its parts from below, and what stands at `height`.
  struct Bar {
    std::string name;
    std::vector<double> parts;
    double height = 0;
    std::string label;
  };
  // A line across all bars.
  struct Line {
    double height = 0;
    std::string title;
  };

  std::string title;
  std::string y_label;
  std::vector<std::string> parts;  // what each part is, at most five
  std::vector<Bar> bars;
  std::optional<Line> line;
};

// What makes gnuplot draw it to its standard output: SVG, or PNG, as the file ends.
[[nodiscard]] std::string gnuplot_script_of(const StackedBars& bars, const std::string& file);

// Whether the file can be drawn: its name, its folder (both kInvalidArgument), and gnuplot
// (kNotSupported).
[[nodiscard]] Result<void> check_plot(const std::string& file);
[[nodiscard]] Result<void> draw_plot(const StackedBars& bars, const std::string& file);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_STACKED_BARS_H_
