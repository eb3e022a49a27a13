// SPDX-License-Identifier: MIT
// The guest by itself: what all other tests stand on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "real_linux/uml_guest.h"

namespace vballoon::testing {
namespace {

using ::testing::Ge;
using ::testing::Le;

class BootTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = why_no_guest_can_run()) GTEST_SKIP() << *reason;
  }

  ScratchDirectory directory_;
};

TEST_F(BootTest, GuestWithoutBalloonFillsMemoryAndPowersOff) {
  UmlGuest guest(directory_, "");
  const std::uint64_t host_before = guest.host_bytes();

  guest.hold(64);

  EXPECT_THAT(guest.host_bytes() - host_before, Ge(56 * kMib));
  EXPECT_EQ(guest.held().wrong_pages, 0U);
  EXPECT_THAT(guest.meminfo_bytes("MemTotal"), Le(UmlGuest::kMemoryBytes));
  guest.order("poweroff -f");
  EXPECT_EQ(guest.process().wait_for_end(kSoon), 0);
}

TEST_F(BootTest, GreedyProcessIsKilledAndTheGuestGoesOn) {
  UmlGuest guest(directory_, "");

  EXPECT_EQ(guest.eat(32), "survived");
  EXPECT_EQ(guest.eat(512), "killed");

  EXPECT_EQ(guest.vmstat("oom_kill"), 1U);
}

TEST_F(BootTest, RebootBringsTheAgentBack) {
  UmlGuest guest(directory_, "");
  guest.run("touch /tmp/mark");

  guest.order("reboot -f");
  guest.wait_until_ready();

  EXPECT_EQ(guest.run("ls /tmp"), "");
}

}  // namespace
}  // namespace vballoon::testing
