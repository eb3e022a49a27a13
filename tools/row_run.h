// SPDX-License-Identifier: MIT
// One run of one row: a fresh guest inflates its balloon, is checked, deflates it, is checked.
#ifndef VBALLOON_TOOLS_ROW_RUN_H_
#define VBALLOON_TOOLS_ROW_RUN_H_

#include <optional>

#include "compare_options.h"
#include "figures.h"
#include "progress.h"
#include "vballoon/result.h"

namespace vballoon::tool {

// nullopt when `tick` said to stop.
[[nodiscard]] Result<std::optional<RowRun>> run_row(const CompareOptions& options,
                                                    const ComparePlan& plan, const RowSpec& spec,
                                                    const Tick& tick);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_ROW_RUN_H_
