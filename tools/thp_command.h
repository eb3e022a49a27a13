// SPDX-License-Identifier: MIT
// `vballoon thp`: how many huge pages of the host a balloon leaves whole.
#ifndef VBALLOON_TOOLS_THP_COMMAND_H_
#define VBALLOON_TOOLS_THP_COMMAND_H_

#include <cstdio>
#include <vector>

#include "thp_run.h"
#include "vballoon/features.h"

namespace vballoon::tool {

struct ThpOptions {
  std::vector<Dialect> modes{Dialect::kStandard, Dialect::kContPages, Dialect::kScatterGather,
                             Dialect::kPageBitmap};
  std::vector<ThpPolicy> policies{kThpPolicies.begin(), kThpPolicies.end()};
  bool compaction = true;
  bool json = false;
  bool quiet = false;
  ThpPlan plan;
};

// Prints to `out`; returns the exit code.
[[nodiscard]] int run_thp_command(const ThpOptions& options, std::FILE* out);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_THP_COMMAND_H_
