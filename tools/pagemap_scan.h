// SPDX-License-Identifier: MIT
// The kernel's PAGEMAP_SCAN (Linux 6.7), which the headers of Debian 12 do not have.
#ifndef VBALLOON_TOOLS_PAGEMAP_SCAN_H_
#define VBALLOON_TOOLS_PAGEMAP_SCAN_H_

#include <linux/ioctl.h>

#include <cstddef>
#include <cstdint>

namespace vballoon::tool {

struct ScannedRange {
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t categories;
};
struct ScanRequest {
  std::uint64_t size = 0;
  std::uint64_t flags = 0;
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::uint64_t walk_end = 0;  // filled in: how far it came
  std::uint64_t ranges = 0;
  std::uint64_t ranges_room = 0;
  std::uint64_t max_pages = 0;
  std::uint64_t category_inverted = 0;
  std::uint64_t category_mask = 0;
  std::uint64_t category_anyof_mask = 0;
  std::uint64_t return_mask = 0;
};
inline constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanRequest);

// Flags: what is found is protected in the same step; other memory than that of a userfaultfd with
// asynchronous write protection is an error.
inline constexpr std::uint64_t kScanProtectMatching = 1 << 0;
inline constexpr std::uint64_t kScanCheckAsync = 1 << 1;

// Categories.
inline constexpr std::uint64_t kPageIsWritten = 1 << 1;
inline constexpr std::uint64_t kPageIsHuge = 1 << 6;

[[nodiscard]] inline std::uint64_t address_of(const std::byte* host) {
  return reinterpret_cast<std::uintptr_t>(host);
}

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_PAGEMAP_SCAN_H_
