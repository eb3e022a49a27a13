// SPDX-License-Identifier: MIT
// What the aging of a guest took: as pages of processes and files, compaction may move it.
#ifndef VBALLOON_TOOLS_AGED_PAGES_H_
#define VBALLOON_TOOLS_AGED_PAGES_H_

#include <memory>
#include <span>
#include <vector>

#include "base/page_set.h"
#include "vballoon/guest_memory.h"
#include "vballoon/page_range.h"
#include "vballoon/sim/compactor.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::tool {

// The content of a page that is now in another one, too.
struct MovedPage {
  Pfn from = 0;
  Pfn to = 0;
};

class AgedPages final : public sim::PageMover {
 public:
  // The zones of the allocator, which must outlive this, lie in the memory.
  AgedPages(std::shared_ptr<const GuestMemory> memory, sim::PageAllocator& allocator);

  // Owns the blocks of a list, which each of its pages can leave on its own.
  void own(sim::PageList blocks);

  // Copies the page in guest memory, as a guest does.
  bool move(Pfn from, Pfn to) override;

  // Moves these pages.
  [[nodiscard]] sim::Compactor& compactor() { return compactor_; }
  // In the order in which they were made.
  [[nodiscard]] std::span<const MovedPage> moves() const { return moves_; }

 private:
  const std::shared_ptr<const GuestMemory> memory_;
  sim::PageAllocator& allocator_;
  PageSet pages_;
  std::vector<MovedPage> moves_;
  sim::Compactor compactor_{allocator_, *this};
};

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_AGED_PAGES_H_
