// SPDX-License-Identifier: MIT
#include "device/hint_round.h"

namespace vballoon {

std::uint32_t HintRound::command() const {
  switch (state_) {
    case HintState::kStopped:
      return kHintStop;
    case HintState::kDone:
      return kHintDone;
    case HintState::kRequested:
    case HintState::kActive:
    case HintState::kExhausted:
      // Stays there until the host has something new to say, whatever the driver sends.
      return id_;
  }
  return kHintStop;
}

std::uint32_t HintRound::start() {
  do {
    ++id_;
  } while (id_ == kHintStop || id_ == kHintDone);
  state_ = HintState::kRequested;
  return id_;
}

void HintRound::received(std::uint32_t id) {
  if (state_ == HintState::kRequested && id == id_) {
    state_ = HintState::kActive;
  } else if (state_ == HintState::kActive) {
    state_ = HintState::kExhausted;
  }
}

}  // namespace vballoon
