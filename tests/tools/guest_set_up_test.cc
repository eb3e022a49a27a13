// SPDX-License-Identifier: MIT
#include "guest_set_up.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "sizes.h"

namespace vballoon::tool {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

MATCHER_P2(Region, address, bytes, "") {
  return arg.guest_address == address && arg.bytes == bytes;
}

MachineFacts machine_with(std::uint64_t available_bytes) {
  MachineFacts machine;
  machine.available_bytes = available_bytes;
  return machine;
}

MachineFacts machine_with_huge_pages(std::uint64_t bytes) {
  MachineFacts machine = machine_with(64 * kGiB);
  machine.huge_pages_free = bytes / kHugePageBytes;
  return machine;
}

CompareOptions guest_of(std::uint64_t bytes) {
  CompareOptions options;
  options.guest_memory = bytes;
  return options;
}

TEST(PcLayoutTest, LargeGuestHasThreeGibibytesBelowTheHole) {
  EXPECT_THAT(pc_layout(8 * kGiB), ElementsAre(Region(0U, 3 * kGiB), Region(4 * kGiB, 5 * kGiB)));
}

TEST(PcLayoutTest, SmallGuestLiesOnBothSidesOfTheHole) {
  EXPECT_THAT(pc_layout(64 * kMiB),
              ElementsAre(Region(0U, 32 * kMiB), Region(4 * kGiB, 32 * kMiB)));
}

TEST(PcLayoutTest, RegionsAreMultiplesOfTheLargestBlock) {
  EXPECT_THAT(pc_layout(68 * kMiB),
              ElementsAre(Region(0U, 32 * kMiB), Region(4 * kGiB, 36 * kMiB)));
}

TEST(GuestPagesTest, IdleGuestIsAllFree) {
  const auto pages = make_guest_pages({}, 64 * kMiB);

  ASSERT_TRUE(pages);
  EXPECT_EQ(pages->allocator->free_pages(), 64 * kMiB / kPageSize);
  EXPECT_TRUE(pages->busy_blocks.empty());
}

TEST(GuestPagesTest, BusyProcessorHasBlocksOfItsOwn) {
  CompareOptions options;
  options.busy_vcpu = true;

  const auto pages = make_guest_pages(options, 64 * kMiB);

  ASSERT_TRUE(pages);
  EXPECT_EQ(pages->busy_blocks.size(), 4U);
  EXPECT_EQ(pages->allocator->free_pages(), (64 * kMiB - kBusyBytes) / kPageSize);
}

TEST(GuestPagesTest, FragmentedGuestHasHalfItsPagesFreeOneByOne) {
  CompareOptions options;
  options.guest = sim::GuestAge::kFragmented;
  const auto pages = make_guest_pages(options, 64 * kMiB);
  ASSERT_TRUE(pages);

  age(options, *pages->allocator);

  EXPECT_EQ(pages->allocator->free_blocks_by_order()[0], 32 * kMiB / kPageSize);
  EXPECT_EQ(pages->allocator->free_pages(), 32 * kMiB / kPageSize);
}

TEST(MakePlanTest, DefaultIsSevenOfEightGibibytes) {
  const auto plan = make_plan({}, machine_with(12 * kGiB));

  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->guest_memory, 8 * kGiB);
  EXPECT_EQ(plan->inflate_pages, 7 * kGiB / kPageSize);
  EXPECT_EQ(plan->note, "");
}

TEST(MakePlanTest, GuestIsSmallerAndSaysSoWhereLittleIsAvailable) {
  const auto plan = make_plan({}, machine_with(6 * kGiB));

  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->guest_memory, 4 * kGiB);
  EXPECT_EQ(plan->note,
            "guest of 4 GiB instead of 8 GiB: this machine has 6 GiB available, the full size "
            "wants 12 GiB");
}

TEST(MakePlanTest, GuestOfATinyMachineIsNoWholeGibibyte) {
  const auto plan = make_plan({}, machine_with(300 * kMiB));

  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->guest_memory, 200 * kMiB);
}

TEST(MakePlanTest, MachineWithoutMemoryForTheSmallestGuestIsAnError) {
  const auto plan = make_plan({}, machine_with(80 * kMiB));

  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, Errc::kNotSupported);
  EXPECT_EQ(plan.error().context,
            "the smallest guest has 64 MiB; this machine has 80 MiB available");
}

TEST(MakePlanTest, GuestOfHugePagesIsAsLargeAsTheirPool) {
  CompareOptions options;
  options.backing = Backing::kHugetlb;

  const auto plan = make_plan(options, machine_with_huge_pages(130 * kMiB));

  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->guest_memory, 128 * kMiB);
  EXPECT_EQ(plan->note,
            "guest of 128 MiB instead of 8 GiB: the pool of huge pages has 130 MiB free");
}

TEST(MakePlanTest, EmptyPoolOfHugePagesIsAnErrorThatSaysHowToFillIt) {
  CompareOptions options;
  options.backing = Backing::kHugetlb;

  const auto plan = make_plan(options, machine_with_huge_pages(0));

  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, Errc::kNotSupported);
  EXPECT_THAT(plan.error().context, HasSubstr("/proc/sys/vm/nr_hugepages"));
}

TEST(MakePlanTest, GuestThatIsAskedForGivesSevenEighths) {
  const auto plan = make_plan(guest_of(64 * kMiB), machine_with(kGiB));

  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->guest_memory, 64 * kMiB);
  EXPECT_EQ(plan->inflate_pages, 56 * kMiB / kPageSize);
}

TEST(MakePlanTest, GuestThatIsNotIdleGivesThreeQuartersOfWhatIsFree) {
  CompareOptions options = guest_of(64 * kMiB);
  options.guest = sim::GuestAge::kFragmented;

  const auto plan = make_plan(options, machine_with(kGiB));

  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->inflate_pages, 24 * kMiB / kPageSize);
}

TEST(MakePlanTest, DefaultIsNeverMoreThanTheGuestCanGive) {
  CompareOptions options = guest_of(64 * kMiB);
  options.busy_vcpu = true;

  const auto plan = make_plan(options, machine_with(kGiB));

  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->inflate_pages, 46 * kMiB / kPageSize);
}

TEST(MakePlanTest, InflationThatIsAskedForIsTaken) {
  CompareOptions options = guest_of(64 * kMiB);
  options.inflate = 3 * kPageSize;

  const auto plan = make_plan(options, machine_with(kGiB));

  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->inflate_pages, 3U);
}

TEST(MakePlanTest, MoreThanTheGuestCanGiveNamesTheMaximum) {
  CompareOptions options = guest_of(64 * kMiB);
  options.inflate = 63 * kMiB;

  const auto plan = make_plan(options, machine_with(kGiB));

  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, Errc::kTargetTooLarge);
  EXPECT_EQ(plan.error().context,
            "--inflate 63 MiB: more than this guest can give; the maximum is 65011712 bytes "
            "(62 MiB)");
}

TEST(MakePlanTest, MaximumThatIsNamedCanBeGiven) {
  CompareOptions options = guest_of(64 * kMiB);
  options.inflate = 65011712;

  EXPECT_TRUE(make_plan(options, machine_with(kGiB)));
}

TEST(MakePlanTest, PartOfAPageIsRefused) {
  CompareOptions options = guest_of(64 * kMiB);
  options.inflate = 5000;

  const auto plan = make_plan(options, machine_with(kGiB));

  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().context, "--inflate 4.88 KiB: give a multiple of 4 KiB above 0");
}

TEST(MakePlanTest, NothingToInflateIsRefused) {
  CompareOptions options = guest_of(64 * kMiB);
  options.inflate = 0;

  EXPECT_FALSE(make_plan(options, machine_with(kGiB)));
}

TEST(MakePlanTest, GuestThatIsTooSmallIsRefused) {
  const auto plan = make_plan(guest_of(60 * kMiB), machine_with(kGiB));

  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, Errc::kInvalidArgument);
  EXPECT_EQ(plan.error().context,
            "--guest-memory 60 MiB: give a multiple of 4 MiB, at least 64 MiB");
}

TEST(MakePlanTest, GuestLargerThanTheMachineIsRefused) {
  const auto plan = make_plan(guest_of(2 * kGiB), machine_with(kGiB));

  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, Errc::kInvalidArgument);
  EXPECT_EQ(plan.error().context, "--guest-memory 2 GiB: this machine has 1 GiB available");
}

TEST(MakePlanTest, GuestLargerThanThePoolOfHugePagesIsRefused) {
  CompareOptions options = guest_of(2 * kGiB);
  options.backing = Backing::kHugetlb;

  const auto plan = make_plan(options, machine_with_huge_pages(kGiB));

  ASSERT_FALSE(plan);
  EXPECT_THAT(plan.error().context, HasSubstr("this machine has 1 GiB in free huge pages"));
}

TEST(MakePlanTest, QueueThatIsNoPowerOfTwoIsRefused) {
  CompareOptions options = guest_of(64 * kMiB);
  options.queue_size = 100;

  const auto plan = make_plan(options, machine_with(kGiB));

  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().context, "--queue-size 100: give a power of two");
}

}  // namespace
}  // namespace vballoon::tool
