// SPDX-License-Identifier: MIT
// Driver and device with the features that bring a queue or a field of their own: statistics, free
// page reports and poison. Both sides work on one thread, through virtio-mmio.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "vm/guest_fixture.h"

namespace vballoon {
namespace {

using ::testing::Each;
using ::testing::Field;
using ::testing::Ge;
using ::testing::IsEmpty;
using testing::kSecond;

class DriverFeaturesTest : public testing::GuestFixture {};

constexpr Features kWithStats{Feature::kMustTellHost, Feature::kStatsVq};
constexpr Features kWithReports{Feature::kMustTellHost, Feature::kPageReporting};
constexpr Features kWithPoison = kWithReports.with(Feature::kPagePoison);

// ---- statistics --------------------------------------------------------------------------------

TEST_F(DriverFeaturesTest, BAL_G_19_BAL_G_21_BAL_G_22_StatisticsAreThereAfterTheBoot) {
  boot(kWithStats, {.kernel = &kernel_});

  run();

  const StatsReport report = device().stats();
  ASSERT_TRUE(report.latest);
  EXPECT_THAT(report.latest->values, Each(::testing::Ne(std::nullopt)));
  EXPECT_EQ(report.latest->value(StatTag::kTotalMemory), kPages * kPageSize);
  EXPECT_THAT(report.latest->unknown, IsEmpty());
  EXPECT_EQ(device().metrics().count(Errc::kPayloadNotMultiple), 0u);
}

TEST_F(DriverFeaturesTest, BAL_G_20_BAL_G_25_RequestIsAnsweredWithTheValuesOfNow) {
  boot(kWithStats, {.kernel = &kernel_});
  run();
  const auto before = device().stats().latest->value(StatTag::kFreeMemory);
  const auto block = kernel_.allocate(3, sim::AllocationEffort::kFull);
  ASSERT_TRUE(block);

  ASSERT_TRUE(device().request_stats(kSecond));
  run();

  EXPECT_FALSE(device().stats().requested);
  EXPECT_THAT(device().stats().latest->values, Each(::testing::Ne(std::nullopt)));
  EXPECT_EQ(*before - *device().stats().latest->value(StatTag::kFreeMemory), 8 * kPageSize);
  kernel_.free(*block);
}

TEST_F(DriverFeaturesTest, BAL_G_18_DriverNeverHasTwoStatisticsBuffersOut) {
  boot(kWithStats, {.kernel = &kernel_});
  run();

  ASSERT_TRUE(device().request_stats(kSecond));
  run();
  run();

  EXPECT_EQ(device().metrics().count(Errc::kStatsBufferExtra), 0u);
  EXPECT_EQ(device().metrics().stats_messages, 2u);
}

TEST_F(DriverFeaturesTest, KickForStatisticsBeforeDriverOkIsNotLost) {
  boot(kWithStats, {.kernel = &kernel_, .early_stats = true});

  EXPECT_EQ(kicks_before_ok_, 1);
  run();
  EXPECT_TRUE(device().stats().latest);
}

TEST_F(DriverFeaturesTest, INI_G_07_DriverCanKeepStillUntilDriverOk) {
  boot(kWithStats, {.kernel = &kernel_, .early_stats = false});

  EXPECT_EQ(kicks_before_ok_, 0);
  run();
  EXPECT_TRUE(device().stats().latest);
}

TEST_F(DriverFeaturesTest, GuestWithoutAKernelDeclinesStatistics) {
  boot(kWithStats);

  EXPECT_FALSE(driver_->features().has(Feature::kStatsVq));
}

TEST_F(DriverFeaturesTest, StatisticsComeInAnIntervalWhileTheBalloonWorks) {
  boot(kWithStats, {.kernel = &kernel_});
  run();
  device().set_stats_interval(kSecond);
  ASSERT_TRUE(device().set_target_pages(5000));

  now_ += kSecond;
  device().tick();
  run();

  EXPECT_EQ(device().stats().age.count(), 0);
  EXPECT_EQ(device().ballooned_pages(), 5000u);
}

// ---- free page reports -------------------------------------------------------------------------

TEST_F(DriverFeaturesTest, BAL_G_42_BAL_G_43_LargeFreeBlocksAreReportedTwoSecondsAfterTheBoot) {
  boot(kWithReports);
  run_for(2 * kSecond - std::chrono::nanoseconds(1));
  EXPECT_THAT(recorded_->pages(), IsEmpty());

  run_for(kSecond);

  EXPECT_GT(device().metrics().reported_freed_bytes, kPages * kPageSize / 2);
  EXPECT_THAT(recorded_->pages(), Each(Field(&PageRange::count, Ge(512u))));
}

TEST_F(DriverFeaturesTest, BlocksThatWereReportedAreNotReportedAgain) {
  boot(kWithReports);
  run_for(5 * kSecond);
  recorded_->forget();

  run_for(20 * kSecond);

  EXPECT_THAT(recorded_->pages(), IsEmpty());
}

TEST_F(DriverFeaturesTest, BlocksThatWereInTheBalloonAreReportedAgain) {
  boot(kWithReports);
  run_for(5 * kSecond);
  ASSERT_TRUE(device().set_target_pages(4096));
  run();
  ASSERT_TRUE(device().set_target_pages(0));
  run();
  recorded_->forget();

  run_for(5 * kSecond);

  EXPECT_THAT(recorded_->pages(), ::testing::Not(IsEmpty()));
}

TEST_F(DriverFeaturesTest, BAL_G_41_ReportedPagesAreNotUsedBeforeTheAnswer) {
  boot(kWithReports);
  now_ = 2 * kSecond;
  driver_->step(now_);
  now_ += 2 * kSecond;
  const std::uint64_t free_before = allocator_.free_pages();

  driver_->step(now_);  // a report is out, and nobody has answered it

  EXPECT_LT(allocator_.free_pages(), free_before);
  run();
  EXPECT_EQ(allocator_.free_pages(), free_before);
}

// ---- poison ------------------------------------------------------------------------------------

TEST_F(DriverFeaturesTest, BAL_G_37_BAL_G_38_PoisonIsWrittenBeforeDriverOkAndNotAgain) {
  boot(kWithPoison, {.poison_value = 0xAAAAAAAA});
  ASSERT_TRUE(device().set_target_pages(100));
  run_for(5 * kSecond);

  EXPECT_EQ(access_->read_config(kPoisonValueOffset), 0xAAAAAAAAu);
  EXPECT_EQ(device().metrics().count(Errc::kPoisonChanged), 0u);
}

TEST_F(DriverFeaturesTest, BAL_D_18_ReportsOfPoisonedPagesAreAnsweredAndNotDiscarded) {
  boot(kWithPoison, {.poison_value = 0xAAAAAAAA});

  run_for(5 * kSecond);

  EXPECT_GT(driver_->counters().reports, 0u);
  EXPECT_THAT(recorded_->pages(), IsEmpty());
}

TEST_F(DriverFeaturesTest, ReportsOfPagesFilledWithZerosAreDiscarded) {
  boot(kWithPoison, {.poison_value = 0});

  run_for(5 * kSecond);

  EXPECT_GT(device().metrics().reported_freed_bytes, 0u);
}

TEST_F(DriverFeaturesTest, BAL_G_02_GuestThatFillsNothingDeclinesPoison) {
  boot(kWithPoison);

  EXPECT_FALSE(driver_->features().has(Feature::kPagePoison));
  EXPECT_TRUE(driver_->features().has(Feature::kPageReporting));
}

TEST_F(DriverFeaturesTest, BAL_G_03_GuestWithPoisonDeclinesReportsToADeviceThatDoesNotKnowOfIt) {
  boot(kWithReports, {.poison_value = 0});

  EXPECT_FALSE(driver_->features().has(Feature::kPageReporting));
}

}  // namespace
}  // namespace vballoon
