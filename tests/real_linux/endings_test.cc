// SPDX-License-Identifier: MIT
// One of the two goes away: a real guest, its driver, or the daemon.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <functional>
#include <memory>

#include "real_linux/machine.h"
#include "real_linux/ring_kinds.h"

namespace vballoon::testing {
namespace {

using ::testing::Eq;
using ::testing::Gt;
using ::testing::IsFalse;

constexpr char kFeatures[] =
    "must-tell-host,stats-vq,deflate-on-oom,free-page-hint,page-reporting,indirect-desc";

class EndingsTest : public RealLinuxTest, public ::testing::WithParamInterface<RingKind> {
 protected:
  static constexpr std::uint64_t kMuch = 128 * kMib;

  // A machine of which `kill` has killed a part while the guest inflated. It says whether it came
  // in time; where it was too late another machine is taken.
  static std::unique_ptr<Machine> machine_in_mid_inflate(
      const std::function<bool(Machine&)>& kill) {
    constexpr std::chrono::milliseconds kNoPause{0};
    std::unique_ptr<Machine> machine;
    const bool caught = soon([&] {
      machine = std::make_unique<Machine>(GetParam().after(kFeatures));
      machine->guest().hold(32);
      machine->daemon().set_target(kMuch);
      soon([&] { return machine->daemon().actual_bytes() != 0; }, kSoon, kNoPause);
      return kill(*machine);
    });
    EXPECT_TRUE(caught);
    return machine;
  }

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
INSTANTIATE_TEST_SUITE_P(Rings, EndingsTest, kTwoRingKinds, name_of);

TEST_P(EndingsTest, GuestPowersOffAndTheNextOneIsServed) {
  Machine machine(GetParam().after(kFeatures));
  machine.resize_to(64 * kMib);

  machine.guest().order("poweroff -f");

  EXPECT_EQ(machine.guest().process().wait_for_end(kSoon), 0);
  expect_next_guest_is_served(machine.daemon(), 64 * kMib);
}

TEST_P(EndingsTest, GuestIsKilledInMidInflateAndTheNextOneIsServed) {
  const auto machine = machine_in_mid_inflate([](Machine& victim) {
    victim.guest().process().kill();
    return victim.daemon().actual_bytes() < kMuch;
  });

  expect_next_guest_is_served(machine->daemon(), kMuch);
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

// Linux 6.1 lets the device go, but waits for ever for the answer to the message that was under
// way, and what is in the balloon stays there.
TEST_P(EndingsTest, DaemonIsKilledInMidInflateAndTheGuestGoesOn) {
  const auto machine = machine_in_mid_inflate([](Machine& victim) {
    victim.daemon().process().kill();
    return victim.guest().vmstat("balloon_inflate") < kMuch / 4096;
  });
  UmlGuest& guest = machine->guest();

  expect_soon(
      "a device", [&] { return guest.has_device(); }, IsFalse());
  const std::uint64_t passes = guest.held().passes;
  expect_soon(
      "passes over the guest's pattern", [&] { return guest.held().passes; }, Gt(passes + 2));
  EXPECT_EQ(guest.held().wrong_pages, 0U);
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
