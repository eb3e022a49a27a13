// SPDX-License-Identifier: MIT
#ifndef VBALLOON_TOOLS_CONTROL_OPTIONS_H_
#define VBALLOON_TOOLS_CONTROL_OPTIONS_H_

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "vballoon/clock.h"
#include "vballoon/features.h"
#include "vballoon/log.h"

namespace vballoon::tool {

// What a control socket has to know beside its device.
struct ControlOptions {
  std::string version = "0.0.0";  // of vballoon
  // Of the device, for the name of what was negotiated.
  Dialect dialect = Dialect::kStandard;
  std::optional<unsigned> dialect_bit = std::nullopt;
  Clock clock = steady_clock();
  // Since 1970.
  Clock wall_clock = [] {
    return std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch());
  };
  // A client wants the program to end. Its answer is on its way.
  std::function<void()> quit = {};
  LogSink log = {};
};

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_CONTROL_OPTIONS_H_
