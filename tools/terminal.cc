// SPDX-License-Identifier: MIT
#include "terminal.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string_view>

namespace vballoon::tool {
namespace {

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

}  // namespace

bool stderr_is_terminal() { return ::isatty(STDERR_FILENO) == 1; }

bool colour_wanted() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return (no_color == nullptr || *no_color == '\0') && term != nullptr &&
         std::string_view(term) != "dumb";
}

LogSink terminal_log() {
  const auto mode = colour_wanted() ? spdlog::color_mode::automatic : spdlog::color_mode::never;
  const auto logger = std::make_shared<spdlog::logger>(
      "vballoon", std::make_shared<spdlog::sinks::stderr_color_sink_mt>(mode));
  // The first part takes the progress line away; it is drawn again soon.
  logger->set_pattern(stderr_is_terminal() ? "\r\x1b[K%^%l%$: %v" : "%l: %v");
  return [logger](LogLevel level, std::string_view text) { logger->log(level_of(level), text); };
}

}  // namespace vballoon::tool
