// SPDX-License-Identifier: MIT
#include "target_wait.h"

#include <fmt/format.h>

#include <utility>

#include "balloon_numbers.h"

namespace vballoon::tool {

Json target_answer(const BalloonDevice& device) {
  return {{"actual-balloon-bytes", actual_bytes(device)}};
}

void TargetWait::start(const BalloonDevice& device,
                       std::optional<std::chrono::nanoseconds> deadline, AnswerLater answer) {
  if (waiter_) end(refuse(kSuperseded, "Another target is being waited for"));
  waiter_ = Waiter{device.target_pages(), deadline, std::move(answer)};
}

void TargetWait::look(const BalloonDevice& device, std::chrono::nanoseconds now) {
  if (!waiter_) return;
  if (!has_driver(device)) {
    end(refuse(kDeviceNotActive, "The guest's driver has gone"));
  } else if (device.target_pages() != waiter_->target_pages) {
    end(refuse(kSuperseded, "Another target was set"));
  } else if (device.actual_pages() == waiter_->target_pages) {
    end(target_answer(device));
  } else if (waiter_->deadline && now >= *waiter_->deadline) {
    end(refuse(kTargetNotReached, fmt::format("The balloon has {} of {} bytes",
                                              actual_bytes(device), target_bytes(device))));
  }
}

void TargetWait::end(const Answer& answer) {
  const Waiter waiter = *std::exchange(waiter_, std::nullopt);
  waiter.answer(answer);
}

}  // namespace vballoon::tool
