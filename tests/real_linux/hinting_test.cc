// SPDX-License-Identifier: MIT
// Free page hints of a real guest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "real_linux/machine.h"
#include "real_linux/ring_kinds.h"

namespace vballoon::testing {
namespace {

using ::testing::Ge;
using ::testing::Le;

class HintingTest : public RealLinuxTest, public ::testing::WithParamInterface<RingKind> {};
INSTANTIATE_TEST_SUITE_P(Rings, HintingTest, kTwoRingKinds, name_of);

TEST_P(HintingTest, RoundNamesFreeMemoryWhichTheGuestHasBackAfterIt) {
  Machine machine(GetParam().after("must-tell-host,free-page-hint"));
  UmlGuest& guest = machine.guest();
  ASSERT_TRUE(guest.has_feature(Feature::kFreePageHint));
  const std::uint64_t free = guest.meminfo_bytes("MemFree");
  const auto hinted = [&] {
    return machine.daemon()
        .control()
        .execute("vballoon-hinting-status")
        .at("hinted-bytes")
        .get<std::uint64_t>();
  };

  // The guest keeps the pages until it is told otherwise.
  machine.daemon().control().execute("vballoon-hinting-start", {{"acknowledge-on-stop", false}});

  expect_soon("bytes that hints named", hinted, Ge(free / 2));
  expect_soon(
      "free memory in the round", [&] { return guest.meminfo_bytes("MemFree"); }, Le(free / 2));
  machine.daemon().ctl({"hinting", "status"});
  const std::uint64_t host = guest.host_bytes();

  machine.daemon().ctl({"hinting", "stop"});

  expect_soon(
      "free memory after it", [&] { return guest.meminfo_bytes("MemFree"); }, Ge(free - 8 * kMib));
  // Hints name what need not be copied; nothing is taken.
  EXPECT_GE(guest.host_bytes(), host);
}

TEST_F(HintingTest, RoundOfCtlEndsByItself) {
  Machine machine("must-tell-host,free-page-hint");
  UmlGuest& guest = machine.guest();
  const std::uint64_t free = guest.meminfo_bytes("MemFree");
  const auto status = [&] { return machine.daemon().control().execute("vballoon-hinting-status"); };

  machine.daemon().ctl({"hinting", "start"});

  expect_soon(
      "the round", [&] { return status().at("state").get<std::string>(); }, ::testing::Eq("done"));
  EXPECT_GE(status().at("hinted-bytes").get<std::uint64_t>(), free / 2);
  expect_soon(
      "free memory after it", [&] { return guest.meminfo_bytes("MemFree"); }, Ge(free - 8 * kMib));
}

}  // namespace
}  // namespace vballoon::testing
