// SPDX-License-Identifier: MIT
// Guest memory for tests that care only how much of it there is.
#ifndef VBALLOON_TESTS_TEST_MEMORY_H_
#define VBALLOON_TESTS_TEST_MEMORY_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "vballoon/guest_memory.h"

namespace vballoon::testing {

// One region from address 0 on.
inline std::shared_ptr<const GuestMemory> memory_of(std::uint64_t bytes) {
  return GuestMemory::allocate(std::vector<RegionLayout>{{0, bytes}}).value();
}

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_TEST_MEMORY_H_
