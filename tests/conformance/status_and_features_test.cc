// SPDX-License-Identifier: MIT
// Status, features, reset and configuration of a device (virtio 1.3, sections 2.1 to 2.5 and 6).
// Names bear the ids of checklist.tsv.
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

#include "device/device_fixture.h"

namespace vballoon {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using testing::everything_but;
using ::testing::IsEmpty;
using testing::pfn_message;
using testing::Rig;

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
    rig_.raw_split(kInflateQueue).set_avail_index(1000);
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

TEST_F(DeviceStatusConformance, INI_G_02_ConfigurationIsThereWhileFeaturesAreChosen) {
  ASSERT_TRUE(rig_.device().set_target_pages(7));

  rig_.device().write_status(kStatusAcknowledge | kStatusDriver);

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

}  // namespace
}  // namespace vballoon
