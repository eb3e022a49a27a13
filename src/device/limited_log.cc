// SPDX-License-Identifier: MIT
#include "device/limited_log.h"

#include <fmt/format.h>

#include <utility>

namespace vballoon {

LimitedLog::LimitedLog(LogSink sink, Clock clock)
    : sink_(std::move(sink)), clock_(std::move(clock)), window_start_(clock_()) {}

void LimitedLog::warn(std::string_view text) {
  if (!sink_) return;
  const auto now = clock_();
  if (now - window_start_ >= std::chrono::seconds(1)) {
    window_start_ = now;
    lines_ = 0;
  }
  if (lines_ == kLinesPerSecond) {
    ++suppressed_;
    return;
  }
  ++lines_;
  if (suppressed_ != 0) {
    sink_(LogLevel::kWarning,
          fmt::format("balloon: {} ({} more messages left out)", text, suppressed_));
    suppressed_ = 0;
  } else {
    sink_(LogLevel::kWarning, fmt::format("balloon: {}", text));
  }
}

}  // namespace vballoon
