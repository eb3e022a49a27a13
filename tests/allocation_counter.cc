// SPDX-License-Identifier: MIT
#include "allocation_counter.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace {

thread_local std::uint64_t allocations = 0;

void* counted(std::size_t bytes, std::size_t alignment) {
  ++allocations;
  // aligned_alloc wants a multiple of the alignment, and malloc may answer nullptr to 0 bytes.
  const std::size_t rounded = (bytes + alignment) / alignment * alignment;
  void* const memory = std::aligned_alloc(alignment, rounded);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

// The array and the nothrow forms of the standard library call these. A compiler that sees through
// them finds free() called on what operator new returned, and warns.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  return counted(bytes, __STDCPP_DEFAULT_NEW_ALIGNMENT__);
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace vballoon::testing {

std::uint64_t allocations_of_this_thread() noexcept { return allocations; }

namespace {

TEST(AllocationCounterTest, CounterSeesAllocations) {
  const AllocationCounter counter;

  const auto number = std::make_unique<int>(1);

  EXPECT_EQ(counter.count(), 1u);
}

}  // namespace
}  // namespace vballoon::testing
