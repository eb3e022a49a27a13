// SPDX-License-Identifier: MIT
// `vballoon compare`: one guest, several ways to give its memory back, side by side.
#ifndef VBALLOON_TOOLS_COMPARE_COMMAND_H_
#define VBALLOON_TOOLS_COMPARE_COMMAND_H_

#include <cstdio>

#include "compare_options.h"

namespace vballoon::tool {

// Exit codes of the command.
inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitInterrupted = 130;

// Runs the comparison; results go to `out`, everything else to stderr. Returns the exit code.
[[nodiscard]] int run_compare(const CompareOptions& options, std::FILE* out);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_COMPARE_COMMAND_H_
