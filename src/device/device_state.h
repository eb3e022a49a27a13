// SPDX-License-Identifier: MIT
// What a saved balloon device is made of, and its bytes (docs/formats.md, "Saved state").
#ifndef VBALLOON_SRC_DEVICE_DEVICE_STATE_H_
#define VBALLOON_SRC_DEVICE_DEVICE_STATE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/page_ranges.h"
#include "device/ledger.h"
#include "device/message_reader.h"
#include "device/registers.h"
#include "device/stats_requests.h"
#include "vballoon/balloon_device.h"
#include "vballoon/balloon_registers.h"
#include "vballoon/device_queue.h"
#include "vballoon/features.h"
#include "vballoon/guest_memory.h"
#include "vballoon/result.h"

namespace vballoon {

// What a device was made with and its guest has seen: it has to be the same on both sides.
struct DeviceMake {
  Features offered;
  Dialect dialect = Dialect::kStandard;
  unsigned dialect_bit = 0;
  QueueNumbering numbering = QueueNumbering::kDense;
  bool guest_requests = false;
  std::span<const MemoryRegion> regions;
};

struct DeviceState {
  struct Queue {
    QueueConfig config;  // size and addresses; the rest follows from the features
    QueuePosition position;
    std::vector<HeldChain> held;
    // Of a queue that names pages: those of its messages that were not dealt with, in order, and
    // how far the message that comes next was read, if it was begun.
    PageRanges pages;
    std::optional<MessagePlace> resume;
  };

  Registers::State registers;
  std::uint32_t early_kicks = 0;
  HintState hint_state = HintState::kStopped;
  std::uint32_t hint_id = 0;
  StatsRequests::State stats;
  std::array<std::optional<Queue>, kMaxBalloonQueues> queues;  // those that are set up
  Ledger ledger{0};
};

[[nodiscard]] std::vector<std::byte> encode(const DeviceState& state, const DeviceMake& make);

// Fails with kBadSavedState, and says why, when the bytes are damaged, of another version, or of a
// device of another make; also when a part is none that can be. Whether the parts fit together
// is left to who restores them.
[[nodiscard]] Result<DeviceState> decode(std::span<const std::byte> bytes, const DeviceMake& make);

}  // namespace vballoon

#endif  // VBALLOON_SRC_DEVICE_DEVICE_STATE_H_
