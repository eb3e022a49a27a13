// SPDX-License-Identifier: MIT
#include "interrupt.h"

#include <atomic>
#include <csignal>

namespace vballoon::tool {
namespace {

// The handler runs on whichever thread the kernel picks.
std::atomic<bool> caught{false};
static_assert(std::atomic<bool>::is_always_lock_free);

}  // namespace

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = [](int) { caught = true; };
  action.sa_flags = SA_RESETHAND;
  // Without SA_RESTART, so that a guest that waits for an interrupt wakes up.
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return caught; }

}  // namespace vballoon::tool
