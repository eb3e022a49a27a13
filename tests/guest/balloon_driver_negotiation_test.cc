// SPDX-License-Identifier: MIT
// How the simulated driver takes a device into use (src/guest/driver_set_up.cc).
#include "guest/driver_fixture.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::vballoon::testing::DriverRig;
using ::vballoon::testing::kGuestPages;
using ::vballoon::testing::kWaitsForTarget;

class BalloonDriverNegotiationTest : public ::testing::Test {
 protected:
  Result<std::unique_ptr<sim::BalloonDriver>> probe(DriverRig& rig) {
    return sim::BalloonDriver::probe(rig.device, rig.memory, rig.allocator, rig.options);
  }

  DriverRig standard_;
  DriverRig bitmap_{Dialect::kPageBitmap};
  DriverRig chunk_{Dialect::kScatterGather};
};

TEST_F(BalloonDriverNegotiationTest, StatusBitsAreSetInTheOrderOfTheSpecification) {
  standard_.probe();

  EXPECT_THAT(standard_.device.statuses, ElementsAre(0, 1, 1 | 2, 1 | 2 | 8, 1 | 2 | 8 | 4));
}

TEST_F(BalloonDriverNegotiationTest, FeaturesThatAreOfferedAndKnownAreAccepted) {
  const Features known{Feature::kVersion1, Feature::kMustTellHost, Feature::kEventIdx};
  standard_.device.offered = known;

  standard_.probe();

  EXPECT_EQ(standard_.device.accepted, known);
  EXPECT_EQ(standard_.driver->features(), known);
}

TEST_F(BalloonDriverNegotiationTest, UnknownFeaturesAreNotAccepted) {
  standard_.device.offered = Features{Feature::kVersion1}.with_bit(5).with_bit(40);

  standard_.probe();

  EXPECT_EQ(standard_.device.accepted, Features{Feature::kVersion1});
}

TEST_F(BalloonDriverNegotiationTest, FeatureThatTheOptionsLeaveOutIsNotAccepted) {
  standard_.options.features = Features();

  standard_.probe();

  EXPECT_EQ(standard_.device.accepted, Features{Feature::kVersion1});
}

TEST_F(BalloonDriverNegotiationTest, LegacyDeviceIsGivenUp) {
  standard_.device.offered = Features{Feature::kMustTellHost};

  const auto driver = probe(standard_);

  ASSERT_FALSE(driver.has_value());
  EXPECT_EQ(driver.error().code, Errc::kFeaturesNotOffered);
  EXPECT_THAT(standard_.device.statuses, ElementsAre(0, 1, 1 | 2, 1 | 2 | 128));
}

TEST_F(BalloonDriverNegotiationTest, DeviceWhoseResetDoesNotEndIsGivenUp) {
  standard_.device.reads_during_reset = 1 << 30;

  const auto driver = probe(standard_);

  ASSERT_FALSE(driver.has_value());
  EXPECT_EQ(driver.error().code, Errc::kNotSupported);
}

TEST_F(BalloonDriverNegotiationTest, DeviceThatRefusesTheFeaturesIsGivenUp) {
  standard_.device.accepts_features = false;

  const auto driver = probe(standard_);

  ASSERT_FALSE(driver.has_value());
  EXPECT_EQ(driver.error().code, Errc::kFeaturesNotOffered);
  EXPECT_NE(standard_.device.statuses.back() & kStatusFailed, 0);
}

TEST_F(BalloonDriverNegotiationTest, DeviceThatRefusesAQueueIsGivenUpWithItsReason) {
  standard_.device.refuses_queues = Errc::kBadQueueConfig;

  const auto driver = probe(standard_);

  ASSERT_FALSE(driver.has_value());
  EXPECT_EQ(driver.error().code, Errc::kBadQueueConfig);
  EXPECT_NE(standard_.device.statuses.back() & kStatusFailed, 0);
}

TEST_F(BalloonDriverNegotiationTest, ProbeThatFailsGivesItsPagesBack) {
  standard_.device.refuses_queues = Errc::kBadQueueConfig;
  const std::uint64_t free_before = standard_.allocator.free_pages();

  const auto driver = probe(standard_);

  ASSERT_FALSE(driver);
  EXPECT_EQ(standard_.allocator.free_pages(), free_before);
}

TEST_F(BalloonDriverNegotiationTest, ProbeThatFailsLeavesNoShrinkerBehind) {
  sim::GuestKernel kernel(standard_.allocator);
  standard_.options.kernel = &kernel;
  standard_.options.features = {Feature::kFreePageHint, Feature::kPageReporting};
  standard_.device.offered = standard_.options.features.with(Feature::kVersion1);
  standard_.device.refuses_queues = Errc::kBadQueueConfig;
  standard_.device.first_refused_queue = 3;

  ASSERT_FALSE(probe(standard_));

  const sim::ProcessId process = kernel.start_process();
  EXPECT_FALSE(kernel.touch(process, 0, 2 * kGuestPages)) << "the shrinkers were asked";
}

TEST_F(BalloonDriverNegotiationTest, GuestWithoutMemoryForTheRingsCannotDrive) {
  while (standard_.allocator.allocate(0)) {
  }

  const auto driver = probe(standard_);

  ASSERT_FALSE(driver.has_value());
  EXPECT_EQ(driver.error().code, Errc::kNotSupported);
}

TEST_F(BalloonDriverNegotiationTest, QueueSizeAndNegotiatedRingFeaturesReachTheDevice) {
  standard_.device.offered =
      Features{Feature::kVersion1, Feature::kEventIdx, Feature::kIndirectDesc};
  standard_.options.queue_size = 64;

  standard_.probe();

  EXPECT_EQ(standard_.device.configs[kDeflateQueue].size, 64);
  EXPECT_TRUE(standard_.device.configs[kDeflateQueue].event_index);
  EXPECT_TRUE(standard_.device.configs[kDeflateQueue].indirect);
}

TEST_F(BalloonDriverNegotiationTest, RingsAndBufferLieInPagesTakenFromTheAllocator) {
  standard_.probe();

  const Pfn inflate_ring = standard_.device.configs[kInflateQueue].descriptor_table >> kPageShift;
  const Pfn deflate_ring = standard_.device.configs[kDeflateQueue].descriptor_table >> kPageShift;
  EXPECT_NE(inflate_ring, deflate_ring);
  EXPECT_FALSE(standard_.allocator.is_free(inflate_ring));
  EXPECT_FALSE(standard_.allocator.is_free(deflate_ring));
}

TEST_F(BalloonDriverNegotiationTest, DialectOfADeviceThatOffersItsBitIsSpoken) {
  bitmap_.probe();
  chunk_.probe();

  EXPECT_EQ(bitmap_.driver->dialect(), Dialect::kPageBitmap);
  EXPECT_TRUE(bitmap_.device.accepted.has_bit(published_bit(Dialect::kPageBitmap)));
  EXPECT_EQ(chunk_.driver->dialect(), Dialect::kScatterGather);
}

TEST_F(BalloonDriverNegotiationTest, WithoutTheDialectsBitThePagesGoInStandardArrays) {
  bitmap_.device.offered = bitmap_.device.offered.without_bit(published_bit(Dialect::kPageBitmap));
  bitmap_.probe();

  bitmap_.resize(300);

  EXPECT_EQ(bitmap_.driver->dialect(), Dialect::kStandard);
  ASSERT_EQ(bitmap_.device.messages.size(), 2u);
  EXPECT_EQ(bitmap_.device.messages[0].payload.size(), 4u * 256);
}

TEST_F(BalloonDriverNegotiationTest, StandardDriverDoesNotAcceptTheBitOfADialect) {
  bitmap_.options.dialect = Dialect::kStandard;

  bitmap_.probe();

  EXPECT_FALSE(bitmap_.device.accepted.has_bit(published_bit(Dialect::kPageBitmap)));
  EXPECT_EQ(bitmap_.driver->dialect(), Dialect::kStandard);
}

// Single pages are enough for small rings and an array, not for a bitmap's 32 KiB.
TEST_F(BalloonDriverNegotiationTest, WithoutMemoryForBitmapsTheBitIsNotAcceptedAndArraysAreSent) {
  bitmap_.options.queue_size = 64;
  bitmap_.punch_holes();
  bitmap_.probe();

  EXPECT_EQ(bitmap_.resize(1000), kWaitsForTarget);

  EXPECT_FALSE(bitmap_.device.accepted.has_bit(published_bit(Dialect::kPageBitmap)));
  EXPECT_EQ(bitmap_.driver->dialect(), Dialect::kStandard);
  EXPECT_EQ(bitmap_.device.messages.size(), 4u);
  EXPECT_EQ(bitmap_.device_balloon(), bitmap_.balloon());
}

TEST_F(BalloonDriverNegotiationTest, WithARingOfOneDescriptorTheBitIsNotAcceptedAndArraysAreSent) {
  bitmap_.options.queue_size = 1;
  bitmap_.probe();
  bitmap_.resize(64);

  EXPECT_EQ(bitmap_.driver->dialect(), Dialect::kStandard);
  EXPECT_EQ(bitmap_.driver->ballooned_pages(), 64u);
}

TEST_F(BalloonDriverNegotiationTest, TargetThatStandsBeforeTheProbeIsFollowedAtTheFirstStep) {
  standard_.device.target = 100;
  standard_.probe();

  EXPECT_EQ(standard_.driver->step({}), kWaitsForTarget);

  EXPECT_EQ(standard_.driver->ballooned_pages(), 100u);
}

TEST_F(BalloonDriverNegotiationTest, NoKickIsSentBeforeDriverOk) {
  standard_.device.target = kGuestPages / 2;

  standard_.probe();

  EXPECT_EQ(standard_.device.kicks, 0u);
}

}  // namespace
}  // namespace vballoon
