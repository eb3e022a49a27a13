// SPDX-License-Identifier: MIT
// The kinds of virtqueues that a real driver can be offered, for parametrized tests.
#ifndef VBALLOON_TESTS_REAL_LINUX_RING_KINDS_H_
#define VBALLOON_TESTS_REAL_LINUX_RING_KINDS_H_

#include <gtest/gtest.h>

#include <ostream>
#include <string>

#include "real_linux/uml_guest.h"
#include "vballoon/features.h"

namespace vballoon::testing {

struct RingKind {
  const char* name;
  bool packed;
  bool event_idx;

  // With these at the end of a list of features.
  [[nodiscard]] std::string after(const std::string& features) const {
    return features + (packed ? ",ring-packed" : "") + (event_idx ? ",event-idx" : "");
  }
};

// The name of a test says it already.
inline void PrintTo(const RingKind& kind, std::ostream* out) { *out << kind.name; }

inline const auto kRingKinds =
    ::testing::Values(RingKind{"Split", false, false}, RingKind{"SplitEventIdx", false, true},
                      RingKind{"Packed", true, false}, RingKind{"PackedEventIdx", true, true});

// Where a test has little to do with rings: the plainest and the newest.
inline const auto kTwoRingKinds =
    ::testing::Values(RingKind{"Split", false, false}, RingKind{"PackedEventIdx", true, true});

inline std::string name_of(const ::testing::TestParamInfo<RingKind>& info) {
  return info.param.name;
}

// The guest's driver took what was offered, and nothing that was not.
inline void expect_rings(UmlGuest& guest, const RingKind& kind) {
  EXPECT_EQ(guest.has_feature(Feature::kRingPacked), kind.packed);
  EXPECT_EQ(guest.has_feature(Feature::kEventIdx), kind.event_idx);
}

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_REAL_LINUX_RING_KINDS_H_
