// SPDX-License-Identifier: MIT
// Which events follow from what has changed in a device.
//
// Each kind is sent at most once a second; what happens meanwhile is sent when the second is over,
// as it is then. So a guest cannot make clients read without end.
#ifndef VBALLOON_TOOLS_BALLOON_EVENTS_H_
#define VBALLOON_TOOLS_BALLOON_EVENTS_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "hint_control.h"
#include "qmp_message.h"
#include "vballoon/balloon_device.h"
#include "vballoon/clock.h"
#include "vballoon/error.h"

namespace vballoon::tool {

class BalloonEvents {
 public:
  static constexpr std::chrono::seconds kInterval{1};

  using Send = std::function<void(std::string_view name, const Json& data)>;

  // What is so when this is made is not news.
  BalloonEvents(const BalloonDevice& device, const HintControl& hints);

  // Looks what has changed since the last call, and sends what is due.
  void look(std::chrono::nanoseconds now, const Send& send);
  // When look() has something to send by time alone.
  [[nodiscard]] std::optional<std::chrono::nanoseconds> next_time() const;

 private:
  enum Kind : std::size_t {
    kBalloonChange,
    kTargetReached,
    kStats,
    kGuestError,
    kHintingDone,
    kNeedsReset,
    kKinds
  };
  // Of one kind.
  struct Limit {
    bool wanted = false;
    std::optional<std::chrono::nanoseconds> sent;
    [[nodiscard]] std::chrono::nanoseconds due() const {
      return sent ? *sent + kInterval : std::chrono::nanoseconds::min();
    }
  };
  // By reason, of queues by QueueUse and of registers.
  using Errors = std::array<std::array<std::uint64_t, kErrcCount>, kQueueUseCount + 1>;
  [[nodiscard]] static Errors errors_of(const BalloonMetrics& metrics);

  // What look() compares.
  struct Seen {
    std::uint32_t actual_pages = 0;
    bool target_reached = false;
    std::optional<std::chrono::nanoseconds> stats_received;
    Errors errors{};
    HintState hints = HintState::kStopped;
    bool needs_reset = false;
  };

  [[nodiscard]] Seen see() const;
  void notice(const Seen& now);
  void send_kind(Kind kind, const Send& send);
  void send_errors(const Send& send);

  const BalloonDevice& device_;
  const HintControl& hints_;
  Seen seen_;
  Errors errors_sent_;
  std::array<Limit, kKinds> limits_;
};

// "page-outside-guest-memory": the reason of an error as a word.
[[nodiscard]] std::string reason_word(Errc code);
// {"free-memory-bytes": 844943360, "major-faults": 235}: what the guest has sent.
[[nodiscard]] Json stats_json(const std::optional<BalloonStats>& stats);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_BALLOON_EVENTS_H_
