// SPDX-License-Identifier: MIT
// A real guest follows the target, and the host gets the memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "real_linux/machine.h"
#include "real_linux/ring_kinds.h"

namespace vballoon::testing {
namespace {

using ::testing::AllOf;
using ::testing::Eq;
using ::testing::Ge;
using ::testing::Le;

class TargetTest : public RealLinuxTest, public ::testing::WithParamInterface<RingKind> {};
INSTANTIATE_TEST_SUITE_P(Rings, TargetTest, kRingKinds, name_of);

// What else the kernel does with memory meanwhile.
constexpr std::uint64_t kNoise = 8 * kMib;

TEST_P(TargetTest, MemoryMovesByTheTargetThatCtlSets) {
  Machine machine(GetParam().after("must-tell-host,stats-vq,indirect-desc"));
  UmlGuest& guest = machine.guest();
  expect_rings(guest, GetParam());
  EXPECT_EQ(guest.eat(192), "survived");  // nearly all has been touched
  const std::uint64_t total = guest.meminfo_bytes("MemTotal");
  const std::uint64_t free = guest.meminfo_bytes("MemFree");
  const std::uint64_t host = guest.host_bytes();

  machine.daemon().ctl({"set", "--balloon", "128MiB", "--wait"});

  EXPECT_EQ(machine.daemon().actual_bytes(), 128 * kMib);
  EXPECT_EQ(guest.meminfo_bytes("MemTotal"), total - 128 * kMib);
  EXPECT_THAT(free - guest.meminfo_bytes("MemFree"),
              AllOf(Ge(128 * kMib - kNoise), Le(128 * kMib + kNoise)));
  // A part of the pages had never been touched.
  EXPECT_THAT(host - guest.host_bytes(), AllOf(Ge(96 * kMib), Le(128 * kMib + kNoise)));

  machine.daemon().ctl({"set", "--balloon", "0MiB", "--wait"});

  EXPECT_EQ(machine.daemon().actual_bytes(), 0U);
  EXPECT_EQ(guest.meminfo_bytes("MemTotal"), total);
  EXPECT_EQ(guest.eat(192), "survived");
  EXPECT_THAT(guest.host_bytes(), Ge(host - kNoise));
}

TEST_F(RealLinuxTest, GuestMemoryCanBeTheTarget) {
  Machine machine("must-tell-host");

  machine.daemon().ctl({"set", "--guest-memory", "192MiB", "--wait"});

  EXPECT_EQ(machine.daemon().actual_bytes(), machine.daemon().guest_memory_bytes() - 192 * kMib);
}

TEST_F(RealLinuxTest, TargetOfTheCommandLineIsFollowedFromTheStart) {
  Machine machine("must-tell-host", {"--target", "32MiB"});

  expect_soon(
      "the balloon", [&] { return machine.daemon().actual_bytes(); }, Eq(32 * kMib));
}

// A page that moves is two messages: the guest hears of a target in the middle of their answers.
TEST_F(RealLinuxTest, TargetIsFollowedWhilePagesOfTheBalloonMove) {
  Machine machine("must-tell-host");
  machine.guest().run("while :; do echo 1 >/proc/sys/vm/compact_memory; done >/dev/null 2>&1 &");

  for (int cycle = 0; cycle < 40; ++cycle) {
    SCOPED_TRACE("cycle " + std::to_string(cycle));
    machine.resize_to(48 * kMib);
    machine.resize_to(0);
    if (HasFailure()) return;
  }

  EXPECT_GT(machine.guest().vmstat("balloon_migrate"), 0U);
}

}  // namespace
}  // namespace vballoon::testing
