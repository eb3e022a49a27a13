// SPDX-License-Identifier: MIT
// `vballoon serve`: a balloon device for a guest of another process, over vhost-user.
#ifndef VBALLOON_TOOLS_SERVE_COMMAND_H_
#define VBALLOON_TOOLS_SERVE_COMMAND_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "vballoon/balloon_registers.h"
#include "vballoon/features.h"

namespace vballoon::tool {

// Those that a front end of vhost-user can forward, by the names that `--features` takes.
inline constexpr std::pair<const char*, Feature> kServedFeatures[] = {
    {"must-tell-host", Feature::kMustTellHost}, {"stats-vq", Feature::kStatsVq},
    {"deflate-on-oom", Feature::kDeflateOnOom}, {"free-page-hint", Feature::kFreePageHint},
    {"page-poison", Feature::kPagePoison},      {"page-reporting", Feature::kPageReporting},
    {"indirect-desc", Feature::kIndirectDesc},  {"event-idx", Feature::kEventIdx},
    {"ring-packed", Feature::kRingPacked},      {"in-order", Feature::kInOrder},
};

struct ServeOptions {
  std::string socket;
  std::string control;  // empty: none
  // MUST_TELL_HOST is offered and not insisted on.
  Features features{Feature::kMustTellHost, Feature::kStatsVq,    Feature::kDeflateOnOom,
                    Feature::kFreePageHint, Feature::kPagePoison, Feature::kPageReporting,
                    Feature::kIndirectDesc, Feature::kEventIdx};
  std::optional<std::uint64_t> target_bytes;  // of the balloon
  bool write_behind = false;
  std::string version;  // of vballoon, for clients of the control socket
  std::string trace;    // a file that is written; empty: none
};

// Serves one front end after the other until SIGTERM or SIGINT; returns the exit code.
[[nodiscard]] int run_serve(const ServeOptions& options);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_SERVE_COMMAND_H_
