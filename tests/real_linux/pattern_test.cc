// SPDX-License-Identifier: MIT
// What a real guest keeps in its memory stays what it is, whatever the balloon does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <vector>

#include "real_linux/machine.h"
#include "real_linux/ring_kinds.h"

namespace vballoon::testing {
namespace {

using ::testing::Gt;

struct PatternCase {
  const char* name;
  RingKind rings;
  bool write_behind;
};

void PrintTo(const PatternCase& parameter, std::ostream* out) { *out << parameter.name; }

std::string name_of_case(const ::testing::TestParamInfo<PatternCase>& info) {
  return info.param.name;
}

class PatternTest : public RealLinuxTest, public ::testing::WithParamInterface<PatternCase> {
 protected:
  static std::vector<std::string> options() {
    if (GetParam().write_behind) return {"--write-behind"};
    return {};
  }
};

INSTANTIATE_TEST_SUITE_P(Rings, PatternTest,
                         ::testing::Values(PatternCase{"Split", {"", false, false}, false},
                                           PatternCase{"SplitEventIdx", {"", false, true}, false},
                                           PatternCase{"Packed", {"", true, false}, false},
                                           PatternCase{"PackedEventIdx", {"", true, true}, false},
                                           PatternCase{"SplitWriteBehind", {"", false, true}, true},
                                           PatternCase{
                                               "PackedWriteBehind", {"", true, true}, true}),
                         name_of_case);

void wait_for_a_pass(UmlGuest& guest) {
  const std::uint64_t before = guest.held().passes;
  // The one that runs now began too early.
  expect_soon(
      "passes over the guest's pattern", [&] { return guest.held().passes; }, Gt(before + 1));
}

TEST_P(PatternTest, TwentyCyclesChangeNoPageThatTheGuestUses) {
  constexpr int kCycles = 20;
  constexpr std::uint64_t kBalloon = 96 * kMib;
  Machine machine(GetParam().rings.after("must-tell-host,stats-vq,deflate-on-oom,free-page-hint,"
                                         "page-reporting,indirect-desc"),
                  options());
  UmlGuest& guest = machine.guest();
  expect_rings(guest, GetParam().rings);
  guest.hold(48);

  for (int cycle = 0; cycle < kCycles; ++cycle) {
    SCOPED_TRACE("cycle " + std::to_string(cycle));
    machine.resize_to(kBalloon);
    guest.run("echo 1 >/proc/sys/vm/compact_memory");  // moves pages of the balloon too
    wait_for_a_pass(guest);
    machine.resize_to(0);
    ASSERT_TRUE(guest.held().running);
    ASSERT_EQ(guest.held().wrong_pages, 0U);
  }

  wait_for_a_pass(guest);
  EXPECT_EQ(guest.held().wrong_pages, 0U);
  EXPECT_GT(guest.vmstat("balloon_migrate"), 0U);
  EXPECT_GE(guest.vmstat("balloon_inflate"), kCycles * kBalloon / 4096);
  EXPECT_EQ(machine.daemon().metric("vballoon_guest_errors_total"), 0U);
}

}  // namespace
}  // namespace vballoon::testing
