// SPDX-License-Identifier: MIT
// The limit on one thread: one call to the kernel over as many bytes of fresh memory.
#ifndef VBALLOON_TOOLS_LIMIT_H_
#define VBALLOON_TOOLS_LIMIT_H_

#include <cstdint>

#include "compare_options.h"
#include "progress.h"
#include "vballoon/result.h"

namespace vballoon::tool {

// Maps and touches `bytes` as a row does, discards them in one call and returns the milliseconds
// of that call; 0 when `tick` says to stop.
[[nodiscard]] Result<double> measure_limit(const CompareOptions& options, std::uint64_t bytes,
                                           const Tick& tick);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_LIMIT_H_
