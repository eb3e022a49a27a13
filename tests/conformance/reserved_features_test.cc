// SPDX-License-Identifier: MIT
// What rings and addresses are when a feature of them is agreed on (virtio 1.3, section 6), seen
// from a whole device and a whole driver. Names bear the ids of checklist.tsv.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "device/device_fixture.h"
#include "guest/driver_fixture.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kNext;
using testing::kPayloads;
using testing::kWrite;
using testing::le32;
using testing::message_of;
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

// A driver whose addresses are all 2^40 larger than those of guest memory; page numbers are not
// addresses of the device, and are physical whatever stands in between.
class TranslatedRingsConformance : public ::testing::TestWithParam<bool> {
 protected:
  static constexpr std::uint16_t kHintQueue = 2;
  static constexpr std::uint16_t kReportQueue = 3;

  PageRanges hinted_;
  Rig rig_{{.device = {.features = kAgreed.with(Feature::kAccessPlatform)
                                       .with(Feature::kFreePageHint)
                                       .with(Feature::kPageReporting),
                       .on_free_page_hints =
                           [this](std::span<const PageRange> pages) {
                             hinted_.insert(hinted_.end(), pages.begin(), pages.end());
                           }},
            .packed = GetParam(),
            .bus_offset = std::uint64_t{1} << 40}};
};

INSTANTIATE_TEST_SUITE_P(BothRings, TranslatedRingsConformance, ::testing::Bool(),
                         [](const auto& suite) { return suite.param ? "Packed" : "Split"; });

TEST_P(TranslatedRingsConformance, RSV_D_03_PayloadIsReadWhereTheTranslationSays) {
  rig_.start().inflate({5, 6});

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 2}));
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_THAT(rig_.all_errors(), IsEmpty());
}

TEST_P(TranslatedRingsConformance, RSV_D_03_ReportedAndHintedPagesAreTheTranslatedOnes) {
  const std::uint32_t id = rig_.start().device().start_hints().value();
  rig_.send(kHintQueue, {{le32({id})}});
  rig_.send(kHintQueue, message_of(Dialect::kScatterGather, {{7, 2}}));
  rig_.send(kReportQueue, message_of(Dialect::kScatterGather, {{5, 1}, {0x801, 3}}));

  rig_.serve(kHintQueue);
  rig_.serve(kReportQueue);

  EXPECT_THAT(hinted_, ElementsAre(PageRange{7, 2}));
  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 1}, PageRange{0x801, 3}));
  EXPECT_THAT(rig_.all_errors(), IsEmpty());
}

TEST_P(TranslatedRingsConformance, RSV_D_03_PageOutsideTheTranslationIsNotReported) {
  rig_.start();
  const GuestBuffer physical{5 * kPageSize, kPageSize};
  ASSERT_TRUE(rig_.queue(kReportQueue).add({}, std::span(&physical, 1), 0));
  (void)rig_.queue(kReportQueue).publish();

  rig_.serve(kReportQueue);

  EXPECT_THAT(rig_.discarded(), IsEmpty());
  EXPECT_THAT(rig_.completed(kReportQueue), ElementsAre(0u));
  EXPECT_EQ(rig_.errors(Errc::kAddressOutOfRange), 1u);
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
