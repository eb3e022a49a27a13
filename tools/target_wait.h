// SPDX-License-Identifier: MIT
// A client that waits until the balloon is as large as it asked for. There is one at most: whoever
// sets another target takes the place of the one before.
#ifndef VBALLOON_TOOLS_TARGET_WAIT_H_
#define VBALLOON_TOOLS_TARGET_WAIT_H_

#include <chrono>
#include <cstdint>
#include <optional>

#include "qmp_command.h"
#include "vballoon/balloon_device.h"

namespace vballoon::tool {

// What a client that set a target is told.
[[nodiscard]] Json target_answer(const BalloonDevice& device);

class TargetWait {
 public:
  // Waits for the device's target, up to a time of its clock if one is given. Ends the wait there
  // was.
  void start(const BalloonDevice& device, std::optional<std::chrono::nanoseconds> deadline,
             AnswerLater answer);
  // Answers if there is something to say.
  void look(const BalloonDevice& device, std::chrono::nanoseconds now);
  // When look() has something to do by time alone.
  [[nodiscard]] std::optional<std::chrono::nanoseconds> deadline() const {
    return waiter_ ? waiter_->deadline : std::nullopt;
  }

 private:
  struct Waiter {
    std::uint64_t target_pages;
    std::optional<std::chrono::nanoseconds> deadline;
    AnswerLater answer;
  };

  void end(const Answer& answer);

  std::optional<Waiter> waiter_;
};

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_TARGET_WAIT_H_
