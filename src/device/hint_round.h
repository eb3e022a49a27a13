// SPDX-License-Identifier: MIT
// A round of free page hints (virtio 1.3, section 5.5.6.5): which command id stands in the
// configuration, and whether hints are of use. Over queues for requests to the guest no id stands
// there, and it is the device that knows when the guest begins.
//
// Rules only: whoever owns this serves the queue and orders the calls.
#ifndef VBALLOON_SRC_DEVICE_HINT_ROUND_H_
#define VBALLOON_SRC_DEVICE_HINT_ROUND_H_

#include <cstdint>

#include "vballoon/balloon_device.h"
#include "vballoon/balloon_registers.h"

namespace vballoon {

class HintRound {
 public:
  [[nodiscard]] HintState state() const { return state_; }
  // What the configuration space says.
  [[nodiscard]] std::uint32_t command() const;
  // Hints are to be believed.
  [[nodiscard]] bool active() const { return state_ == HintState::kActive; }

  // The host begins a round with an id of its own, ends it, or lets the guest have its pages back.
  std::uint32_t start();
  void stop() { state_ = HintState::kStopped; }
  void done() { state_ = HintState::kDone; }
  void reset() { state_ = HintState::kStopped; }

  // The driver sent a command id: that of the round begins it, any other ends it. One that is late
  // from an earlier round neither begins nor ends a round that was not begun.
  void received(std::uint32_t id);

  // Without command ids: the guest has been asked; it has no more. Each requires the state before.
  void begun() { state_ = HintState::kActive; }
  void exhausted() { state_ = HintState::kExhausted; }

  // For saving a device.
  [[nodiscard]] std::uint32_t last_id() const { return id_; }
  void restore(HintState state, std::uint32_t last_id) {
    state_ = state;
    id_ = last_id;
  }

 private:
  HintState state_ = HintState::kStopped;
  std::uint32_t id_ = kHintDone;  // of the last round; not used again before 2^32 others
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_DEVICE_HINT_ROUND_H_
