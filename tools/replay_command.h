// SPDX-License-Identifier: MIT
// `vballoon replay`: plays a trace that `vballoon serve --trace` has written into a device.
#ifndef VBALLOON_TOOLS_REPLAY_COMMAND_H_
#define VBALLOON_TOOLS_REPLAY_COMMAND_H_

#include <cstdio>
#include <string>

#include "replay.h"

namespace vballoon::tool {

struct ReplayOptions {
  std::string path;
  bool json = false;
};

[[nodiscard]] std::string replay_table(const ReplayReport& report);
[[nodiscard]] std::string replay_json(const ReplayReport& report);

// Prints what it held and what the device made of it; returns the exit code.
[[nodiscard]] int run_replay(const ReplayOptions& options, std::FILE* out);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_REPLAY_COMMAND_H_
