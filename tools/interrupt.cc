// SPDX-License-Identifier: MIT
#include "interrupt.h"

#include <csignal>

namespace vballoon::tool {
namespace {

volatile std::sig_atomic_t caught = 0;

}  // namespace

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = [](int) { caught = 1; };
  // Without SA_RESTART, so that a guest that waits for an interrupt wakes up.
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return caught != 0; }

}  // namespace vballoon::tool
