// SPDX-License-Identifier: MIT
// Driver and device with the features that bring a queue or a field of their own: statistics, free
// page reports and poison. Both sides work on one thread, through virtio-mmio.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "base/page_ranges.h"
#include "memory/test_discarders.h"
#include "vballoon/sim/balloon_driver.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/transport/mmio.h"
#include "vm/mmio_access.h"

namespace vballoon {
namespace {

using sim::BalloonDriver;
using sim::DriverOptions;
using sim::DriverWait;
using sim::GuestKernel;
using sim::MmioAccess;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::Ge;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::chrono::nanoseconds kSecond = std::chrono::seconds(1);

class DriverFeaturesTest : public ::testing::Test {
 protected:
  // Reports are made only while much is free: 32 blocks of 2 MiB and more.
  static constexpr std::uint64_t kPages = 65536;

  // Boots a guest; the device offers these features and the driver accepts what it can.
  void boot(Features features, DriverOptions options = {}) {
    auto discarder = std::make_unique<testing::RecordingDiscarder>();
    recorded_ = discarder.get();
    mmio_ = MmioTransport::create(memory_, std::move(discarder),
                                  {.features = features,
                                   .wake = [this](std::uint16_t queue) { kicked_.insert(queue); },
                                   .clock = [this] { return now_; }},
                                  {.queue_notify = [this](std::uint16_t queue) { kick(queue); }})
                .value();
    access_ = MmioAccess::probe(
                  {.read = [this](std::uint64_t o, unsigned s) { return mmio_->read(o, s); },
                   .write = [this](std::uint64_t o, unsigned s,
                                   std::uint64_t v) { mmio_->write(o, s, v); }})
                  .value();
    options.features = features;
    driver_ = BalloonDriver::probe(*access_, memory_, allocator_, options).value();
  }

  // Serves a kick at once, as an ioeventfd might, also before DRIVER_OK.
  void kick(std::uint16_t queue) {
    kicks_before_ok_ += (device().read_status() & kStatusDriverOk) == 0 ? 1 : 0;
    device().process(queue);
    kicked_.insert(queue);
  }
  void serve() {
    for (const std::uint16_t queue : std::exchange(kicked_, {})) {
      while (device().process(queue)) {
      }
    }
  }
  // Lets both sides work until neither has anything to do at this time.
  DriverWait run() {
    DriverWait wait;
    do {
      serve();
      wait = driver_->step(now_);
    } while (!kicked_.empty() || wait.kind == DriverWait::Kind::kUsedBuffer);
    return wait;
  }
  // From now to the time for which the driver waits, and on.
  void run_for(std::chrono::nanoseconds duration) {
    const auto end = now_ + duration;
    for (DriverWait wait = run(); wait.kind == DriverWait::Kind::kTime && wait.until <= end;
         wait = run()) {
      now_ = wait.until;
    }
    now_ = end;
  }
  BalloonDevice& device() { return mmio_->device(); }

  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, kPages << kPageShift}}).value();
  sim::PageAllocator allocator_{PageRanges{{0, kPages}}};
  GuestKernel kernel_{allocator_};
  std::chrono::nanoseconds now_{0};
  testing::RecordingDiscarder* recorded_ = nullptr;
  std::set<std::uint16_t> kicked_;
  int kicks_before_ok_ = 0;
  std::unique_ptr<MmioTransport> mmio_;
  std::unique_ptr<MmioAccess> access_;
  std::unique_ptr<BalloonDriver> driver_;
};

constexpr Features kWithStats{Feature::kMustTellHost, Feature::kStatsVq};
constexpr Features kWithReports{Feature::kMustTellHost, Feature::kPageReporting};
constexpr Features kWithPoison = kWithReports.with(Feature::kPagePoison);

// ---- statistics
// -----------------------------------------------------------------------------------

TEST_F(DriverFeaturesTest, BAL_G_19_BAL_G_21_StatisticsAreThereAfterTheBoot) {
  boot(kWithStats, {.kernel = &kernel_});

  run();

  const StatsReport report = device().stats();
  ASSERT_TRUE(report.latest);
  EXPECT_THAT(report.latest->values, Each(::testing::Ne(std::nullopt)));
  EXPECT_EQ(report.latest->value(StatTag::kTotalMemory), kPages * kPageSize);
  EXPECT_THAT(report.latest->unknown, IsEmpty());
}

TEST_F(DriverFeaturesTest, BAL_G_20_RequestIsAnsweredWithTheValuesOfNow) {
  boot(kWithStats, {.kernel = &kernel_});
  run();
  const auto before = device().stats().latest->value(StatTag::kFreeMemory);
  const auto block = kernel_.allocate(3, sim::AllocationEffort::kFull);
  ASSERT_TRUE(block);

  ASSERT_TRUE(device().request_stats(kSecond));
  run();

  EXPECT_FALSE(device().stats().requested);
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

// ---- free page reports
// ------------------------------------------------------------------------------

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

// ---- poison
// -----------------------------------------------------------------------------------------

TEST_F(DriverFeaturesTest, BAL_G_37_PoisonIsWrittenBeforeDriverOk) {
  boot(kWithPoison, {.poison_value = 0xAAAAAAAA});

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
