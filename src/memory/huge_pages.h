// SPDX-License-Identifier: MIT
// Transparent huge pages: what this kernel does with them.
#ifndef VBALLOON_SRC_MEMORY_HUGE_PAGES_H_
#define VBALLOON_SRC_MEMORY_HUGE_PAGES_H_

#include <cstdint>

#include "vballoon/export.h"
#include "vballoon/guest_memory.h"

namespace vballoon {

inline constexpr std::uint64_t kHugePageBytes = std::uint64_t{2} << 20;

// Whether private memory has them without asking ("always").
[[nodiscard]] bool huge_pages_unless_refused();

// MADV_COLLAPSE of memory that is as large as huge pages and aligned like them: makes them of what
// is there, and of zeros. False when the kernel did not, because nothing is there or it has none.
VBALLOON_EXPORT bool collapse(const HostRun& run);

}  // namespace vballoon

#endif  // VBALLOON_SRC_MEMORY_HUGE_PAGES_H_
