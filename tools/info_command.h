// SPDX-License-Identifier: MIT
// `vballoon info`: what this machine offers to a balloon.
#ifndef VBALLOON_TOOLS_INFO_COMMAND_H_
#define VBALLOON_TOOLS_INFO_COMMAND_H_

#include <cstdio>

namespace vballoon::tool {

// Prints to `out`; returns the exit code.
[[nodiscard]] int run_info(bool json, std::FILE* out);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_INFO_COMMAND_H_
