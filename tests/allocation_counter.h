// SPDX-License-Identifier: MIT
// Counts heap allocations. Add allocation_counter.cc to a test program to use it: it replaces the
// global operator new of that program, and shows there that it does.
#ifndef VBALLOON_TESTS_ALLOCATION_COUNTER_H_
#define VBALLOON_TESTS_ALLOCATION_COUNTER_H_

#include <cstdint>

namespace vballoon::testing {

// How often the calling thread has called operator new so far.
[[nodiscard]] std::uint64_t allocations_of_this_thread() noexcept;

// How often this thread called operator new since the counter was made.
class AllocationCounter {
 public:
  AllocationCounter() : start_(allocations_of_this_thread()) {}

  [[nodiscard]] std::uint64_t count() const { return allocations_of_this_thread() - start_; }

 private:
  std::uint64_t start_;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_ALLOCATION_COUNTER_H_
