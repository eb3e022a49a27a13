// SPDX-License-Identifier: MIT
// The mappings that a GuestMemory owns.
#ifndef VBALLOON_SRC_MEMORY_MAPPING_H_
#define VBALLOON_SRC_MEMORY_MAPPING_H_

#include <cstdint>
#include <string>

#include "vballoon/guest_memory.h"
#include "vballoon/result.h"

namespace vballoon {

// The granule in which the kernel gives out, and takes back, memory of this backing.
[[nodiscard]] std::uint64_t host_page_bytes(Backing backing);

// Maps one region, aligned to 2 MiB so that huge pages fit. Requires a layout that is aligned to
// the host page size and ends below 2^63. Sets all but first_page_index. Fails with kMapFailed,
// or with kNotSupported when transparent huge pages were asked for and this kernel has none.
[[nodiscard]] Result<MemoryRegion> map_region(const RegionLayout& layout,
                                              const AllocateOptions& options);

// Undoes map_region().
void unmap_region(const MemoryRegion& region) noexcept;

// "3 GiB", "1536 MiB", "4 KiB", "100 bytes": exact, in the largest unit that is.
[[nodiscard]] std::string format_bytes(std::uint64_t bytes);

}  // namespace vballoon

#endif  // VBALLOON_SRC_MEMORY_MAPPING_H_
