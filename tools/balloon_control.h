// SPDX-License-Identifier: MIT
// What clients may do with a balloon device and what they are told of it, whoever they are and
// however they are connected.
#ifndef VBALLOON_TOOLS_BALLOON_CONTROL_H_
#define VBALLOON_TOOLS_BALLOON_CONTROL_H_

#include <chrono>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "balloon_events.h"
#include "control_options.h"
#include "hint_control.h"
#include "qmp_command.h"
#include "target_wait.h"
#include "vballoon/balloon_device.h"

namespace vballoon::tool {

class BalloonControl {
 public:
  // `device` outlives this.
  BalloonControl(BalloonDevice& device, ControlOptions options);
  BalloonControl(const BalloonControl&) = delete;
  BalloonControl& operator=(const BalloonControl&) = delete;

  [[nodiscard]] std::span<const QmpCommand> commands() const { return commands_; }
  // Sees what commands, the guest and time have changed: ends waits, asks for statistics
  // (BalloonDevice::tick()), and hands lines with events over.
  void look(const std::function<void(std::string_view line)>& send_event);
  // When look() has something to do by time alone; a time of the clock.
  [[nodiscard]] std::optional<std::chrono::nanoseconds> next_time() const;
  // Some client has asked the program to end.
  [[nodiscard]] bool quit_wanted() const { return quit_wanted_; }

 private:
  void add_qemu_commands();
  void add_native_commands();

  [[nodiscard]] Answer set_memory_left(const Arguments& arguments);
  [[nodiscard]] Answer qom_get(const Arguments& arguments) const;
  [[nodiscard]] Answer qom_set(const Arguments& arguments);
  [[nodiscard]] Json guest_stats() const;
  [[nodiscard]] Json query() const;
  [[nodiscard]] std::optional<Answer> set_target(const Arguments& arguments,
                                                 const AnswerLater& later);
  [[nodiscard]] Answer stats() const;

  BalloonDevice& device_;
  ControlOptions options_;
  HintControl hints_;
  BalloonEvents events_;
  TargetWait wait_;
  std::vector<QmpCommand> commands_;
  std::optional<std::chrono::nanoseconds> next_tick_;
  bool quit_wanted_ = false;
};

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_BALLOON_CONTROL_H_
