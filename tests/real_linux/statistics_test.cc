// SPDX-License-Identifier: MIT
// Statistics of a real guest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "real_linux/machine.h"
#include "real_linux/ring_kinds.h"

namespace vballoon::testing {
namespace {

using ::testing::AllOf;
using ::testing::Ge;
using ::testing::Le;

class StatisticsTest : public RealLinuxTest, public ::testing::WithParamInterface<RingKind> {
 protected:
  static std::uint64_t stat(Machine& machine, const std::string& name) {
    return machine.daemon().stats().value(name, std::uint64_t{0});
  }
  static std::uint64_t age_ms(Machine& machine) {
    return machine.daemon().control().execute("vballoon-stats").at("age-ms").get<std::uint64_t>();
  }
};
INSTANTIATE_TEST_SUITE_P(Rings, StatisticsTest, kTwoRingKinds, name_of);

TEST_P(StatisticsTest, ArriveInTheIntervalWithWhatTheGuestSees) {
  Machine machine(GetParam().after("must-tell-host,stats-vq"));
  UmlGuest& guest = machine.guest();
  const std::uint64_t free = guest.meminfo_bytes("MemFree");
  const auto free_in_stats = [&] { return stat(machine, "free-memory-bytes"); };

  machine.daemon().ctl({"period", "1s"});

  expect_soon("free memory", free_in_stats, AllOf(Ge(free - 8 * kMib), Le(free + 8 * kMib)));
  EXPECT_EQ(stat(machine, "total-memory-bytes"), guest.meminfo_bytes("MemTotal"));
  EXPECT_LE(stat(machine, "available-memory-bytes"), stat(machine, "total-memory-bytes"));
  EXPECT_GT(stat(machine, "minor-faults"), 0U);

  guest.hold(64);

  expect_soon("free memory", free_in_stats, AllOf(Ge(free - 72 * kMib), Le(free - 40 * kMib)));

  machine.daemon().ctl({"period", "0s"});

  // As long as they come every second they do not grow that old.
  expect_soon(
      "age of the statistics", [&] { return age_ms(machine); }, Ge(3000U));

  machine.daemon().ctl({"period", "1s"});

  expect_soon(
      "age of the statistics", [&] { return age_ms(machine); }, Le(1000U));
}

}  // namespace
}  // namespace vballoon::testing
