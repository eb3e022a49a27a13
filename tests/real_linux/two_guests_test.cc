// SPDX-License-Identifier: MIT
// Two real guests with a daemon each, at once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "real_linux/machine.h"

namespace vballoon::testing {
namespace {

TEST_F(RealLinuxTest, TwoGuestsAtOnceDoNotDisturbEachOther) {
  constexpr char kFeatures[] = "must-tell-host,stats-vq,page-reporting,indirect-desc";
  Machine left(std::string(kFeatures) + ",event-idx");
  Machine right(std::string(kFeatures) + ",ring-packed");
  left.guest().hold(64);
  right.guest().hold(64);

  left.daemon().set_target(96 * kMib);
  right.resize_to(64 * kMib);
  left.resize_to(96 * kMib);
  right.resize_to(16 * kMib);

  EXPECT_EQ(left.daemon().actual_bytes(), 96 * kMib);
  EXPECT_EQ(left.guest().held().wrong_pages, 0U);
  EXPECT_EQ(right.guest().held().wrong_pages, 0U);
}

}  // namespace
}  // namespace vballoon::testing
