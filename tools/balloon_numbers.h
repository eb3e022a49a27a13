// SPDX-License-Identifier: MIT
// The two ways to say how large a balloon is: what is in it, and what it leaves to the guest.
#ifndef VBALLOON_TOOLS_BALLOON_NUMBERS_H_
#define VBALLOON_TOOLS_BALLOON_NUMBERS_H_

#include <algorithm>
#include <cstdint>

#include "vballoon/balloon_device.h"
#include "vballoon/balloon_registers.h"
#include "vballoon/page_range.h"

namespace vballoon::tool {

// Of a guest with so much memory; a balloon that is larger, as a guest may claim, leaves nothing.
[[nodiscard]] constexpr std::uint64_t memory_left(std::uint64_t ram_bytes,
                                                  std::uint64_t balloon_bytes) {
  return ram_bytes - std::min(ram_bytes, balloon_bytes);
}
// The whole pages of the balloon that leaves at least so much.
[[nodiscard]] constexpr std::uint64_t balloon_that_leaves(std::uint64_t ram_bytes,
                                                          std::uint64_t left_bytes) {
  return memory_left(ram_bytes, left_bytes) / kPageSize * kPageSize;
}

[[nodiscard]] inline std::uint64_t actual_bytes(const BalloonDevice& device) {
  return std::uint64_t{device.actual_pages()} * kPageSize;
}
[[nodiscard]] inline std::uint64_t target_bytes(const BalloonDevice& device) {
  return device.target_pages() * kPageSize;
}
[[nodiscard]] inline std::uint64_t actual_memory_left(const BalloonDevice& device) {
  return memory_left(device.memory_bytes(), actual_bytes(device));
}

// There is a guest, and its driver runs.
[[nodiscard]] inline bool has_driver(const BalloonDevice& device) {
  return device.memory_bytes() != 0 && (device.read_status() & kStatusDriverOk) != 0;
}

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_BALLOON_NUMBERS_H_
