// SPDX-License-Identifier: MIT
// How a subcommand ends.
#ifndef VBALLOON_TOOLS_OUTCOME_H_
#define VBALLOON_TOOLS_OUTCOME_H_

#include <cstdio>
#include <string>

#include "vballoon/error.h"

namespace vballoon::tool {

// Exit codes of the command.
inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitUnreachable = 3;       // of `ctl`: no server, or one that does not answer
inline constexpr int kExitTargetNotReached = 4;  // of `ctl`: in the time that was given
inline constexpr int kExitInterrupted = 130;

// Say on stderr what happened; return the exit code.
[[nodiscard]] int report_failure(const Error& error);
[[nodiscard]] int report_interrupt();
// Writes the results to `out`; kExitDone unless that fails.
[[nodiscard]] int write_results(const std::string& text, std::FILE* out);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_OUTCOME_H_
