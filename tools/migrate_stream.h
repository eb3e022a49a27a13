// SPDX-License-Identifier: MIT
// What a migration sends from one process to another of the same program.
//
// A stream is frames of pages, as many as it takes, and one of the device, which ends it. The
// destination answers once, when it has everything.
#ifndef VBALLOON_TOOLS_MIGRATE_STREAM_H_
#define VBALLOON_TOOLS_MIGRATE_STREAM_H_

#include <cstdint>

#include "base/page_set.h"
#include "vballoon/balloon_device.h"
#include "vballoon/guest_memory.h"

namespace vballoon::tool {

enum class FrameKind : std::uint64_t {
  kPages = 1,   // `count` pages from `first` on follow
  kDevice = 2,  // `count` bytes of a saved device follow
};

struct Frame {
  FrameKind kind = FrameKind::kPages;
  Pfn first = 0;
  std::uint64_t count = 0;
};

// Pages in one frame, at the most.
inline constexpr std::uint64_t kMostFramePages = 64;

// The answer; the words of the set of pages that the restored device has in its balloon follow.
struct Answer {
  std::uint64_t pages = 0;     // that arrived, each as often as it did
  std::uint64_t restored = 0;  // 1: the device goes on there
};

// By dense index.
[[nodiscard]] inline PageSet ballooned_pages_of(const BalloonDevice& device,
                                                const GuestMemory& memory) {
  PageSet ballooned(memory.page_count());
  for (const MemoryRegion& region : memory.regions()) {
    const PageRange pages = region.pages();
    for (Pfn pfn = pages.first; pfn < pages.end(); ++pfn) {
      if (device.is_ballooned(pfn)) ballooned.add(region.first_page_index + (pfn - pages.first));
    }
  }
  return ballooned;
}

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_MIGRATE_STREAM_H_
