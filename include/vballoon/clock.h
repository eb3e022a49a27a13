// SPDX-License-Identifier: MIT
// Time, injected so that tests need not wait for it.                              room: base
#ifndef VBALLOON_CLOCK_H_
#define VBALLOON_CLOCK_H_

#include <chrono>
#include <functional>

namespace vballoon {

// Time since some fixed point; never goes backwards. May be called from any thread.
using Clock = std::function<std::chrono::nanoseconds()>;

// The clock of the machine.
[[nodiscard]] inline Clock steady_clock() {
  return
      [] { return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()); };
}

}  // namespace vballoon

#endif  // VBALLOON_CLOCK_H_
