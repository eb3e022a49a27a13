// SPDX-License-Identifier: MIT
// How the simulated driver lets a device go, and takes it back (src/guest/driver_set_up.cc).
#include "guest/driver_fixture.h"

namespace vballoon {
namespace {

using sim::DriverWait;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::vballoon::testing::DriverRig;
using ::vballoon::testing::kWaitsForAnswer;
using ::vballoon::testing::kWaitsForTarget;

constexpr DriverWait kStopped{DriverWait::Kind::kStopped, {}};

class DriverStopTest : public ::testing::TestWithParam<Dialect> {
 protected:
  DriverStopTest() : rig_(GetParam()) {
    before_probe_ = rig_.allocator.free_blocks_by_order();
    rig_.probe();
    rig_.device.on_status = [this](std::uint8_t status) {
      if (status == 0) ballooned_at_reset_ = rig_.device.ballooned().count();
    };
  }

  DriverRig rig_;
  sim::BlocksByOrder before_probe_{};
  std::uint64_t ballooned_at_reset_ = UINT64_MAX;  // by what the device knew
};

INSTANTIATE_TEST_SUITE_P(Dialects, DriverStopTest, testing::every_dialect(), testing::dialect_name);

TEST_P(DriverStopTest, RemovedDriverTellsTheDeviceOfAllPagesThenResetsIt) {
  rig_.resize(1000);

  rig_.driver->remove();

  EXPECT_EQ(rig_.driver->step({}), kStopped);
  EXPECT_EQ(ballooned_at_reset_, 0u);
  EXPECT_EQ(rig_.device.actuals.back(), 0u);
}

TEST_P(DriverStopTest, RemovedDriverHasGivenEverythingBack) {
  rig_.resize(1000);

  rig_.driver->remove();
  rig_.driver->step({});

  EXPECT_EQ(rig_.allocator.free_blocks_by_order(), before_probe_);
}

TEST_P(DriverStopTest, RemovalWaitsForTheMessageThatIsOut) {
  rig_.device.answers = false;
  rig_.resize(100);

  rig_.driver->remove();
  EXPECT_EQ(rig_.driver->step({}), kWaitsForAnswer);
  EXPECT_EQ(ballooned_at_reset_, UINT64_MAX) << "no reset so far";

  rig_.device.answers = true;
  rig_.device.answer();
  EXPECT_EQ(rig_.driver->step({}), kStopped);
  EXPECT_EQ(ballooned_at_reset_, 0u);
}

TEST_P(DriverStopTest, RemovedDriverFollowsNoTarget) {
  rig_.driver->remove();
  rig_.driver->step({});

  EXPECT_EQ(rig_.resize(100), kStopped);

  EXPECT_THAT(rig_.device.messages, IsEmpty());
}

TEST_P(DriverStopTest, RemovalFromADeviceThatNeedsAResetAsksItForNothing) {
  rig_.resize(1000);
  const std::size_t messages = rig_.device.messages.size();
  rig_.device.needs_reset = true;
  ASSERT_EQ(rig_.driver->step({}).kind, DriverWait::Kind::kNeedsReset);

  rig_.driver->remove();

  EXPECT_EQ(rig_.driver->step({}), kStopped);
  EXPECT_THAT(rig_.device.messages, SizeIs(messages));
  EXPECT_EQ(rig_.allocator.free_blocks_by_order(), before_probe_);
}

TEST_P(DriverStopTest, DeviceThatBreaksInTheMiddleOfTheRemovalIsLetGo) {
  rig_.resize(1000);
  rig_.device.answers = false;
  rig_.driver->remove();
  ASSERT_EQ(rig_.driver->step({}), kWaitsForAnswer);

  rig_.device.needs_reset = true;

  EXPECT_EQ(rig_.driver->step({}), kStopped);
  EXPECT_EQ(rig_.allocator.free_blocks_by_order(), before_probe_);
}

TEST_P(DriverStopTest, WithoutAnEndOfTheResetNoPageIsUsedAgain) {
  rig_.resize(1000);
  rig_.device.needs_reset = true;
  rig_.device.reads_during_reset = 1 << 30;

  rig_.driver->remove();

  EXPECT_EQ(rig_.driver->step({}), kStopped);
  EXPECT_EQ(rig_.allocator.free_pages(), rig_.free_after_probe - 1000);
}

TEST_P(DriverStopTest, SecondProbeAfterARemovalFollowsTheTarget) {
  rig_.resize(1000);
  rig_.driver->remove();
  rig_.driver->step({});

  rig_.probe();

  EXPECT_EQ(rig_.driver->step({}), kWaitsForTarget);
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
  EXPECT_EQ(rig_.driver->ballooned_pages(), 1000u);
}

TEST_P(DriverStopTest, ShutDownDriverResetsTheDeviceWithAFullBalloon) {
  rig_.resize(1000);
  const std::size_t messages = rig_.device.messages.size();

  rig_.driver->shutdown();

  EXPECT_EQ(rig_.driver->step({}), kStopped);
  EXPECT_EQ(ballooned_at_reset_, 1000u);
  EXPECT_THAT(rig_.device.messages, SizeIs(messages));
}

TEST_P(DriverStopTest, FrozenDriverHasEmptiedTheBalloonAndGivenItsPagesBack) {
  rig_.resize(1000);

  rig_.driver->freeze();

  EXPECT_EQ(rig_.driver->step({}), kStopped);
  EXPECT_EQ(ballooned_at_reset_, 0u);
  EXPECT_EQ(rig_.allocator.free_blocks_by_order(), before_probe_);
}

TEST_P(DriverStopTest, RestoredDriverNegotiatesAgainAndFollowsTheTarget) {
  rig_.resize(1000);
  rig_.driver->freeze();
  rig_.driver->step({});
  rig_.device.statuses.clear();

  ASSERT_TRUE(rig_.driver->restore());

  EXPECT_THAT(rig_.device.statuses, ElementsAre(0, 1, 1 | 2, 1 | 2 | 8, 1 | 2 | 8 | 4));
  EXPECT_EQ(rig_.driver->dialect(), GetParam());
  EXPECT_EQ(rig_.driver->step({}), kWaitsForTarget);
  EXPECT_EQ(rig_.driver->ballooned_pages(), 1000u);
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

TEST_P(DriverStopTest, RestorationThatFailsCanBeTriedAgain) {
  rig_.resize(1000);
  rig_.driver->freeze();
  rig_.driver->step({});
  rig_.device.refuses_queues = Errc::kBadQueueConfig;
  ASSERT_FALSE(rig_.driver->restore());
  EXPECT_EQ(rig_.driver->step({}), kStopped);
  EXPECT_EQ(rig_.allocator.free_blocks_by_order(), before_probe_);
  rig_.device.refuses_queues.reset();

  ASSERT_TRUE(rig_.driver->restore());

  EXPECT_EQ(rig_.driver->step({}), kWaitsForTarget);
  EXPECT_EQ(rig_.driver->ballooned_pages(), 1000u);
}

TEST_P(DriverStopTest, DriverThatWasFrozenInTheMiddleOfAMessageIsRestored) {
  rig_.device.answers = false;
  rig_.resize(1000);
  rig_.device.needs_reset = true;
  rig_.driver->freeze();
  ASSERT_EQ(rig_.driver->step({}), kStopped);
  rig_.device.answers = true;

  ASSERT_TRUE(rig_.driver->restore());

  EXPECT_EQ(rig_.driver->step({}), kWaitsForTarget);
  EXPECT_EQ(rig_.driver->ballooned_pages(), 1000u);
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

TEST_P(DriverStopTest, DriverThatIsNotFrozenCannotBeRestored) {
  rig_.driver->remove();
  rig_.driver->step({});

  EXPECT_FALSE(rig_.driver->restore());
  EXPECT_EQ(rig_.driver->step({}), kStopped);
}

TEST_P(DriverStopTest, DriverThatCouldNotResetItsDeviceCannotBeRestored) {
  rig_.resize(1000);
  rig_.device.reads_during_reset = 1 << 30;
  rig_.driver->freeze();
  rig_.driver->step({});
  rig_.device.reads_during_reset = 0;

  EXPECT_FALSE(rig_.driver->restore());
}

// ---- with what the features bring ---------------------------------------------------------------

class FeaturedDriverStopTest : public ::testing::Test {
 protected:
  static constexpr Features kFeatures{Feature::kMustTellHost, Feature::kStatsVq,
                                      Feature::kDeflateOnOom, Feature::kFreePageHint,
                                      Feature::kPageReporting};

  FeaturedDriverStopTest() {
    rig_.device.offered = kFeatures.with(Feature::kVersion1);
    rig_.options.features = kFeatures;
    rig_.options.kernel = &kernel_;
    rig_.options.reporting.capacity = 1;
    before_probe_ = rig_.allocator.free_pages();
    rig_.probe();
  }
  ~FeaturedDriverStopTest() override { rig_.driver.reset(); }  // before the kernel

  DriverRig rig_;
  sim::GuestKernel kernel_{rig_.allocator};
  std::uint64_t before_probe_ = 0;
};

TEST_F(FeaturedDriverStopTest, BlocksThatAreHintedAndReportedComeBack) {
  rig_.device.answers = false;
  rig_.driver->step({});
  rig_.driver->step(std::chrono::seconds(2));  // a report is out
  rig_.device.hint_command = 2;
  rig_.driver->step(std::chrono::seconds(2));  // so are hints
  ASSERT_LT(rig_.allocator.free_pages(), rig_.free_after_probe);
  ASSERT_THAT(rig_.device.messages, SizeIs(Ge(3u)));

  rig_.driver->remove();

  EXPECT_EQ(rig_.driver->step(std::chrono::seconds(2)), kStopped);
  EXPECT_EQ(rig_.allocator.free_pages(), before_probe_);
}

TEST_F(FeaturedDriverStopTest, StoppedDriverPostsNothingWhateverTheDeviceWants) {
  rig_.driver->remove();
  rig_.driver->step({});
  const std::size_t messages = rig_.device.messages.size();
  rig_.device.hint_command = 2;

  rig_.driver->step(std::chrono::seconds(10));

  EXPECT_THAT(rig_.device.messages, SizeIs(messages));
}

TEST_F(FeaturedDriverStopTest, KernelThatRunsShortAfterwardsAsksNobody) {
  rig_.driver->remove();
  rig_.driver->step({});
  const sim::ProcessId process = kernel_.start_process();

  EXPECT_FALSE(kernel_.touch(process, 0, 2 * testing::kGuestPages));
}

TEST_F(FeaturedDriverStopTest, RestoredDriverGivesStatisticsAndReportsAgain) {
  rig_.driver->freeze();
  rig_.driver->step({});
  rig_.device.messages.clear();

  ASSERT_TRUE(rig_.driver->restore());
  rig_.driver->step({});
  rig_.driver->step(std::chrono::seconds(2));

  EXPECT_THAT(rig_.device.messages_on(QueueRole::kStats), SizeIs(Ge(1u)));
  EXPECT_THAT(rig_.device.messages_on(QueueRole::kReporting), SizeIs(Ge(1u)));
}

}  // namespace
}  // namespace vballoon
