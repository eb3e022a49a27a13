// SPDX-License-Identifier: MIT
// Tells the kernel that memory will soon be used again.
#ifndef VBALLOON_SRC_MEMORY_WILL_NEED_H_
#define VBALLOON_SRC_MEMORY_WILL_NEED_H_

#include <span>

#include "vballoon/export.h"
#include "vballoon/guest_memory.h"

namespace vballoon {

// MADV_WILLNEED for each run. Only advice: what the kernel refuses is forgotten.
VBALLOON_EXPORT void advise_will_need(std::span<const HostRun> runs);

}  // namespace vballoon

#endif  // VBALLOON_SRC_MEMORY_WILL_NEED_H_
