// SPDX-License-Identifier: MIT
#include "aged_pages.h"

#include <cstring>
#include <utility>

namespace vballoon::tool {

AgedPages::AgedPages(std::shared_ptr<const GuestMemory> memory, sim::PageAllocator& allocator)
    : memory_(std::move(memory)), allocator_(allocator), pages_(allocator.zones().back().end()) {}

void AgedPages::own(sim::PageList blocks) {
  while (const auto block = allocator_.pop(blocks)) pages_.add(block->pages());
}

bool AgedPages::move(Pfn from, Pfn to) {
  if (!pages_.contains(from)) return false;
  std::memcpy(memory_->host(to << kPageShift, kPageSize),
              memory_->host(from << kPageShift, kPageSize), kPageSize);
  pages_.remove({from, 1});
  pages_.add(to);
  moves_.push_back({from, to});
  return true;
}

}  // namespace vballoon::tool
