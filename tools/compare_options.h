// SPDX-License-Identifier: MIT
// What `vballoon compare` was asked for.
#ifndef VBALLOON_TOOLS_COMPARE_OPTIONS_H_
#define VBALLOON_TOOLS_COMPARE_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sizes.h"
#include "vballoon/discarder.h"
#include "vballoon/features.h"
#include "vballoon/guest_memory.h"
#include "vballoon/log.h"
#include "vballoon/sim/aging.h"
#include "vballoon/sim/machine.h"

namespace vballoon::tool {

struct CompareOptions {
  std::optional<std::uint64_t> guest_memory;  // bytes; unset: what suits the machine
  std::optional<std::uint64_t> inflate;       // bytes; unset: what suits the guest
  std::vector<Dialect> modes{Dialect::kStandard, Dialect::kPageBitmap, Dialect::kScatterGather};
  DiscardStrategy host = DiscardStrategy::kVectored;
  sim::GuestAge guest = sim::GuestAge::kIdle;
  bool compaction = true;  // cont has pages moved for its blocks
  sim::NotifyMode notify = sim::NotifyMode::kEventfd;
  Backing backing = Backing::kAnonymous;
  ThpMode thp = ThpMode::kOff;
  bool busy_vcpu = false;
  std::uint16_t queue_size = 256;
  std::optional<sim::PfnOrder> pfn_order;  // unset: what `faithful` makes of it
  bool chunk_order_zero = false;           // chunk takes single pages too, as published
  bool faithful = false;                   // sim::DriverOptions::faithful
  bool write_behind = false;               // a further row for each mode
  std::uint32_t poll_us = 0;  // both threads look that long before they sleep; not the baseline's
  unsigned repeat = 1;
  std::uint64_t seed = 1;
  bool json = false;
  std::string plot;  // file to draw, or empty
  bool quiet = false;
  LogSink log = {};  // the device's messages

  // Where a row's discarder comes from: for tests, which put broken ones in.
  using DiscarderFactory = std::function<std::unique_ptr<Discarder>(
      DiscardStrategy, std::shared_ptr<const GuestMemory>)>;
  DiscarderFactory make_discarder = [](DiscardStrategy strategy,
                                       const std::shared_ptr<const GuestMemory>&) {
    return make_kernel_discarder({.strategy = strategy});
  };
};

// What the options come to on this machine.
struct ComparePlan {
  std::uint64_t guest_memory = 0;  // bytes
  std::uint64_t inflate_pages = 0;
  std::string note;  // what was made smaller, and why; or empty
};

// One line of the comparison.
struct RowSpec {
  Dialect mode = Dialect::kStandard;
  DiscardStrategy host = DiscardStrategy::kPerPage;
  bool write_behind = false;  // with that strategy, after the answer
  friend bool operator==(const RowSpec&, const RowSpec&) = default;
};

// The driver's, of all rows.
[[nodiscard]] sim::DriverOptions driver_options(const CompareOptions& options);

// "pfn/per-page", "pfn/write-behind".
[[nodiscard]] std::string row_name(const RowSpec& row);

// The baseline pfn/per-page, then every mode with the strategy asked for, and, if that is wanted,
// every mode with discards written behind.
[[nodiscard]] std::vector<RowSpec> rows_of(const CompareOptions& options);

// Names of enumerators, as the command line spells them.
[[nodiscard]] std::string_view to_string(Backing backing);
[[nodiscard]] std::string_view to_string(ThpMode thp);
[[nodiscard]] std::string_view to_string(sim::PfnOrder order);
[[nodiscard]] std::string_view to_string(sim::NotifyMode notify);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_COMPARE_OPTIONS_H_
