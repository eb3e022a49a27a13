// SPDX-License-Identifier: MIT
// `vballoon ctl`: controls and observes a balloon over its control socket.
#ifndef VBALLOON_TOOLS_CTL_COMMAND_H_
#define VBALLOON_TOOLS_CTL_COMMAND_H_

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

namespace vballoon::tool {

enum class CtlVerb : std::uint8_t {
  kStatus,
  kSet,
  kBalloon,
  kQueryBalloon,
  kStats,
  kPeriod,
  kHintingStart,
  kHintingStatus,
  kHintingStop,
  kEvents,
  kMetrics,
  kQmp,
};

struct CtlOptions {
  std::string control = {};  // the path of the socket
  CtlVerb verb = CtlVerb::kStatus;
  bool json = false;

  // Of `set`: one of the two; of `balloon`: the second.
  std::optional<std::uint64_t> balloon_bytes = std::nullopt;
  std::optional<std::uint64_t> guest_memory_bytes = std::nullopt;
  bool wait = false;
  std::optional<std::chrono::milliseconds> timeout = std::nullopt;  // of the wait; unset: for ever

  std::optional<std::chrono::milliseconds> watch = std::nullopt;  // of `stats`: again and again
  std::chrono::milliseconds period{0};
  std::string request = {};  // of `qmp`: a JSON object

  std::chrono::milliseconds reply_timeout{5000};
};

// Prints what came of it into `out` and what went wrong on stderr; returns the exit code.
[[nodiscard]] int run_ctl(const CtlOptions& options, std::FILE* out);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_CTL_COMMAND_H_
