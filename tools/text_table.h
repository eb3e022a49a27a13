// SPDX-License-Identifier: MIT
// Figures in columns.
#ifndef VBALLOON_TOOLS_TEXT_TABLE_H_
#define VBALLOON_TOOLS_TEXT_TABLE_H_

#include <string>
#include <vector>

namespace vballoon::tool {

using Line = std::vector<std::string>;

// Columns as wide as their widest cell, the first one to the left, the others to the right.
[[nodiscard]] std::string align(const std::vector<Line>& lines);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_TEXT_TABLE_H_
