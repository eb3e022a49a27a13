// SPDX-License-Identifier: MIT
// What `vballoon migrate` was asked for.
#ifndef VBALLOON_TOOLS_MIGRATE_OPTIONS_H_
#define VBALLOON_TOOLS_MIGRATE_OPTIONS_H_

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/page_set.h"
#include "machine_facts.h"
#include "sizes.h"
#include "vballoon/features.h"
#include "vballoon/log.h"
#include "vballoon/result.h"
#include "vballoon/sim/machine.h"
#include "write_tracker.h"

namespace vballoon::tool {

// What a guest's balloon does for a migration.
struct Help {
  std::string_view name;
  Dialect dialect = Dialect::kStandard;
  Features features = {};   // beside those that every balloon has here
  bool requests = false;    // queues over which the host asks the guest
  bool drop_cache = false;  // first the guest drops clean pages of its page cache
  bool balloon = false;     // inflated first; what is in it is not sent
  bool hints = false;       // the guest names its free pages, and they are not sent in round 1
};
inline constexpr std::array kHelps{
    Help{.name = "plain"},
    Help{.name = "hints", .features = {Feature::kFreePageHint}, .hints = true},
    Help{.name = "control-queue",
         .dialect = Dialect::kScatterGather,
         .requests = true,
         .hints = true},
    Help{.name = "request-queue",
         .dialect = Dialect::kPageBitmap,
         .features = {Feature::kStatsVq},
         .requests = true,
         .hints = true},
    Help{.name = "ledger", .balloon = true},
    Help{.name = "drop-cache",
         .dialect = Dialect::kPageBitmap,
         .features = {Feature::kStatsVq},
         .requests = true,
         .drop_cache = true,
         .hints = true},
};

// A round that is about to be sent, for tests that put broken parts in.
struct RoundView {
  unsigned number = 0;  // from 1
  PageSet& to_send;     // by dense index
  sim::Machine& machine;
  pid_t destination;
};

struct MigrateOptions {
  std::optional<std::uint64_t> guest_memory;  // bytes; unset: what suits the machine
  std::optional<std::uint64_t> free;          // bytes that the guest does not use; unset: 3/4
  std::vector<Help> helps{kHelps.begin(), kHelps.end()};
  std::optional<std::uint64_t> bandwidth;                // bytes a second; unset: no limit
  std::optional<std::uint64_t> write_rate = 100 * kMiB;  // of the guest, bytes a second
  std::uint64_t seed = 1;
  bool faithful = false;  // sim::DriverOptions::faithful
  bool json = false;
  std::string plot;  // file to draw, or empty
  bool quiet = false;
  LogSink log = {};  // the device's messages

  std::function<Result<std::unique_ptr<WriteTracker>>(std::shared_ptr<const GuestMemory>)>
      make_tracker = make_write_tracker;
  std::function<void(const RoundView&)> before_round = {};
};

// What the options come to on this machine.
struct MigratePlan {
  std::uint64_t guest_memory = 0;  // bytes
  std::uint64_t free = 0;          // bytes
  std::string note;                // what was made smaller, and why; or empty
};

// Fails with kInvalidArgument when an option makes no sense or the machine has not enough memory
// for both sides.
[[nodiscard]] Result<MigratePlan> make_plan(const MigrateOptions& options,
                                            const MachineFacts& machine);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_MIGRATE_OPTIONS_H_
