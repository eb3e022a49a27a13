// SPDX-License-Identifier: MIT
// Free page reporting: which free blocks to name to the host, and when.            room: guest
//
// The core of Linux's mm/page_reporting as a state machine, without a queue: it takes unreported
// blocks off the free lists, hands them out in batches, and puts them back when it hears that the
// host has answered. Some time after a large block was freed it makes a pass over all zones: over
// each that is well above its low watermark, the lists from the smallest order on, each from its
// head. A pass reports only a part of a long list and then asks for another one, so that memory in
// use is not kept away for long. Nothing is taken from the C++ heap after the constructor. One
// thread at a time, that of the allocator.
#ifndef VBALLOON_SIM_PAGE_REPORTING_H_
#define VBALLOON_SIM_PAGE_REPORTING_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vballoon/export.h"
#include "vballoon/sim/page_allocator.h"
#include "vballoon/sim/watermarks.h"

namespace vballoon::sim {

// What Linux puts into one report at most.
inline constexpr std::size_t kMaxReportBlocks = 32;

struct PageReportingOptions {
  unsigned min_order = 9;                   // 2 MiB; at most kMaxOrder
  std::size_t capacity = kMaxReportBlocks;  // blocks of a report; 1 to kMaxReportBlocks
  std::chrono::nanoseconds delay = std::chrono::seconds(2);  // from a request to its pass
};

// What the core waits for.
struct ReportingWait {
  enum class Kind : std::uint8_t {
    kFreedBlock,  // until a block is freed: step again after memory was freed
    kTime,        // step again at `until`
    kAnswer,      // batch() is to be sent, or has been: call answered(), then step again
  };
  Kind kind = Kind::kFreedBlock;
  std::chrono::nanoseconds until{0};

  friend bool operator==(const ReportingWait&, const ReportingWait&) = default;
};

struct ReportingCounters {
  std::uint64_t passes = 0;
  std::uint64_t reports = 0;         // batches that were answered, with the failed ones
  std::uint64_t failed_reports = 0;  // each of them ended its pass
  std::uint64_t reported_pages = 0;  // of reports that did not fail

  friend bool operator==(const ReportingCounters&, const ReportingCounters&) = default;
};

class VBALLOON_EXPORT PageReporting {
 public:
  enum class State : std::uint8_t { kIdle, kRequested, kActive };

  // Requests the first pass. `allocator` must outlive this; it has one PageReporting at most.
  explicit PageReporting(PageAllocator& allocator, const PageReportingOptions& options = {});
  PageReporting(const PageReporting&) = delete;
  PageReporting& operator=(const PageReporting&) = delete;
  // Puts back what is out, not reported.
  ~PageReporting();

  // Does all that can be done now. A freed block counts from the step that sees it, so the first
  // step after memory was freed decides when the pass begins. `now` is compared with nothing but
  // former values of itself.
  ReportingWait step(std::chrono::nanoseconds now);

  // The blocks to report, as they stand in the scatterlist: those taken last come first. They are
  // not free for as long as they are out. Empty when nothing is out.
  [[nodiscard]] std::span<const Block> batch() const;

  // The host has answered the batch, or it could not be sent. Puts the blocks back at the tails of
  // their lists, marked as reported if `ok`. A failure ends the pass. Requires a batch.
  void answered(bool ok);

  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] const ReportingCounters& counters() const { return counters_; }

 private:
  void begin_pass();
  void begin_zone(std::size_t zone);
  void begin_list(unsigned order);
  void end_pass(std::chrono::nanoseconds now);
  [[nodiscard]] bool fill_batch();
  [[nodiscard]] bool walk_list();
  [[nodiscard]] bool large_block_was_freed();

  PageAllocator& allocator_;
  const PageReportingOptions options_;
  const std::vector<Watermarks> watermarks_;
  State state_ = State::kRequested;
  std::optional<std::chrono::nanoseconds> due_;  // of the requested pass; set by the first step

  // Where the pass stands.
  std::size_t zone_ = 0;
  unsigned order_ = 0;
  std::int64_t budget_ = 0;      // reports left for the list; at -1 it is left alone
  std::uint64_t unvisited_ = 0;  // blocks of the list to look at, from its head
  bool another_pass_ = false;    // one is needed after this one

  std::array<Block, kMaxReportBlocks> entries_;
  std::size_t first_entry_;  // of the batch, which is filled from its end
  bool out_ = false;
  ReportingCounters counters_;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SIM_PAGE_REPORTING_H_
