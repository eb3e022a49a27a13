// SPDX-License-Identifier: MIT
// The simulated guest of a row: freshly mapped memory, its allocator, its age.
#ifndef VBALLOON_TOOLS_GUEST_SET_UP_H_
#define VBALLOON_TOOLS_GUEST_SET_UP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "compare_options.h"
#include "machine_facts.h"
#include "vballoon/guest_memory.h"
#include "vballoon/result.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::tool {

// What a busy virtual processor works on.
inline constexpr std::uint64_t kBusyBytes = 16 * kMiB;

// Two regions, as a PC has them: the lower at 0, up to 3 GiB, the upper at 4 GiB.
[[nodiscard]] std::vector<RegionLayout> pc_layout(std::uint64_t bytes);

// An allocator over the guest's memory as at boot; the blocks of a busy virtual processor are taken
// first and lie outside everything else.
struct GuestPages {
  std::unique_ptr<sim::PageAllocator> allocator;
  std::vector<sim::Block> busy_blocks;
};
[[nodiscard]] Result<GuestPages> make_guest_pages(const CompareOptions& options,
                                                  std::uint64_t guest_memory);

// Lets the guest's memory come to look as after some use; returns what stays taken. A driver finds
// the contiguous pages for its rings before that, at boot.
sim::PageList age(const CompareOptions& options, sim::PageAllocator& allocator);

// How much of the guest's memory can be inflated, and what is by default. Makes an allocator of
// the same kind to find out. Fails with kInvalidArgument when the machine has less than the guest
// was asked to have, with kTargetTooLarge, naming the maximum, when the guest cannot give what was
// asked, and with kNotSupported when the machine has not even what the smallest guest needs.
[[nodiscard]] Result<ComparePlan> make_plan(const CompareOptions& options,
                                            const MachineFacts& machine);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_GUEST_SET_UP_H_
