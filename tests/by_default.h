// SPDX-License-Identifier: MIT
// Which ring a test has that does not say, and how its driver reaches the device. ctest runs such
// tests again with the others: see the CMakeLists.txt beside them.
#ifndef VBALLOON_TESTS_BY_DEFAULT_H_
#define VBALLOON_TESTS_BY_DEFAULT_H_

#include <cstdlib>

namespace vballoon::testing {

inline bool packed_by_default() { return std::getenv("VBALLOON_TEST_PACKED_RINGS") != nullptr; }

// Through nothing but the registers of virtio-mmio; otherwise by call.
inline bool mmio_by_default() { return std::getenv("VBALLOON_TEST_MMIO") != nullptr; }

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_BY_DEFAULT_H_
