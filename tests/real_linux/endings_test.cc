// SPDX-License-Identifier: MIT
// One of the two goes away: a real guest, its driver, or the daemon.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>

#include "real_linux/machine.h"
#include "real_linux/ring_kinds.h"

namespace vballoon::testing {
namespace {

using ::testing::Eq;
using ::testing::Gt;
using ::testing::IsFalse;
using ::testing::IsTrue;

constexpr char kFeatures[] =
    "must-tell-host,stats-vq,deflate-on-oom,free-page-hint,page-reporting,indirect-desc";

class EndingsTest : public RealLinuxTest, public ::testing::WithParamInterface<RingKind> {
 protected:
  // The daemon goes on: it serves another guest, which finds the same target.
  static void expect_next_guest_is_served(Daemon& daemon, std::uint64_t target) {
    expect_soon(
        "a guest", [&] { return daemon.has_guest(); }, IsFalse());
    const ScratchDirectory directory;
    UmlGuest guest(directory, daemon.socket());
    expect_soon(
        "the next guest's balloon", [&] { return guest.vmstat("balloon_inflate"); },
        Eq(target / 4096));
    expect_soon(
        "what the daemon knows of it", [&] { return daemon.actual_bytes(); }, Eq(target));
  }
};
INSTANTIATE_TEST_SUITE_P(Rings, EndingsTest, kRingKinds, name_of);

TEST_P(EndingsTest, GuestPowersOffAndTheNextOneIsServed) {
  Machine machine(GetParam().after(kFeatures));
  machine.resize_to(64 * kMib);

  machine.guest().order("poweroff -f");

  EXPECT_EQ(machine.guest().process().wait_for_end(kSoon), 0);
  expect_next_guest_is_served(machine.daemon(), 64 * kMib);
}

TEST_P(EndingsTest, GuestIsKilledInMidInflateAndTheNextOneIsServed) {
  Machine machine(GetParam().after(kFeatures));
  machine.daemon().set_target(128 * kMib);
  ASSERT_TRUE(soon([&] { return machine.daemon().actual_bytes() != 0; }));

  machine.guest().process().kill();

  EXPECT_LT(machine.daemon().actual_bytes(), 128 * kMib);
  expect_next_guest_is_served(machine.daemon(), 128 * kMib);
}

TEST_P(EndingsTest, GuestRebootsAndFollowsTheSameTarget) {
  Machine machine(GetParam().after(kFeatures));
  UmlGuest& guest = machine.guest();
  machine.resize_to(64 * kMib);

  guest.order("reboot -f");
  guest.wait_until_ready();

  expect_soon(
      "the balloon", [&] { return guest.vmstat("balloon_inflate"); }, Eq(64 * kMib / 4096));
  machine.resize_to(16 * kMib);
}

TEST_P(EndingsTest, DriverIsUnloadedAndLoadedAgain) {
  Machine machine(GetParam().after(kFeatures));
  UmlGuest& guest = machine.guest();
  machine.resize_to(64 * kMib);
  const std::uint64_t free = guest.meminfo_bytes("MemFree");

  guest.run("rmmod virtio_balloon");

  EXPECT_GE(guest.meminfo_bytes("MemFree"), free + 60 * kMib);

  guest.run("insmod /virtio_balloon.ko");

  expect_soon(
      "all inflated", [&] { return guest.vmstat("balloon_inflate"); }, Eq(2 * 64 * kMib / 4096));
  machine.resize_to(16 * kMib);
}

TEST_F(EndingsTest, GuestPanicsAndTheNextOneIsServed) {
  Machine machine(kFeatures);
  machine.resize_to(64 * kMib);

  machine.guest().order("echo c >/proc/sysrq-trigger");

  EXPECT_TRUE(machine.guest().process().wait_for_end(kSoon).has_value());
  expect_next_guest_is_served(machine.daemon(), 64 * kMib);
}

TEST_P(EndingsTest, DaemonIsKilledInMidInflateAndTheGuestGoesOn) {
  Machine machine(GetParam().after(kFeatures));
  UmlGuest& guest = machine.guest();
  guest.hold(32);
  machine.daemon().set_target(128 * kMib);
  ASSERT_TRUE(soon([&] { return machine.daemon().actual_bytes() != 0; }));

  machine.daemon().process().kill();

  const std::uint64_t passes = guest.held().passes;
  expect_soon(
      "passes over the guest's pattern", [&] { return guest.held().passes; }, Gt(passes + 2));
  EXPECT_EQ(guest.held().wrong_pages, 0U);
  EXPECT_LT(guest.vmstat("balloon_inflate"), 128 * kMib / 4096);
  EXPECT_EQ(guest.eat(32), "survived");
}

TEST_F(EndingsTest, DaemonEndsInOrderWhenAskedTo) {
  Machine machine(kFeatures);
  machine.resize_to(32 * kMib);

  machine.daemon().process().signal(SIGTERM);

  EXPECT_EQ(machine.daemon().process().wait_for_end(kSoon), 0);
  EXPECT_FALSE(std::filesystem::exists(machine.daemon().socket()));
  EXPECT_EQ(machine.guest().eat(32), "survived");
}

}  // namespace
}  // namespace vballoon::testing
