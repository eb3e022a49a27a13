// SPDX-License-Identifier: MIT
// The least that a user of the simulated guest does: a page taken and given back.
#include <vballoon/sim/page_allocator.h>

#include <array>

int main() {
  constexpr std::array kZones{vballoon::PageRange{.first = 0, .count = 4096}};
  vballoon::sim::PageAllocator allocator(kZones);

  const auto block = allocator.allocate(0);
  if (!block || allocator.free_pages() != 4095) return 1;
  allocator.free(*block);
  return allocator.free_pages() == 4096 ? 0 : 1;
}
