// SPDX-License-Identifier: MIT
// Rounds of free page hints, started and stopped by clients of the control socket.
#ifndef VBALLOON_TOOLS_HINT_CONTROL_H_
#define VBALLOON_TOOLS_HINT_CONTROL_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "qmp_message.h"
#include "vballoon/balloon_device.h"

namespace vballoon::tool {

// "stopped", "requested", ...
[[nodiscard]] std::string_view to_string(HintState state);

class HintControl {
 public:
  explicit HintControl(BalloonDevice& device) : device_(device) {}

  // With `acknowledge_on_stop` the guest gets its pages back as soon as it has no more to name,
  // otherwise by stop().
  [[nodiscard]] Answer start(bool acknowledge_on_stop);
  void stop();
  // {"state", "host-cmd", "guest-cmd", "hinted-bytes"}
  [[nodiscard]] Json status() const;
  // Of the round that was started last.
  [[nodiscard]] std::uint32_t round() const { return round_; }
  [[nodiscard]] std::uint64_t hinted_bytes() const;
  // Follows the device.
  void look();

 private:
  BalloonDevice& device_;
  bool acknowledge_on_stop_ = true;
  std::uint32_t round_ = 0;
  std::uint64_t hinted_before_ = 0;
  // What the guest said last; the device says it only by its state.
  std::optional<std::uint32_t> guest_command_;
};

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_HINT_CONTROL_H_
