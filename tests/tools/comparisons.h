// SPDX-License-Identifier: MIT
// Comparisons for tests: small ones that really run, and one with figures made up by hand.
#ifndef VBALLOON_TESTS_TOOLS_COMPARISONS_H_
#define VBALLOON_TESTS_TOOLS_COMPARISONS_H_

#include "compare_command.h"
#include "compare_options.h"
#include "compare_report.h"
#include "figures.h"
#include "sizes.h"
#include "tools/outcomes.h"

namespace vballoon::tool::testing {

inline Outcome run(const CompareOptions& options) {
  return outcome_of([&](std::FILE* out) { return run_compare(options, out); });
}

// The smallest guest, one mode beside the baseline.
inline CompareOptions small_options() {
  CompareOptions options;
  options.guest_memory = 64 * kMiB;
  options.inflate = 16 * kMiB;
  options.modes = {Dialect::kScatterGather};
  options.json = true;
  options.quiet = true;
  return options;
}

// A run of 1 GiB in `wall_ms`: a tenth allocating, two sending, three translating, four discarding.
inline RowRun made_up_run(double wall_ms) {
  RowRun run;
  run.pages = kGiB / kPageSize;
  run.free_blocks_by_order[10] = 512;
  run.allocations_by_order[0] = run.pages;
  run.inflate = {.wall_ms = wall_ms,
                 .guest_ms = wall_ms + 1,
                 .allocate_ms = wall_ms * 0.1,
                 .send_ms = wall_ms * 0.2,
                 .translate_ms = wall_ms * 0.3,
                 .discard_ms = wall_ms * 0.4,
                 .overlap_ms = 7,
                 .kernel_ms = wall_ms / 2,
                 .messages = 1024,
                 .kicks = 512,
                 .queue_bytes = static_cast<double>(kMiB),
                 .discard_calls = 77,
                 .freed_bytes = static_cast<double>(kGiB)};
  run.deflate = {.wall_ms = wall_ms / 10,
                 .guest_ms = wall_ms / 10,
                 .allocate_ms = wall_ms / 20,
                 .send_ms = wall_ms / 20,
                 .messages = 33,
                 .kicks = 22,
                 .queue_bytes = static_cast<double>(2 * kMiB)};
  for (double Phase::*value : {&Phase::discard_ms, &Phase::discard_calls, &Phase::freed_bytes,
                               &Phase::owed_bytes, &Phase::forgone_bytes, &Phase::moved_pages}) {
    run.deflate.*value = kDoesNotApply;
  }
  run.verified = true;
  return run;
}

// pfn/per-page in 2000 ms and chunk/vectored in 125 ms; the limit is 100 ms.
inline Comparison made_up_comparison() {
  Comparison comparison;
  comparison.options.modes = {Dialect::kScatterGather};
  comparison.plan = {.guest_memory = 2 * kGiB, .inflate_pages = kGiB / kPageSize, .note = {}};
  comparison.machine.kernel = "Linux 6.1";
  comparison.machine.processor = "Z80";
  comparison.machine.processors = 3;
  comparison.machine.memory_bytes = 48 * kKiB;
  comparison.limit_ms = 100;
  comparison.rows = {
      {{Dialect::kStandard, DiscardStrategy::kPerPage}, {made_up_run(2000)}},
      {{Dialect::kScatterGather, DiscardStrategy::kVectored}, {made_up_run(125)}},
  };
  return comparison;
}

}  // namespace vballoon::tool::testing

#endif  // VBALLOON_TESTS_TOOLS_COMPARISONS_H_
