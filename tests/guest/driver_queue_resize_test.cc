// SPDX-License-Identifier: MIT
// Queues that get another size while the driver works (src/guest/driver_queue_resize.cc).
#include <chrono>

#include "guest/driver_fixture.h"
#include "vballoon/sim/guest_kernel.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::vballoon::testing::DriverRig;
using ::vballoon::testing::kWaitsForAnswer;
using ::vballoon::testing::kWaitsForTarget;

class DriverQueueResizeTest : public ::testing::TestWithParam<Dialect> {
 protected:
  DriverQueueResizeTest() : rig_(GetParam()) {
    offer(Features{Feature::kRingReset});
    rig_.probe();
  }
  void offer(Features features) {
    rig_.device.offered = Features(rig_.device.offered.bits() | features.bits());
    rig_.options.features = rig_.device.offered;
  }
  // Over which blocks go, or else all pages.
  [[nodiscard]] std::uint16_t inflate_queue() const {
    return rig_.device.last_queue(QueueRole::kInflate);
  }
  [[nodiscard]] std::uint16_t deflate_queue() const {
    return rig_.device.last_queue(QueueRole::kDeflate);
  }
  Errc refusal_of(std::uint16_t index, std::uint16_t size) {
    const auto done = rig_.driver->resize_queue(index, size);
    return done ? Errc{} : done.error().code;
  }

  DriverRig rig_;
};

INSTANTIATE_TEST_SUITE_P(Dialects, DriverQueueResizeTest, testing::every_dialect(),
                         testing::dialect_name);

// ---- a message that is out ----------------------------------------------------------------------

TEST_P(DriverQueueResizeTest, InflateThatTheDeviceHasNotSeenIsSentAgain) {
  rig_.device.deaf = true;
  ASSERT_EQ(rig_.resize(200), kWaitsForAnswer);
  rig_.device.deaf = false;

  ASSERT_TRUE(rig_.driver->resize_queue(inflate_queue(), 64));

  EXPECT_EQ(rig_.driver->step({}), kWaitsForTarget);
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
  EXPECT_THAT(rig_.device.actuals, ElementsAre(200u));
}

TEST_P(DriverQueueResizeTest, DeflateThatTheDeviceHasNotSeenIsSentAgainBeforePagesAreFreed) {
  rig_.resize(200);
  const std::uint64_t free_before = rig_.allocator.free_pages();
  rig_.device.deaf = true;
  ASSERT_EQ(rig_.resize(0), kWaitsForAnswer);
  rig_.device.deaf = false;
  rig_.device.answers = false;

  ASSERT_TRUE(rig_.driver->resize_queue(deflate_queue(), 256));
  EXPECT_EQ(rig_.driver->step({}), kWaitsForAnswer);
  EXPECT_EQ(rig_.allocator.free_pages(), free_before);
  rig_.device.answer();

  EXPECT_EQ(rig_.driver->step({}), kWaitsForTarget);
  EXPECT_THAT(rig_.device_balloon(), IsEmpty());
  EXPECT_EQ(rig_.allocator.free_pages(), rig_.free_after_probe);
}

TEST_P(DriverQueueResizeTest, MessageThatWasAnsweredIsNotSentAgain) {
  rig_.device.answers = false;
  rig_.resize(100);
  const std::size_t messages = rig_.device.messages.size();
  rig_.device.answer();

  ASSERT_TRUE(rig_.driver->resize_queue(inflate_queue(), 64));

  EXPECT_EQ(rig_.driver->step({}), kWaitsForTarget);
  EXPECT_THAT(rig_.device.messages, SizeIs(messages));
}

TEST_P(DriverQueueResizeTest, MessageOnTheOtherQueueGoesOn) {
  rig_.device.answers = false;
  rig_.resize(100);
  const std::size_t messages = rig_.device.messages.size();

  ASSERT_TRUE(rig_.driver->resize_queue(deflate_queue(), 64));
  rig_.device.answer();

  EXPECT_EQ(rig_.driver->step({}), kWaitsForTarget);
  EXPECT_THAT(rig_.device.messages, SizeIs(messages));
}

TEST_P(DriverQueueResizeTest, OperationOfSeveralMessagesGoesOnBehindTheOneThatWasLost) {
  rig_.punch_holes();
  rig_.device.deaf = true;
  rig_.resize(1000);
  rig_.device.deaf = false;

  ASSERT_TRUE(rig_.driver->resize_queue(kInflateQueue, 4));

  EXPECT_EQ(rig_.driver->step({}), kWaitsForTarget);
  EXPECT_EQ(rig_.driver->ballooned_pages(), 1000u);
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

TEST_P(DriverQueueResizeTest, MoveThatTheDeviceHasNotSeenIsSentAgain) {
  rig_.resize(100);
  const PageRange wanted = rig_.balloon().front();
  ASSERT_TRUE(rig_.driver->migrate_out_of(wanted));
  rig_.device.deaf = true;
  ASSERT_EQ(rig_.driver->step({}), kWaitsForAnswer);
  rig_.device.deaf = false;

  ASSERT_TRUE(rig_.driver->resize_queue(inflate_queue(), 64));

  EXPECT_EQ(rig_.driver->step({}), kWaitsForTarget);
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
  EXPECT_FALSE(rig_.device.ballooned().contains(wanted.first));
}

// ---- what is refused, and what goes wrong -------------------------------------------------------

TEST_P(DriverQueueResizeTest, WithoutRingResetNoQueueIsReset) {
  rig_.device.offered = rig_.device.offered.without(Feature::kRingReset);
  rig_.probe();

  EXPECT_EQ(refusal_of(kInflateQueue, 64), Errc::kNotSupported);

  EXPECT_EQ(rig_.device.queue_resets, 0u);
}

TEST_P(DriverQueueResizeTest, QueueThatIsNoneIsRefused) {
  EXPECT_EQ(refusal_of(4, 64), Errc::kInvalidArgument);
  EXPECT_EQ(refusal_of(UINT16_MAX, 64), Errc::kInvalidArgument);

  EXPECT_EQ(rig_.device.queue_resets, 0u);
}

TEST_P(DriverQueueResizeTest, SizeThatNoRingHasIsRefusedBeforeTheReset) {
  EXPECT_EQ(refusal_of(kInflateQueue, 0), Errc::kInvalidArgument);
  EXPECT_EQ(refusal_of(kInflateQueue, 12), Errc::kBadQueueConfig);

  EXPECT_EQ(rig_.device.queue_resets, 0u);
  EXPECT_EQ(rig_.allocator.free_pages(), rig_.free_after_probe);
}

TEST_P(DriverQueueResizeTest, QueueThatTheDeviceDoesNotTakeStaysAsItWas) {
  rig_.device.largest_queue = 256;
  rig_.device.deaf = true;
  rig_.resize(100);
  rig_.device.deaf = false;
  const std::uint64_t free_before = rig_.allocator.free_pages();

  EXPECT_EQ(refusal_of(inflate_queue(), 512), Errc::kBadQueueConfig);

  EXPECT_EQ(rig_.device.configs[inflate_queue()].size, 256u);
  EXPECT_EQ(rig_.allocator.free_pages(), free_before);
  EXPECT_EQ(rig_.driver->step({}), kWaitsForTarget);
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

TEST_P(DriverQueueResizeTest, QueueWhoseResetDoesNotEndIsNotSetUpAgain) {
  rig_.device.queue_resets_end = false;

  EXPECT_EQ(refusal_of(kInflateQueue, 64), Errc::kNotSupported);

  EXPECT_EQ(rig_.device.configs[kInflateQueue].size, 256u);
  EXPECT_EQ(rig_.allocator.free_pages(), rig_.free_after_probe);
}

TEST_P(DriverQueueResizeTest, DriverThatStopsResizesNothing) {
  rig_.driver->remove();

  EXPECT_EQ(refusal_of(kInflateQueue, 64), Errc::kNotSupported);
}

TEST_P(DriverQueueResizeTest, DeviceThatNeedsAResetIsAskedForNothing) {
  rig_.device.needs_reset = true;

  EXPECT_EQ(refusal_of(kInflateQueue, 64), Errc::kNotSupported);

  EXPECT_EQ(rig_.device.queue_resets, 0u);
}

TEST(BitmapQueueResizeTest, QueueThatHoldsNoWholeMessageIsRefused) {
  DriverRig rig(Dialect::kPageBitmap);
  rig.device.offered = rig.device.offered.with(Feature::kRingReset);
  rig.options.features = Features{Feature::kRingReset};
  rig.probe();

  const auto done = rig.driver->resize_queue(kInflateQueue, 1);

  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::kInvalidArgument);
}

// ---- queues that a feature brings ---------------------------------------------------------------

class FeaturedQueueResizeTest : public ::testing::Test {
 protected:
  static constexpr std::uint16_t kStatsQueue = 2;
  static constexpr std::uint16_t kReportQueue = 3;

  FeaturedQueueResizeTest() {
    rig_.options.features = Features{Feature::kMustTellHost, Feature::kStatsVq,
                                     Feature::kPageReporting, Feature::kRingReset};
    rig_.options.kernel = &kernel_;
    rig_.options.reporting.capacity = 2;
    rig_.device.offered = rig_.options.features.with(Feature::kVersion1);
    rig_.probe();
    rig_.driver->step(std::chrono::seconds(0));
  }
  ~FeaturedQueueResizeTest() override { rig_.driver.reset(); }  // before the kernel

  DriverRig rig_;
  sim::GuestKernel kernel_{rig_.allocator};
};

TEST_F(FeaturedQueueResizeTest, StatisticsLieInTheNewQueue) {
  rig_.device.answers = false;
  rig_.device.look(kStatsQueue);
  const std::size_t before = rig_.device.messages_on(QueueRole::kStats).size();

  ASSERT_TRUE(rig_.driver->resize_queue(kStatsQueue, 1));

  EXPECT_THAT(rig_.device.messages_on(QueueRole::kStats), SizeIs(before + 1));
  EXPECT_EQ(rig_.device.held(), 1u);
}

TEST_F(FeaturedQueueResizeTest, ReportThatTheDeviceHasNotSeenIsSentAgain) {
  rig_.device.deaf = true;
  rig_.driver->step(std::chrono::seconds(2));
  ASSERT_LT(rig_.allocator.free_pages(), rig_.free_after_probe) << "a report is out";
  rig_.device.deaf = false;

  ASSERT_TRUE(rig_.driver->resize_queue(kReportQueue, 256));
  while (rig_.driver->step(std::chrono::seconds(2)) == kWaitsForAnswer) {
  }

  EXPECT_THAT(rig_.device.messages_on(QueueRole::kReporting), Not(IsEmpty()));
  EXPECT_EQ(rig_.allocator.free_pages(), rig_.free_after_probe);
}

TEST_F(FeaturedQueueResizeTest, ReportThatWasAnsweredIsNotSentAgain) {
  rig_.device.answers = false;
  rig_.driver->step(std::chrono::seconds(2));
  ASSERT_THAT(rig_.device.messages_on(QueueRole::kReporting), SizeIs(1));
  const PageRanges reported = rig_.device.messages_on(QueueRole::kReporting)[0].pages;
  rig_.device.answer();

  ASSERT_TRUE(rig_.driver->resize_queue(kReportQueue, 2));
  rig_.driver->step(std::chrono::seconds(2));

  for (std::size_t i = 1; i < rig_.device.messages_on(QueueRole::kReporting).size(); ++i) {
    EXPECT_NE(rig_.device.messages_on(QueueRole::kReporting)[i].pages, reported);
  }
  EXPECT_GT(rig_.driver->counters().reports, 0u);
}

TEST_F(FeaturedQueueResizeTest, QueueThatHoldsNoWholeReportIsRefused) {
  const auto done = rig_.driver->resize_queue(kReportQueue, 1);

  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::kInvalidArgument);
  EXPECT_EQ(rig_.device.queue_resets, 0u);
}

}  // namespace
}  // namespace vballoon
