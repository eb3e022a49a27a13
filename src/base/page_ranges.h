// SPDX-License-Identifier: MIT
// Many page ranges, in a vector that does not zero what is about to be written.
#ifndef VBALLOON_SRC_BASE_PAGE_RANGES_H_
#define VBALLOON_SRC_BASE_PAGE_RANGES_H_

#include <memory>
#include <utility>
#include <vector>

#include "vballoon/page_range.h"

namespace vballoon {

// Leaves new elements as they are. A decoder makes room for the most ranges that could come and
// cuts off the rest; zeroing that room costs more than decoding.
template <typename T>
struct UninitializedAllocator : std::allocator<T> {
  template <typename U>
  struct rebind {
    using other = UninitializedAllocator<U>;
  };

  template <typename U>
  void construct(U*) noexcept {}
  template <typename U, typename... Args>
  void construct(U* at, Args&&... args) {
    std::construct_at(at, std::forward<Args>(args)...);
  }
};

using PageRanges = std::vector<PageRange, UninitializedAllocator<PageRange>>;

}  // namespace vballoon

#endif  // VBALLOON_SRC_BASE_PAGE_RANGES_H_
