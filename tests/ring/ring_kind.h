// SPDX-License-Identifier: MIT
// The parameter of tests that say the same of both rings.
#ifndef VBALLOON_TESTS_RING_RING_KIND_H_
#define VBALLOON_TESTS_RING_RING_KIND_H_

#include <gtest/gtest.h>

#include <cstdint>

#include "ring/raw_packed_ring.h"
#include "ring/raw_ring.h"
#include "vballoon/device_queue.h"

namespace vballoon::testing {

enum class RingKind { kSplit, kPacked };

inline constexpr auto ring_name = [](const ::testing::TestParamInfo<RingKind>& suite) {
  return suite.param == RingKind::kPacked ? "Packed" : "Split";
};

inline QueueConfig raw_config(RingKind kind, std::uint16_t size) {
  return kind == RingKind::kPacked ? raw_packed_config(size) : raw_config(size);
}

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_RING_RING_KIND_H_
