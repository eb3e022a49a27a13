// SPDX-License-Identifier: MIT
#include "text_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

namespace vballoon::tool {

std::string align(const std::vector<Line>& lines) {
  std::vector<std::size_t> widths;
  for (const Line& line : lines) {
    if (widths.size() < line.size()) widths.resize(line.size());
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  }
  std::string text;
  for (const Line& line : lines) {
    std::string row = fmt::format("{:<{}}", line[0], widths[0]);
    for (std::size_t i = 1; i < line.size(); ++i)
      row += fmt::format("  {:>{}}", line[i], widths[i]);
    text += row + "\n";
  }
  return text;
}

}  // namespace vballoon::tool
