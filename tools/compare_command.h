// SPDX-License-Identifier: MIT
// `vballoon compare`: one guest, several ways to give its memory back, side by side.
#ifndef VBALLOON_TOOLS_COMPARE_COMMAND_H_
#define VBALLOON_TOOLS_COMPARE_COMMAND_H_

#include <cstdio>

#include "compare_options.h"
#include "outcome.h"

namespace vballoon::tool {

// Runs the comparison; results go to `out`, everything else to stderr. Returns the exit code.
[[nodiscard]] int run_compare(const CompareOptions& options, std::FILE* out);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_COMPARE_COMMAND_H_
