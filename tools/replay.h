// SPDX-License-Identifier: MIT
// Plays a trace into a device: the same features, rings and messages in the same order, in real
// memory.
#ifndef VBALLOON_TOOLS_REPLAY_H_
#define VBALLOON_TOOLS_REPLAY_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "trace_file.h"
#include "vballoon/balloon_device.h"
#include "vballoon/balloon_registers.h"
#include "vballoon/result.h"

namespace vballoon::tool {

// What a trace holds, and what became of it.
struct ReplayReport {
  struct Queue {
    std::string role;  // "inflate"; empty for a queue that no driver set up
    std::uint64_t messages = 0;
    std::uint64_t kicks = 0;
    std::uint64_t payload_bytes = 0;
    std::uint64_t unanswered = 0;  // and not held for what the device may have to say
  };
  std::array<Queue, kMaxBalloonQueues> queues;
  std::vector<std::uint32_t> actual;  // as the driver wrote it
  std::uint64_t drivers = 0;          // that set FEATURES_OK
  std::uint64_t ballooned_pages = 0;  // before the last reset, or at the end
  BalloonMetrics device;

  // The device found nothing wrong with the driver, and answered it.
  [[nodiscard]] bool clean() const;
};

// Fails with kInvalidArgument for a trace that cannot have been: no memory, a message for a queue
// that is none; with kNotSupported for one of which a part is not there (payload beyond
// kMaxTracedBytes), and as BalloonDevice does.
[[nodiscard]] Result<ReplayReport> replay(std::span<const TraceEvent> trace);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_REPLAY_H_
