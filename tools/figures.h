// SPDX-License-Identifier: MIT
// The figures of one resize, and of a row of the comparison.
#ifndef VBALLOON_TOOLS_FIGURES_H_
#define VBALLOON_TOOLS_FIGURES_H_

#include <array>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "compare_options.h"
#include "vballoon/sim/machine.h"

namespace vballoon::tool {

// Stands for a number that does not apply; null in the JSON document, "-" in the table.
inline constexpr double kDoesNotApply = std::numeric_limits<double>::quiet_NaN();

// One inflation or deflation. All numbers are doubles so that a median of two is one too. Nothing
// is discarded in a deflation, and no page moved: its discard stage, calls and freed, owed and
// forgone bytes do not apply, nor do the pages that compaction moved. `kernel_ms` is the system
// time of the thread that serves the device; with kicks by call that thread runs the guest too.
struct Phase {
  double wall_ms = 0;
  double guest_ms = 0;
  double allocate_ms = 0;
  double send_ms = 0;
  double translate_ms = 0;
  double discard_ms = 0;
  double overlap_ms = 0;  // by which the stages are longer than the wall time
  double kernel_ms = 0;
  double messages = 0;
  double kicks = 0;
  double queue_bytes = 0;
  double discard_calls = 0;
  double freed_bytes = 0;
  double owed_bytes = 0;
  double forgone_bytes = 0;
  double moved_pages = 0;
};

// The fields of a Phase with their names in the JSON document; `kStageFields` stand in
// "stages_ms".
struct PhaseField {
  std::string_view name;
  double Phase::*value;
};
inline constexpr std::array kHeadFields{PhaseField{"wall_ms", &Phase::wall_ms},
                                        PhaseField{"guest_ms", &Phase::guest_ms}};
inline constexpr std::array kStageFields{
    PhaseField{"allocate", &Phase::allocate_ms}, PhaseField{"send", &Phase::send_ms},
    PhaseField{"translate", &Phase::translate_ms}, PhaseField{"discard", &Phase::discard_ms}};
inline constexpr std::array kTailFields{PhaseField{"overlap_ms", &Phase::overlap_ms},
                                        PhaseField{"kernel_ms", &Phase::kernel_ms},
                                        PhaseField{"messages", &Phase::messages},
                                        PhaseField{"kicks", &Phase::kicks},
                                        PhaseField{"queue_bytes", &Phase::queue_bytes},
                                        PhaseField{"discard_calls", &Phase::discard_calls},
                                        PhaseField{"freed_bytes", &Phase::freed_bytes},
                                        PhaseField{"owed_bytes", &Phase::owed_bytes},
                                        PhaseField{"forgone_bytes", &Phase::forgone_bytes},
                                        PhaseField{"moved_pages", &Phase::moved_pages}};

[[nodiscard]] Phase inflation_of(const sim::ResizeReport& report);
[[nodiscard]] Phase deflation_of(const sim::ResizeReport& report);

// One run of one row.
struct RowRun {
  std::uint64_t pages = 0;
  sim::BlocksByOrder free_blocks_by_order{};  // before the inflation
  sim::BlocksByOrder allocations_by_order{};
  Phase inflate;
  Phase deflate;
  std::optional<double> vcpu_loss_percent;  // of a busy virtual processor, while inflating
  bool verified = false;
  std::string failure;  // what is wrong when it is not verified
  std::string refused;  // what the kernel would not take back, if anything
};

struct Row {
  RowSpec spec;
  std::vector<RowRun> runs;
};

// The median of each number; verified when all runs are. Requires at least one run.
[[nodiscard]] RowRun median_of(const std::vector<RowRun>& runs);
// Does not apply when one of the values does not.
[[nodiscard]] double median_of(std::vector<double> values);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_FIGURES_H_
