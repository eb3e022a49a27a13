// SPDX-License-Identifier: MIT
// Ways in which a guest's free memory comes to look as it does after some use.    room: guest
#ifndef VBALLOON_SIM_AGING_H_
#define VBALLOON_SIM_AGING_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "vballoon/export.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::sim {

enum class GuestAge : std::uint8_t {
  kIdle,        // fresh: free memory in the largest blocks
  kFragmented,  // every other page is taken, as usemem --punch-holes leaves it
  kAged,        // a seeded random mix of orders and lifetimes; from 64 MiB up, half of the memory
                // is free (at most 1/64 more) and 40 % or more of that in blocks below order 4
};

// "idle", "fragmented", "aged"; and back.
[[nodiscard]] VBALLOON_EXPORT std::string_view to_string(GuestAge age) noexcept;
[[nodiscard]] VBALLOON_EXPORT std::optional<GuestAge> parse_guest_age(
    std::string_view text) noexcept;

// Ages the free memory of `allocator`; returns the blocks that stay taken, for whoever wants to
// free them later. The same seed gives the same memory.
[[nodiscard]] VBALLOON_EXPORT PageList age_guest(PageAllocator& allocator, GuestAge age,
                                                 std::uint64_t seed);

}  // namespace vballoon::sim

#endif  // VBALLOON_SIM_AGING_H_
