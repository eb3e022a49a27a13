// SPDX-License-Identifier: MIT
// The page allocator takes nothing from the C++ heap once it is made.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <optional>

#include "vballoon/page_range.h"
#include "vballoon/sim/aging.h"
#include "vballoon/sim/page_allocator.h"

namespace {

std::uint64_t heap_allocations = 0;

}  // namespace

// Kept out of line: where only one of the two is inlined, GCC takes them for mismatched.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++heap_allocations;
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace vballoon::sim {
namespace {

void take_and_free_every_page(PageAllocator& allocator) {
  PageList list;
  while (const std::optional<Block> block = allocator.allocate(0)) allocator.push(list, *block);
  while (const std::optional<Block> block = allocator.pop(list)) allocator.free(*block);
}

class AllocatorHeapTest : public ::testing::Test {
 protected:
  static constexpr PageRange kZones[] = {{3, 3000}, {4096, 20000}};

  PageAllocator allocator_{kZones};
};

TEST_F(AllocatorHeapTest, CounterSeesTheConstructor) {
  const std::uint64_t before = heap_allocations;

  const PageAllocator another(kZones);

  EXPECT_GT(heap_allocations, before);
}

TEST_F(AllocatorHeapTest, TakingListingAndFreeingEveryPageTakesNothing) {
  const std::uint64_t before = heap_allocations;

  take_and_free_every_page(allocator_);

  EXPECT_EQ(heap_allocations, before);
}

TEST_F(AllocatorHeapTest, AgingTakesNothing) {
  const std::uint64_t before = heap_allocations;

  const PageList taken = age_guest(allocator_, GuestAge::kAged, 1);

  EXPECT_EQ(heap_allocations, before);
  EXPECT_FALSE(taken.empty());
}

}  // namespace
}  // namespace vballoon::sim
