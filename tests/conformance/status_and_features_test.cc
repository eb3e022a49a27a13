// SPDX-License-Identifier: MIT
// Status, features, reset and configuration of a device, and how a driver takes it into use
// (virtio 1.3, sections 2.1 to 2.5, 3.1 and 6). Names bear the ids of checklist.tsv.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "conformance/traced_device.h"
#include "device/device_fixture.h"
#include "guest/driver_fixture.h"

namespace vballoon {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::everything_but;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::pfn_message;
using testing::Rig;
using ::testing::StartsWith;
using testing::TracedDevice;

constexpr unsigned kSrIov = 37;
constexpr unsigned kAdminQueue = 41;

// Why a device with these options cannot be made, if it cannot.
std::optional<Errc> creation_error(BalloonOptions options) {
  const auto device =
      BalloonDevice::create(testing::memory_with_hole(),
                            std::make_unique<testing::RecordingDiscarder>(), std::move(options));
  return device ? std::nullopt : std::optional(device.error().code);
}

// ---- device: status -----------------------------------------------------------------------------

class DeviceStatusConformance : public ::testing::Test {
 protected:
  // The available index of a driver that has lost its mind.
  void break_inflate_queue() {
    rig_.raw(kInflateQueue).set_avail_index(1000);
    rig_.serve(kInflateQueue);
  }
  // Accepts these features and asks for FEATURES_OK; whether it sticks.
  bool accept(Features features) {
    rig_.device().write_status(kStatusAcknowledge | kStatusDriver);
    rig_.device().write_features(features);
    rig_.device().write_status(Rig::kNegotiated);
    return rig_.device().read_status() == Rig::kNegotiated;
  }

  Rig rig_;
};

TEST_F(DeviceStatusConformance, DSF_I_01_StatusIsZeroAtFirstAndBitsHaveTheirNumbers) {
  EXPECT_EQ(rig_.device().read_status(), 0);

  rig_.negotiate();
  EXPECT_EQ(rig_.device().read_status(), 1 | 2 | 8);
  rig_.set_queues().device().write_status(1 | 2 | 8 | 4);
  break_inflate_queue();
  EXPECT_EQ(rig_.device().read_status(), 1 | 2 | 8 | 4 | 64);
  rig_.device().write_status(1 | 2 | 8 | 4 | 64 | 128);
  EXPECT_EQ(rig_.device().read_status(), 1 | 2 | 8 | 4 | 64 | 128);
}

TEST_F(DeviceStatusConformance, DSF_D_01_BuffersAreNotTakenBeforeDriverOk) {
  rig_.negotiate().set_queues();
  rig_.send(kInflateQueue, pfn_message({5}));

  rig_.serve(kInflateQueue);

  EXPECT_THAT(rig_.completed(kInflateQueue), IsEmpty());
  EXPECT_THAT(rig_.discarded(), IsEmpty());
  EXPECT_EQ(rig_.interrupts(kInflateQueue), 0);
}

TEST_F(DeviceStatusConformance, DSF_D_02_RingThatMakesNoSenseNeedsAReset) {
  rig_.start();

  break_inflate_queue();

  EXPECT_EQ(rig_.device().read_status(), Rig::kRunning | kStatusNeedsReset);
}

TEST_F(DeviceStatusConformance, DSF_D_03_NeedOfAResetIsAnnouncedOnceItCanBeRead) {
  std::vector<int> announced;
  rig_.on_config_interrupt = [&] { announced.push_back(rig_.device().read_status()); };
  rig_.start();

  break_inflate_queue();

  EXPECT_THAT(announced, ElementsAre(Rig::kRunning | kStatusNeedsReset));
}

// ---- device: features ---------------------------------------------------------------------------

class FeatureSubsetConformance : public DeviceStatusConformance,
                                 public ::testing::WithParamInterface<unsigned> {
 protected:
  // Each bit of the parameter stands for one feature that may be left out.
  static Features subset() {
    const std::array bits{Feature::kMustTellHost, Feature::kIndirectDesc, Feature::kEventIdx};
    Features features{Feature::kVersion1};
    for (unsigned i = 0; i < bits.size(); ++i) {
      if ((GetParam() >> i & 1) != 0) features = features.with(bits[i]);
    }
    return features;
  }
};

TEST_P(FeatureSubsetConformance, FTB_D_02_AnySelectionWithVersion1IsAccepted) {
  EXPECT_TRUE(accept(subset()));
}

INSTANTIATE_TEST_SUITE_P(All, FeatureSubsetConformance, ::testing::Range(0u, 8u));

TEST_F(DeviceStatusConformance, FTB_D_03_FeaturesOkStaysClearForAFeatureThatWasNotOffered) {
  EXPECT_FALSE(accept(rig_.device().offered_features().with_bit(kAdminQueue)));
  EXPECT_EQ(rig_.device().read_status(), kStatusAcknowledge | kStatusDriver);
}

TEST_F(DeviceStatusConformance, FTB_D_04_FeatureThatIsNotImplementedCannotBeOffered) {
  EXPECT_EQ(creation_error({.features = Features().with_bit(kAdminQueue)}), Errc::kInvalidArgument);
  EXPECT_FALSE(rig_.device().offered_features().has_bit(kAdminQueue));
}

TEST_F(DeviceStatusConformance, FTB_D_05_FeaturesThatWereAcceptedAreAcceptedAfterAReset) {
  const Features accepted = everything_but(Feature::kMustTellHost);
  ASSERT_TRUE(accept(accepted));

  rig_.reset();

  EXPECT_TRUE(accept(accepted));
}

TEST_F(DeviceStatusConformance, FTB_I_01_DialectIsAnnouncedByABitOfTheDeviceType) {
  const auto with_bit = [](unsigned bit) {
    return BalloonOptions{.dialect = Dialect::kPageBitmap, .dialect_bit = bit};
  };

  EXPECT_TRUE(Rig({.device = with_bit(23)}).device().offered_features().has_bit(23));
  EXPECT_EQ(creation_error(with_bit(24)), Errc::kInvalidArgument);
  EXPECT_EQ(creation_error(with_bit(49)), Errc::kInvalidArgument);
  EXPECT_TRUE(Rig({.device = with_bit(50)}).device().offered_features().has_bit(50));
}

TEST_F(DeviceStatusConformance, RSV_D_01_Version1IsOfferedEvenWhereNothingElseIs) {
  Rig bare({.device = {.features = Features()}});

  EXPECT_EQ(bare.device().offered_features(), Features(std::uint64_t{1} << 32));
}

TEST_F(DeviceStatusConformance, RSV_D_02_DriverWithoutVersion1IsRefused) {
  EXPECT_FALSE(accept(everything_but(Feature::kVersion1)));
}

TEST_F(DeviceStatusConformance, RSV_D_10_SrIovCannotBeOffered) {
  EXPECT_EQ(creation_error({.features = Features().with_bit(kSrIov)}), Errc::kInvalidArgument);
  EXPECT_FALSE(rig_.device().offered_features().has_bit(kSrIov));
}

// ---- device: reset ------------------------------------------------------------------------------

TEST_F(DeviceStatusConformance, RST_D_01_StatusIsZeroAfterAReset) {
  rig_.start();

  rig_.reset();

  EXPECT_EQ(rig_.device().read_status(), 0);
}

TEST_F(DeviceStatusConformance, RST_D_01_StatusOfADeviceThatNeededAResetIsZeroAfterIt) {
  rig_.start();
  break_inflate_queue();

  rig_.reset();

  EXPECT_EQ(rig_.device().read_status(), 0);
}

TEST_F(DeviceStatusConformance, RST_D_02_BuffersAreNotTakenAfterAReset) {
  rig_.start();
  rig_.send(kInflateQueue, pfn_message({5}));

  rig_.reset();
  rig_.serve(kInflateQueue);

  EXPECT_THAT(rig_.completed(kInflateQueue), IsEmpty());
  EXPECT_THAT(rig_.discarded(), IsEmpty());
  EXPECT_EQ(rig_.interrupts(kInflateQueue), 0);
}

TEST_F(DeviceStatusConformance, RST_D_02_QueueOfBeforeTheResetIsNotServedAfterTheNextDriverOk) {
  rig_.start();
  rig_.send(kInflateQueue, pfn_message({5}));
  rig_.reset();

  rig_.negotiate().device().write_status(Rig::kRunning);
  rig_.serve(kInflateQueue);

  EXPECT_THAT(rig_.completed(kInflateQueue), IsEmpty());
  EXPECT_THAT(rig_.discarded(), IsEmpty());
}

// ---- device: configuration ----------------------------------------------------------------------

TEST_F(DeviceStatusConformance, CFG_D_01_FieldsCanBeReadBeforeFeaturesOk) {
  ASSERT_TRUE(rig_.device().set_target_pages(7));

  EXPECT_EQ(rig_.config32(kNumPagesOffset), 7u);
}

TEST_F(DeviceStatusConformance, CFG_I_02_NewTargetIsAnnouncedOnceItCanBeRead) {
  std::vector<std::uint32_t> announced;
  rig_.on_config_interrupt = [&] { announced.push_back(rig_.config32(kNumPagesOffset)); };
  rig_.start();

  ASSERT_TRUE(rig_.device().set_target_pages(7));
  ASSERT_TRUE(rig_.device().set_target_pages(3));

  EXPECT_THAT(announced, ElementsAre(7, 3));
}

// ---- driver: taking a device into use -----------------------------------------------------------

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

// ---- driver: reset and cleanup ------------------------------------------------------------------

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

// ---- driver: features ---------------------------------------------------------------------------

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
