// SPDX-License-Identifier: MIT
// Says what went wrong, at a rate that no guest can raise.
#ifndef VBALLOON_SRC_DEVICE_LIMITED_LOG_H_
#define VBALLOON_SRC_DEVICE_LIMITED_LOG_H_

#include <chrono>
#include <cstdint>
#include <string_view>

#include "vballoon/clock.h"
#include "vballoon/log.h"

namespace vballoon {

class LimitedLog {
 public:
  static constexpr std::uint64_t kLinesPerSecond = 4;

  LimitedLog(LogSink sink, Clock clock);

  void warn(std::string_view text);

 private:
  LogSink sink_;
  Clock clock_;
  std::chrono::nanoseconds window_start_{0};
  std::uint64_t lines_ = 0;       // said in this window
  std::uint64_t suppressed_ = 0;  // not said since the last line
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_DEVICE_LIMITED_LOG_H_
