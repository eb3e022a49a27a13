// SPDX-License-Identifier: MIT
// What the threads of a machine have in common.
#ifndef VBALLOON_SRC_VM_OWN_THREAD_H_
#define VBALLOON_SRC_VM_OWN_THREAD_H_

#include <chrono>

namespace vballoon::sim {

// Leaves all signals to the guest's thread, which can stop at any step.
void block_signals();

// System time of the calling thread.
[[nodiscard]] std::chrono::nanoseconds thread_system_time();

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_VM_OWN_THREAD_H_
