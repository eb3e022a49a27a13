// SPDX-License-Identifier: MIT
// What rings and addresses are when a feature of them is agreed on (virtio 1.3, section 6), seen
// from a whole device and a whole driver. Names bear the ids of checklist.tsv.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <utility>

#include "device/device_fixture.h"
#include "guest/driver_fixture.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using testing::kNext;
using testing::kPayloads;
using testing::kWrite;
using testing::le32;
using testing::Rig;

constexpr Features kAgreed{Feature::kMustTellHost, Feature::kVersion1};

// ---- addresses of the device --------------------------------------------------------------------

class AccessPlatformConformance : public ::testing::Test {
 protected:
  BalloonOptions translating(Features features) {
    return {.features = features,
            .translate_address = [this](std::uint64_t address, std::uint64_t length, bool) {
              ++translated_;
              return std::optional(TranslatedPiece{address, length});
            }};
  }

  int translated_ = 0;
};

TEST_F(AccessPlatformConformance, RSV_D_03_DeviceThatTranslatesOffersIt) {
  Rig rig({.device = translating(kAgreed.with(Feature::kAccessPlatform))});

  rig.start();

  EXPECT_TRUE(rig.device().offered_features().has(Feature::kAccessPlatform));
  EXPECT_GT(translated_, 0);
}

TEST_F(AccessPlatformConformance, RSV_D_03_DeviceThatDoesNotOfferItDoesNotTranslate) {
  Rig rig({.device = translating(kAgreed)});

  rig.start().inflate({5});

  EXPECT_FALSE(rig.device().offered_features().has(Feature::kAccessPlatform));
  EXPECT_EQ(translated_, 0);
  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{5, 1}));
}

// ---- order --------------------------------------------------------------------------------------

// The second buffer is malformed and known to be so before the first one is dealt with.
TEST(InOrderConformance, RSV_D_05_BuffersComeBackAsTheyBecameAvailable) {
  Rig rig({.device = {.features = kAgreed.with(Feature::kInOrder)}});
  rig.start();
  testing::RawRing ring = rig.raw_split(kInflateQueue);
  ASSERT_TRUE(rig.memory().write(kPayloads, le32({5, 6})));
  ring.offer(0, {kPayloads, 4, 0, 0});
  ring.describe(1, {kPayloads, 4, kWrite | kNext, 2});
  ring.describe(2, {kPayloads, 4, 0, 0});
  ring.offer(1);
  ring.offer(3, {kPayloads + 4, 4, 0, 0});

  rig.serve(kInflateQueue);

  ASSERT_EQ(ring.used_index(), 3u);
  EXPECT_EQ(ring.used(0).id, 0u);
  EXPECT_EQ(ring.used(1).id, 1u);
  EXPECT_EQ(ring.used(2).id, 3u);
  EXPECT_EQ(rig.errors(Errc::kReadableAfterWritable), 1u);
}

// ---- driver -------------------------------------------------------------------------------------

TEST(PackedRingConformance, RSV_G_06_PackedRingsAreAcceptedWhereTheyAreOnOffer) {
  testing::DriverRig rig;
  rig.options.features = Features(~std::uint64_t{0});
  rig.device.offered = rig.device.offered.with(Feature::kRingPacked);

  rig.probe();

  EXPECT_TRUE(rig.device.accepted.has(Feature::kRingPacked));
  EXPECT_TRUE(rig.device.configs[kInflateQueue].packed);
}

// The addresses that it gives are physical ones, as nothing translates them.
TEST(AccessPlatformDriverConformance, RSV_G_03_AccessPlatformIsAcceptedWhereItIsOnOffer) {
  testing::DriverRig rig;
  rig.options.features = Features(~std::uint64_t{0});
  rig.device.offered = rig.device.offered.with(Feature::kAccessPlatform);

  rig.probe();

  EXPECT_TRUE(rig.device.accepted.has(Feature::kAccessPlatform));
}

}  // namespace
}  // namespace vballoon
