// SPDX-License-Identifier: MIT
// How a driver takes a device into use, resets it and gives it up (virtio 1.3, sections 2.1 to 2.5,
// 3.1, 3.3 and 6). Names bear the ids of checklist.tsv.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "conformance/traced_device.h"
#include "guest/driver_fixture.h"

namespace vballoon {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using testing::TracedDevice;

constexpr unsigned kSrIov = 37;

// ---- taking a device into use ------------------------------------------------------------------

class DriverSetUpConformance : public ::testing::Test {
 protected:
  // Whether the driver works with the device.
  bool probe() {
    auto driver = sim::BalloonDriver::probe(traced_, rig_.memory, rig_.allocator, rig_.options);
    if (!driver) return false;
    driver_ = std::move(*driver);
    return true;
  }
  void follow_target(std::uint32_t pages) {
    rig_.device.target = pages;
    driver_->step({});
  }
  // Whether no status that was written lacks a bit of the one before.
  bool statuses_only_grow() const {
    return std::ranges::adjacent_find(rig_.device.statuses, [](int before, int after) {
             return (before & ~after) != 0;
           }) == rig_.device.statuses.end();
  }

  testing::DriverRig rig_;
  testing::FakeDevice& device_ = rig_.device;
  TracedDevice traced_{rig_.device};
  std::unique_ptr<sim::BalloonDriver> driver_;
};

TEST_F(DriverSetUpConformance, INI_G_01_StepsAreTakenInTheirOrder) {
  ASSERT_TRUE(probe());

  EXPECT_THAT(traced_.trace(), ElementsAre("status 0", "read status", "status 1", "status 3",
                                           "read features", "write features", "status 11",
                                           "read status", "queue 0", "queue 1", "status 15"));
}

TEST_F(DriverSetUpConformance, INI_G_03_ConfigurationIsNotWrittenWhileFeaturesAreChosen) {
  ASSERT_TRUE(probe());

  EXPECT_THAT(traced_.before("status 11"), Each(Not(StartsWith("write config"))));
}

TEST_F(DriverSetUpConformance, INI_G_04_FeaturesAreWrittenOnceAndBeforeFeaturesOk) {
  ASSERT_TRUE(probe());

  EXPECT_THAT(traced_.beginning_with("write features"), ElementsAre("write features"));
  EXPECT_THAT(traced_.before("status 11"), Contains("write features"));
}

TEST_F(DriverSetUpConformance, INI_G_05_DriverWithoutAQueueSetsFailed) {
  device_.refuses_queues = Errc::kBadQueueConfig;

  ASSERT_FALSE(probe());

  EXPECT_EQ(device_.statuses.back() & 128, 128);
}

TEST_F(DriverSetUpConformance, INI_G_06_NothingIsDoneAfterFailed) {
  device_.refuses_queues = Errc::kBadQueueConfig;

  ASSERT_FALSE(probe());

  EXPECT_THAT(traced_.from("status 128"), ElementsAre("status 128"));
}

TEST_F(DriverSetUpConformance, INI_G_06_RefusedFeaturesEndTheInitialisation) {
  device_.accepts_features = false;

  ASSERT_FALSE(probe());

  EXPECT_THAT(traced_.beginning_with("queue"), IsEmpty());
  EXPECT_EQ(traced_.trace().back(), "status 131");
}

TEST_F(DriverSetUpConformance, INI_G_07_NoKickIsSentBeforeDriverOk) {
  device_.target = 1000;

  ASSERT_TRUE(probe());

  EXPECT_THAT(traced_.before("status 15"), Each(Not(StartsWith("kick"))));
}

TEST_F(DriverSetUpConformance, NTF_I_01_KickSaysWhichQueueHasBuffers) {
  ASSERT_TRUE(probe());

  follow_target(100);
  follow_target(0);

  EXPECT_THAT(traced_.beginning_with("kick"), ElementsAre("kick 0", "kick 1"));
}

TEST_F(DriverSetUpConformance, DSF_G_01_StatusShowsEachStepThatIsDone) {
  ASSERT_TRUE(probe());

  EXPECT_THAT(device_.statuses, ElementsAre(0, 1, 1 | 2, 1 | 2 | 8, 1 | 2 | 8 | 4));
}

TEST_F(DriverSetUpConformance, DSF_G_02_NoBitIsClearedOnTheWayToDriverOk) {
  ASSERT_TRUE(probe());

  EXPECT_TRUE(statuses_only_grow());
}

TEST_F(DriverSetUpConformance, DSF_G_02_NoBitIsClearedOnTheWayToFailed) {
  device_.offered = Features();

  ASSERT_FALSE(probe());

  EXPECT_TRUE(statuses_only_grow());
}

TEST_F(DriverSetUpConformance, DSF_G_03_DriverThatFailedResetsTheDeviceFirst) {
  device_.refuses_queues = Errc::kBadQueueConfig;
  ASSERT_FALSE(probe());
  device_.refuses_queues.reset();
  device_.statuses.clear();

  ASSERT_TRUE(probe());

  EXPECT_EQ(device_.statuses.front(), 0);
}

TEST_F(DriverSetUpConformance, DSF_G_04_AnswersOfADeviceThatNeedsAResetAreNotWaitedFor) {
  ASSERT_TRUE(probe());
  device_.answers = false;
  follow_target(100);
  ASSERT_EQ(driver_->step({}), testing::kWaitsForAnswer);

  device_.needs_reset = true;

  EXPECT_EQ(driver_->step({}).kind, sim::DriverWait::Kind::kNeedsReset);
}

TEST_F(DriverSetUpConformance, DSF_G_04_NextProbeTakesTheDeviceIntoUseAgain) {
  ASSERT_TRUE(probe());
  device_.needs_reset = true;
  follow_target(100);

  ASSERT_TRUE(probe());
  follow_target(100);

  EXPECT_EQ(device_.ballooned().count(), 100u);
}

// ---- reset and cleanup -------------------------------------------------------------------------

TEST_F(DriverSetUpConformance, RST_G_01_NothingIsDoneUntilTheStatusReadsZero) {
  device_.reads_during_reset = 3;

  ASSERT_TRUE(probe());

  EXPECT_THAT(traced_.before("status 1"),
              ElementsAre("status 0", "read status", "read status", "read status", "read status"));
}

TEST_F(DriverSetUpConformance, RST_G_01_DeviceWhoseResetDoesNotEndIsGivenUp) {
  device_.reads_during_reset = 1 << 30;

  EXPECT_FALSE(probe());

  EXPECT_THAT(traced_.beginning_with("read features"), IsEmpty());
}

TEST_F(DriverSetUpConformance, CLN_G_02_PagesOfRingsAreKeptUntilNoQueueIsLive) {
  const std::uint64_t free_before = rig_.allocator.free_pages();
  std::vector<std::uint64_t> free_at_reset;
  device_.on_status = [&](std::uint8_t status) {
    if (status == 0) free_at_reset.push_back(rig_.allocator.free_pages());
  };
  device_.refuses_queues = Errc::kBadQueueConfig;
  device_.first_refused_queue = kDeflateQueue;

  ASSERT_FALSE(probe());

  EXPECT_THAT(free_at_reset, ElementsAre(free_before, ::testing::Lt(free_before)));
  EXPECT_EQ(rig_.allocator.free_pages(), free_before);
}

TEST_F(DriverSetUpConformance, CLN_G_02_PagesOfQueuesThatMayBeLiveAreNeverUsedAgain) {
  const std::uint64_t free_before = rig_.allocator.free_pages();
  device_.on_status = [&](std::uint8_t status) {
    if (status == 11) device_.reads_during_reset = 1 << 30;
  };
  device_.refuses_queues = Errc::kBadQueueConfig;
  device_.first_refused_queue = kDeflateQueue;

  ASSERT_FALSE(probe());

  EXPECT_LT(rig_.allocator.free_pages(), free_before);
}

// ---- features ----------------------------------------------------------------------------------

TEST_F(DriverSetUpConformance, FTB_G_01_FeaturesThatAreNotOfferedAreNotAccepted) {
  device_.offered = Features{Feature::kVersion1};

  ASSERT_TRUE(probe());

  EXPECT_EQ(device_.accepted, Features{Feature::kVersion1});
}

TEST_F(DriverSetUpConformance, FTB_G_03_OfferIsLookedAtBeforeTheDeviceIsWorkedWith) {
  device_.offered = Features();

  ASSERT_FALSE(probe());

  EXPECT_THAT(traced_.trace(), ElementsAre("status 0", "read status", "status 1", "status 3",
                                           "read features", "read status", "status 131"));
}

TEST_F(DriverSetUpConformance, FTB_G_04_FTB_G_08_BitsWithoutAMeaningDoNotMatter) {
  // Reserved ones, those of other transports, and those that no device type has.
  device_.offered = device_.offered.with_bit(24).with_bit(31).with_bit(49).with_bit(63);

  ASSERT_TRUE(probe());
  follow_target(100);

  EXPECT_EQ(driver_->ballooned_pages(), 100u);
}

TEST_F(DriverSetUpConformance, FTB_G_05_BitsWithoutAMeaningAreNotAccepted) {
  device_.offered = device_.offered.with_bit(24).with_bit(31).with_bit(49).with_bit(63);

  ASSERT_TRUE(probe());

  EXPECT_EQ(device_.accepted, testing::FakeDevice::kStandardFeatures);
}

TEST_F(DriverSetUpConformance, FTB_G_06_DriverGoesOnWithoutTheDialectItKnows) {
  rig_.options.dialect = Dialect::kPageBitmap;

  ASSERT_TRUE(probe());
  follow_target(100);

  EXPECT_EQ(driver_->dialect(), Dialect::kStandard);
  EXPECT_EQ(device_.ballooned().count(), 100u);
}

TEST_F(DriverSetUpConformance, FTB_G_07_DriverThatCannotDoWithoutSetsFailedAndStops) {
  device_.offered = Features{Feature::kMustTellHost};

  ASSERT_FALSE(probe());

  EXPECT_EQ(traced_.trace().back(), "status 131");
  EXPECT_THAT(traced_.beginning_with("queue"), IsEmpty());
}

TEST_F(DriverSetUpConformance, RSV_G_01_Version1IsAcceptedEvenWhereNothingElseIs) {
  rig_.options.features = Features();

  ASSERT_TRUE(probe());

  EXPECT_EQ(device_.accepted, Features(std::uint64_t{1} << 32));
}

TEST_F(DriverSetUpConformance, RSV_G_02_DeviceWithoutVersion1IsGivenUp) {
  device_.offered = testing::FakeDevice::kStandardFeatures.without(Feature::kVersion1);

  EXPECT_FALSE(probe());
}

TEST_F(DriverSetUpConformance, RSV_G_05_AddressesOfRingsArePhysicalOnesOfTheDriversPages) {
  ASSERT_TRUE(probe());

  const std::uint64_t ring = device_.configs[kInflateQueue].descriptor_table;
  EXPECT_LT(ring, testing::kGuestPages << kPageShift);
  EXPECT_FALSE(rig_.allocator.is_free(ring >> kPageShift));
}

TEST_F(DriverSetUpConformance, RSV_G_10_SrIovIsNotAccepted) {
  device_.offered = device_.offered.with_bit(kSrIov);

  ASSERT_TRUE(probe());

  EXPECT_FALSE(device_.accepted.has_bit(kSrIov));
}

TEST_F(DriverSetUpConformance, CFG_G_03_FieldsOfFeaturesThatAreNotOfferedAreNotTouched) {
  ASSERT_TRUE(probe());

  follow_target(100);

  EXPECT_THAT(traced_.beginning_with("read config"), Each(std::string("read config 0")));
  EXPECT_THAT(traced_.beginning_with("write config"), ElementsAre("write config 4"));
}

}  // namespace
}  // namespace vballoon
