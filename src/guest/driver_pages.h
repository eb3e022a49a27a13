// SPDX-License-Identifier: MIT
// Where the driver takes pages from: the guest's kernel, which may have to reclaim them first and
// which fills what is freed; or, without one, the allocator alone.
#ifndef VBALLOON_SRC_GUEST_DRIVER_PAGES_H_
#define VBALLOON_SRC_GUEST_DRIVER_PAGES_H_

#include <cstdint>
#include <optional>

#include "vballoon/sim/balloon_driver.h"
#include "vballoon/sim/compactor.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::sim {

class DriverPages {
 public:
  // The allocator must outlive this, and so must what the options name.
  DriverPages(PageAllocator& allocator, const DriverOptions& options)
      : allocator_(allocator),
        kernel_(options.kernel),
        compactor_(options.compactor),
        reserve_(options.reserve_pages) {}

  // Nobody reclaims memory for a block that is larger than a page: smaller ones do as well. A
  // driver that sends blocks because they are whole has others moved for them, though.
  [[nodiscard]] std::optional<Block> allocate_for_balloon(unsigned order, bool wants_blocks) {
    if (kernel_ == nullptr) return allocate_alone(order, wants_blocks);
    if (order == 0) return kernel_->allocate(order, AllocationEffort::kNoRetry);
    return kernel_->allocate(
        order, wants_blocks ? AllocationEffort::kCompact : AllocationEffort::kFreeOnly);
  }
  // For something in the balloon that has to go out of the way.
  [[nodiscard]] std::optional<Block> allocate_outside(PageRange avoid, unsigned order) {
    const std::uint64_t reserve = kernel_ == nullptr ? reserve_ : kernel_->watermarks().min;
    return allocator_.allocate_outside(avoid, order, reserve);
  }
  [[nodiscard]] std::optional<Block> allocate_for_driver(unsigned order) {
    return allocate(order, AllocationEffort::kFull);
  }
  [[nodiscard]] std::optional<Block> allocate_to_hint() {
    return allocate(kMaxOrder, AllocationEffort::kFreeOnly);
  }

  void free(Block block) {
    if (kernel_ == nullptr) {
      allocator_.free(block);
    } else {
      kernel_->free(block);
    }
  }
  void free_all(PageList& list) {
    while (const auto block = allocator_.pop(list)) free(*block);
  }

 private:
  [[nodiscard]] std::optional<Block> allocate(unsigned order, AllocationEffort effort) {
    return kernel_ == nullptr ? allocator_.allocate(order) : kernel_->allocate(order, effort);
  }

  [[nodiscard]] std::optional<Block> allocate_alone(unsigned order, bool wants_blocks) {
    auto block = allocator_.allocate(order, reserve_);
    if (!block && wants_blocks && compactor_ != nullptr && compactor_->make_room(order, reserve_)) {
      block = allocator_.allocate(order, reserve_);
    }
    return block;
  }

  PageAllocator& allocator_;
  GuestKernel* const kernel_;
  Compactor* const compactor_;
  const std::uint64_t reserve_;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_DRIVER_PAGES_H_
