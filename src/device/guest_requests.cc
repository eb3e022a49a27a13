// SPDX-License-Identifier: MIT
#include "device/guest_requests.h"

#include <utility>

namespace vballoon {

std::optional<GuestRequest> GuestRequests::next_request(const HintRound& hints) const {
  const auto number = [](RequestCommand command) { return static_cast<std::uint16_t>(command); };
  if (hints.state() == HintState::kRequested) {
    return GuestRequest{number(RequestCommand::kUnusedPages), hints.last_id()};
  }
  if (drop_wanted_ && !drop_asked_) {
    return GuestRequest{number(RequestCommand::kDropCache),
                        static_cast<std::uint64_t>(*drop_wanted_)};
  }
  return std::nullopt;
}

void GuestRequests::sent(const GuestRequest& request, HintRound& hints) {
  if (request.command == static_cast<std::uint16_t>(RequestCommand::kUnusedPages)) {
    hints.begun();
  } else {
    drop_asked_ = std::exchange(drop_wanted_, std::nullopt);
  }
}

std::optional<ControlCommand> GuestRequests::next_command(const HintRound& hints) const {
  if (told_stop_) return std::nullopt;
  if (walking_ && !hints.active()) return ControlCommand::kStop;
  if (!walking_ && hints.state() == HintState::kRequested) return ControlCommand::kStart;
  return std::nullopt;
}

void GuestRequests::sent(ControlCommand command, HintRound& hints) {
  if (command == ControlCommand::kStop) {
    told_stop_ = true;
    return;
  }
  walking_ = true;
  all_named_ = false;
  hints.begun();
}

void GuestRequests::buffer_posted() {
  if (std::exchange(told_stop_, false)) walking_ = false;
}

void GuestRequests::walk_ended() {
  walking_ = false;
  all_named_ = true;
}

}  // namespace vballoon
