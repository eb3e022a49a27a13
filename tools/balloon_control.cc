// SPDX-License-Identifier: MIT
#include "balloon_control.h"

#include <algorithm>
#include <utility>

namespace vballoon::tool {

BalloonControl::BalloonControl(BalloonDevice& device, ControlOptions options)
    : device_(device), options_(std::move(options)), hints_(device), events_(device, hints_) {
  commands_.push_back({.name = "qmp_capabilities", .parameters = {}, .run = {}});
  add_qemu_commands();
  add_native_commands();
}

void BalloonControl::look(const std::function<void(std::string_view)>& send_event) {
  const auto now = options_.clock();
  events_.look(now, [&](std::string_view name, const Json& data) {
    send_event(event_line(name, data, options_.wall_clock()));
  });
  hints_.look();
  wait_.look(device_, now);
  next_tick_ = device_.tick();
}

std::optional<std::chrono::nanoseconds> BalloonControl::next_time() const {
  std::optional<std::chrono::nanoseconds> next;
  for (const auto& time : {events_.next_time(), wait_.deadline(), next_tick_}) {
    if (time) next = std::min(next.value_or(*time), *time);
  }
  return next;
}

}  // namespace vballoon::tool
