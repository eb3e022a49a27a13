// SPDX-License-Identifier: MIT
// The guest kernel under any load: no page is lost, used twice, or holds what it should not.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "base/page_ranges.h"
#include "vballoon/guest_memory.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/sim/memory_statistics.h"
#include "vballoon/sim/page_allocator.h"
#include "vballoon/sim/page_poison.h"

namespace vballoon::sim {
namespace {

constexpr std::uint64_t kPages = 1024;

// A guest whose swap holds a quarter of it, and what runs there.
struct Guest {
  std::shared_ptr<const GuestMemory> memory =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, kPages << kPageShift}}).value();
  PagePoison poison{memory, kPagePoisonByte};
  PageAllocator allocator{PageRanges{{0, kPages}}};
  GuestKernel kernel{allocator, {.swap_pages = kPages / 4, .memory = memory, .poison = &poison}};
  std::vector<ProcessId> processes;

  // Pages that somebody has or that are free.
  [[nodiscard]] std::uint64_t accounted_pages() const {
    const MemoryStatistics s = kernel.statistics();
    std::uint64_t pages = (s[MemoryStatistic::kFreeMemory] + s[MemoryStatistic::kCaches]) >> 12;
    for (const ProcessId process : processes) pages += kernel.resident_pages(process);
    return pages;
  }
  [[nodiscard]] ProcessId any_process() {
    if (processes.empty() || *rc::gen::inRange(0, 6) == 0) {
      processes.push_back(kernel.start_process());
    }
    return *rc::gen::elementOf(processes);
  }
};

void do_anything(Guest& guest) {
  const auto first = *rc::gen::inRange<std::uint32_t>(0, 600);
  const auto count = *rc::gen::inRange<std::uint32_t>(1, 300);
  const auto file = *rc::gen::inRange<FileId>(0, 3);
  switch (*rc::gen::inRange(0, 8)) {
    case 0:
    case 1:
      (void)guest.kernel.touch(guest.any_process(), first, count);
      break;
    case 2:
      guest.kernel.unmap(guest.any_process(), first, count);
      break;
    case 3:
      (void)guest.kernel.read_file(file, first, count);
      break;
    case 4:
      (void)guest.kernel.write_file(file, first, count);
      break;
    case 5:
      (void)guest.kernel.sync();
      break;
    case 6:
      (void)guest.kernel.run_kswapd();
      break;
    default:
      if (count < 30) guest.kernel.exit(guest.any_process());
  }
}

RC_GTEST_PROP(GuestKernelProperty, AccountsForEveryPageAndKeepsItsContents, ()) {
  Guest guest;
  guest.poison.fill_free_pages(guest.allocator);

  const int steps = *rc::gen::inRange(0, 60);
  for (int step = 0; step < steps; ++step) {
    do_anything(guest);
    RC_ASSERT(guest.accounted_pages() == kPages);
  }

  RC_ASSERT(guest.kernel.damaged_pages() == 0u);
  RC_ASSERT(guest.poison.violations() == 0u);
  for (const ProcessId process : guest.processes) guest.kernel.exit(process);
  RC_ASSERT(guest.accounted_pages() == kPages);
}

}  // namespace
}  // namespace vballoon::sim
