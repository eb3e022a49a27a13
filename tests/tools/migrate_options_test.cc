// SPDX-License-Identifier: MIT
#include "migrate_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vballoon::tool {
namespace {

using ::testing::HasSubstr;

Result<MigratePlan> plan_with(const MigrateOptions& options, std::uint64_t available) {
  MachineFacts machine;
  machine.available_bytes = available;
  return make_plan(options, machine);
}

MigrateOptions guest_of(std::uint64_t bytes) {
  MigrateOptions options;
  options.guest_memory = bytes;
  return options;
}

TEST(MigrateOptionsTest, GuestHasEightGibibytesOnALargeMachine) {
  const auto plan = plan_with({}, 64 * kGiB);

  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->guest_memory, 8 * kGiB);
  EXPECT_EQ(plan->free, 6 * kGiB);
  EXPECT_EQ(plan->note, "");
}

TEST(MigrateOptionsTest, GuestIsSmallerWhereBothSidesWouldNotFit) {
  const auto plan = plan_with({}, 12 * kGiB);

  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->guest_memory, 5 * kGiB);
  EXPECT_EQ(plan->note,
            "guest of 5 GiB instead of 8 GiB: both sides need memory, and 12 GiB are available");
}

TEST(MigrateOptionsTest, GuestIsMeasuredInBlocksWhereMemoryIsShort) {
  const auto plan = plan_with({}, 200 * kMiB);

  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->guest_memory, 84 * kMiB);
}

TEST(MigrateOptionsTest, MachineWithoutRoomForTheSmallestGuestIsRefused) {
  const auto plan = plan_with({}, 60 * kMiB);

  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, Errc::kInvalidArgument);
  EXPECT_EQ(plan.error().context,
            "the smallest guest needs 66 MiB for both sides; this machine has 60 MiB available");
}

TEST(MigrateOptionsTest, GuestThatDoesNotFitTwiceIsRefused) {
  const auto plan = plan_with(guest_of(8 * kGiB), 16 * kGiB);

  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, Errc::kInvalidArgument);
  EXPECT_EQ(plan.error().context,
            "--guest-memory 8 GiB: both sides need 16.5 GiB; this machine has 16 GiB available");
}

TEST(MigrateOptionsTest, GuestOfHalfABlockIsRefused) {
  const auto plan = plan_with(guest_of(34 * kMiB), 16 * kGiB);

  ASSERT_FALSE(plan);
  EXPECT_THAT(plan.error().context, HasSubstr("give a multiple of 4 MiB, at least 32 MiB"));
}

TEST(MigrateOptionsTest, GuestThatIsTooSmallIsRefused) {
  EXPECT_FALSE(plan_with(guest_of(28 * kMiB), 16 * kGiB));
}

TEST(MigrateOptionsTest, GuestThatUsesNothingOrAllIsRefused) {
  MigrateOptions nothing = guest_of(64 * kMiB);
  nothing.free = 60 * kMiB;
  MigrateOptions all = guest_of(64 * kMiB);
  all.free = 4 * kMiB;

  EXPECT_EQ(plan_with(nothing, kGiB).error().context, "--free 60 MiB: give 8 MiB to 56 MiB");
  EXPECT_EQ(plan_with(all, kGiB).error().context, "--free 4 MiB: give 8 MiB to 56 MiB");
}

TEST(MigrateOptionsTest, LinkThatCarriesNothingIsRefused) {
  MigrateOptions options = guest_of(64 * kMiB);
  options.bandwidth = 0;

  const auto plan = plan_with(options, kGiB);

  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().context, "--bandwidth 0: give the bytes of a second");
}

}  // namespace
}  // namespace vballoon::tool
