// SPDX-License-Identifier: MIT
#include "vballoon/sim/page_poison.h"

#include <utility>

#include "guest/page_contents.h"

namespace vballoon::sim {

PagePoison::PagePoison(std::shared_ptr<const GuestMemory> memory, std::uint8_t byte)
    : memory_(std::move(memory)), byte_(byte) {}

void PagePoison::fill(PageRange freed) const {
  for (Pfn pfn = freed.first; pfn < freed.end(); ++pfn) {
    fill_page(*memory_, pfn, word_of_byte(byte_));
  }
}

void PagePoison::fill_free_pages(const PageAllocator& allocator) const {
  for (const PageRange& zone : allocator.zones()) {
    for (Pfn pfn = zone.first; pfn < zone.end(); ++pfn) {
      if (allocator.is_free(pfn)) fill({pfn, 1});
    }
  }
}

void PagePoison::check(PageRange allocated) {
  for (Pfn pfn = allocated.first; pfn < allocated.end(); ++pfn) {
    if (page_holds(*memory_, pfn, word_of_byte(byte_))) continue;
    ++violations_;
    last_violation_ = pfn;
  }
}

}  // namespace vballoon::sim
