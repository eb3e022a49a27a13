// SPDX-License-Identifier: MIT
#include "memory/will_need.h"

#include <sys/mman.h>

namespace vballoon {

void advise_will_need(std::span<const HostRun> runs) {
  for (const HostRun& run : runs) ::madvise(run.address, run.length, MADV_WILLNEED);
}

}  // namespace vballoon
