// SPDX-License-Identifier: MIT
// Free page reporting: a real guest gives back what it has freed, without being asked.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "real_linux/machine.h"
#include "real_linux/ring_kinds.h"

namespace vballoon::testing {
namespace {

using ::testing::Ge;
using ::testing::Le;

class ReportingTest : public RealLinuxTest, public ::testing::WithParamInterface<RingKind> {
 protected:
  // The guest reports blocks of 4 MiB only: what is freed in smaller ones stays.
  static constexpr std::uint64_t kUsed = 96 * kMib;
  static constexpr std::uint64_t kReported = 72 * kMib;
};
INSTANTIATE_TEST_SUITE_P(Rings, ReportingTest, kTwoRingKinds, name_of);

TEST_P(ReportingTest, MemoryOfAFileAndOfAProcessComesBackOnItsOwn) {
  Machine machine(GetParam().after("page-reporting,indirect-desc"));
  UmlGuest& guest = machine.guest();
  ASSERT_TRUE(guest.has_feature(Feature::kPageReporting));
  const auto host = [&] { return guest.host_bytes(); };

  guest.run("dd if=/dev/urandom of=/tmp/file bs=1M count=96");
  const std::uint64_t with_file = host();
  EXPECT_THAT(with_file, Ge(kUsed));
  guest.run("rm /tmp/file");

  expect_soon("host memory after a file", host, Le(with_file - kReported));

  guest.hold(96);
  const std::uint64_t with_process = host();
  EXPECT_THAT(with_process, Ge(kUsed));
  guest.let_go();

  expect_soon("host memory after a process", host, Le(with_process - kReported));
  EXPECT_EQ(machine.daemon().actual_bytes(), 0U);
}

// A guest that zeroes what it frees says so by PAGE_POISON, and its free pages may be zeroed.
TEST_F(RealLinuxTest, MemoryThatTheGuestZeroedComesBackToo) {
  Machine machine("page-poison,page-reporting,indirect-desc", {}, {"init_on_free=1"});
  UmlGuest& guest = machine.guest();
  ASSERT_TRUE(guest.has_feature(Feature::kPagePoison));
  guest.hold(96);
  const std::uint64_t with_process = guest.host_bytes();

  guest.let_go();

  expect_soon(
      "host memory", [&] { return guest.host_bytes(); }, Le(with_process - 72 * kMib));
  EXPECT_EQ(guest.eat(96), "survived");
}

}  // namespace
}  // namespace vballoon::testing
