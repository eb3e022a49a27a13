// SPDX-License-Identifier: MIT
// Looks at every free block of an order, zone by zone, from the heads of the lists.
#ifndef VBALLOON_SRC_GUEST_FREE_BLOCK_WALK_H_
#define VBALLOON_SRC_GUEST_FREE_BLOCK_WALK_H_

#include <cstddef>
#include <cstdint>

#include "vballoon/sim/page_allocator.h"

namespace vballoon::sim {

// Calls visit(block), which must leave the allocator alone. A list that was turned once is as it
// was.
template <typename Visit>
void visit_free_blocks(PageAllocator& allocator, unsigned order, Visit visit) {
  for (std::size_t zone = 0; zone < allocator.zones().size(); ++zone) {
    for (std::uint64_t left = allocator.free_blocks(zone, order); left != 0; --left) {
      visit(allocator.head_of_free_list(zone, order)->block);
      allocator.rotate_free_list(zone, order);
    }
  }
}

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_FREE_BLOCK_WALK_H_
