// SPDX-License-Identifier: MIT
#include "hint_control.h"

#include "vballoon/balloon_registers.h"

namespace vballoon::tool {

std::string_view to_string(HintState state) {
  switch (state) {
    case HintState::kStopped:
      return "stopped";
    case HintState::kRequested:
      return "requested";
    case HintState::kActive:
      return "active";
    case HintState::kExhausted:
      return "exhausted";
    case HintState::kDone:
      return "done";
  }
  return "unknown";
}

Answer HintControl::start(bool acknowledge_on_stop) {
  const std::uint64_t hinted_before = device_.metrics().hinted_bytes;
  const auto id = device_.start_hints();
  if (!id) return refuse(kFeatureNotNegotiated, id.error().message());
  acknowledge_on_stop_ = acknowledge_on_stop;
  round_ = *id;
  hinted_before_ = hinted_before;
  guest_command_.reset();
  return Json{{"host-cmd", *id}};
}

void HintControl::stop() { device_.finish_hints(); }

Json HintControl::status() const {
  const HintStatus hints = device_.hint_status();
  return {{"state", to_string(hints.state)},
          {"host-cmd", hints.command_id},
          {"guest-cmd", guest_command_ ? Json(*guest_command_) : Json()},
          {"hinted-bytes", hinted_bytes()}};
}

std::uint64_t HintControl::hinted_bytes() const {
  return device_.metrics().hinted_bytes - hinted_before_;
}

void HintControl::look() {
  const HintStatus hints = device_.hint_status();
  if (hints.state == HintState::kActive) guest_command_ = hints.command_id;
  if (hints.state != HintState::kExhausted) return;
  guest_command_ = kHintStop;
  if (acknowledge_on_stop_) device_.finish_hints();
}

}  // namespace vballoon::tool
