// SPDX-License-Identifier: MIT
// What becomes of pages that a driver with the published habits names again
// (DriverOptions::faithful).
#include "vm/machine_fixture.h"

namespace vballoon {
namespace {

using ::vballoon::testing::MachineRig;

constexpr std::uint64_t kOldPages = 1000;

// The balloon has 1000 pages, and then takes one more that lies below all of them.
class FaithfulMachineTest : public ::testing::TestWithParam<Dialect> {
 protected:
  void boot() {
    rig_.options.driver.faithful = true;
    rig_.start();
  }
  void fill() {
    const auto lowest = rig_.allocator.allocate(0).value();
    rig_.resize(kOldPages);
    rig_.allocator.free(lowest);
  }
  void start() {
    boot();
    fill();
  }
  sim::ResizeReport inflate_one_more() { return rig_.resize(kOldPages + 1); }

  MachineRig rig_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Bitmaps, FaithfulMachineTest,
                         ::testing::Values(Dialect::kPageBitmap, Dialect::kSingleHeaderBitmap),
                         testing::dialect_name);

TEST_P(FaithfulMachineTest, OldPagesCountAsInflatedAndAsFreedAgain) {
  start();

  const sim::ResizeReport report = inflate_one_more();

  EXPECT_EQ(report.pages, 1u);
  EXPECT_EQ(report.device.inflated_bytes, (kOldPages + 1) * kPageSize);
  EXPECT_EQ(report.device.freed_bytes, (kOldPages + 1) * kPageSize);
  EXPECT_EQ(report.device.count(Errc::kPageAlreadyInflated), kOldPages);
}

TEST_P(FaithfulMachineTest, PagesOfTheBalloonAreGoneAndAllOthersStay) {
  start();

  inflate_one_more();

  EXPECT_EQ(rig_.machine->device().ballooned_pages(), kOldPages + 1);
  EXPECT_EQ(rig_.resident_balloon_pages(), 0u);
  EXPECT_EQ(rig_.resident_pages(), MachineRig::kPages - kOldPages - 1);
}

TEST_P(FaithfulMachineTest, OldPagesThatAreOwedAreOwedOnce) {
  boot();
  rig_.machine->device().inhibit_discards();
  fill();

  inflate_one_more();

  const BalloonMetrics metrics = rig_.machine->device().metrics();
  EXPECT_EQ(metrics.inflated_bytes, (2 * kOldPages + 1) * kPageSize);
  EXPECT_EQ(metrics.owed_bytes, (kOldPages + 1) * kPageSize);
  EXPECT_EQ(metrics.cancelled_bytes, kOldPages * kPageSize);
}

TEST_P(FaithfulMachineTest, EmptyBalloonLeavesNothingBooked) {
  start();
  inflate_one_more();

  const sim::ResizeReport report = rig_.resize(0);

  EXPECT_EQ(report.device.deflated_bytes, (kOldPages + 1) * kPageSize);
  EXPECT_EQ(rig_.machine->device().ballooned_pages(), 0u);
}

}  // namespace
}  // namespace vballoon
