// SPDX-License-Identifier: MIT
// Looks at the free blocks of an order, zone by zone, each list from its head.
#ifndef VBALLOON_SRC_GUEST_FREE_BLOCK_WALK_H_
#define VBALLOON_SRC_GUEST_FREE_BLOCK_WALK_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "vballoon/sim/page_allocator.h"

namespace vballoon::sim {

// It can be left in the middle while blocks are allocated and freed: then some may be left out, and
// others met twice. A list that was gone through in one go is as it was.
class FreeBlockWalk {
 public:
  // `allocator` must outlive this.
  FreeBlockWalk(PageAllocator& allocator, unsigned order)
      : allocator_(&allocator), order_(order), left_(allocator.free_blocks(0, order)) {}

  // A block that is free now; nullopt when all have been met.
  [[nodiscard]] std::optional<Block> next() {
    for (;;) {
      const auto head = allocator_->head_of_free_list(zone_, order_);
      if (left_ != 0 && head) {
        --left_;
        allocator_->rotate_free_list(zone_, order_);
        return head->block;
      }
      if (zone_ + 1 == allocator_->zones().size()) return std::nullopt;
      ++zone_;
      left_ = allocator_->free_blocks(zone_, order_);
    }
  }

 private:
  PageAllocator* allocator_;
  unsigned order_;
  std::size_t zone_ = 0;
  std::uint64_t left_;  // of the zone's list
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_FREE_BLOCK_WALK_H_
