// SPDX-License-Identifier: MIT
// A real guest that runs out of memory while it has pages in the balloon.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "real_linux/machine.h"

namespace vballoon::testing {
namespace {

class OomTest : public RealLinuxTest {};

TEST_F(OomTest, GreedyProcessSurvivesWithDeflateOnOom) {
  Machine machine("must-tell-host,deflate-on-oom");
  machine.resize_to(128 * kMib);

  EXPECT_EQ(machine.guest().eat(160), "survived");

  EXPECT_EQ(machine.guest().vmstat("oom_kill"), 0U);
  EXPECT_LE(machine.daemon().actual_bytes(), 96 * kMib);
}

TEST_F(OomTest, GreedyProcessIsKilledWithoutIt) {
  Machine machine("must-tell-host");
  machine.resize_to(128 * kMib);

  EXPECT_EQ(machine.guest().eat(160), "killed");

  EXPECT_EQ(machine.guest().vmstat("oom_kill"), 1U);
  EXPECT_EQ(machine.daemon().actual_bytes(), 128 * kMib);
}

}  // namespace
}  // namespace vballoon::testing
