// SPDX-License-Identifier: MIT
// What one descriptor names: a piece of guest-physical memory.                    room: base
#ifndef VBALLOON_GUEST_BUFFER_H_
#define VBALLOON_GUEST_BUFFER_H_

#include <cstdint>

namespace vballoon {

// As the driver wrote it; not checked against guest memory.
struct GuestBuffer {
  std::uint64_t address = 0;
  std::uint32_t length = 0;  // bytes

  friend constexpr bool operator==(const GuestBuffer&, const GuestBuffer&) = default;
};

}  // namespace vballoon

#endif  // VBALLOON_GUEST_BUFFER_H_
