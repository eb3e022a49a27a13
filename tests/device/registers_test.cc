// SPDX-License-Identifier: MIT
// What a driver reads and writes of a device: features, status, configuration
// (src/device/registers.cc and the public calls around it).
#include "device/registers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "device/device_fixture.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using testing::everything_but;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using testing::Rig;
using testing::speaking;

Features offer_of(BalloonOptions options) {
  return Rig({.device = std::move(options), .packed = false}).offered_features();
}

// Why a device with these options cannot be made.
Error creation_error(BalloonOptions options) {
  return BalloonDevice::create(testing::memory_with_hole(),
                               std::make_unique<testing::RecordingDiscarder>(), std::move(options))
      .error();
}

// ---- creation and offer -------------------------------------------------------------------------

TEST(DeviceOfferTest, StandardDeviceOffersItsFeaturesAndVersion1) {
  EXPECT_EQ(offer_of({}), (Features{Feature::kMustTellHost, Feature::kIndirectDesc,
                                    Feature::kEventIdx, Feature::kVersion1}));
}

TEST(DeviceOfferTest, Version1IsOfferedWhateverTheOptionsSay) {
  EXPECT_EQ(offer_of({.features = Features()}), Features{Feature::kVersion1});
}

TEST(DeviceOfferTest, DialectIsAnnouncedByItsBit) {
  EXPECT_TRUE(offer_of(speaking(Dialect::kPageBitmap)).has_bit(3));
}

TEST(DeviceOfferTest, DialectBitCanBeMoved) {
  EXPECT_EQ(offer_of({.dialect = Dialect::kScatterGather, .dialect_bit = 63}),
            everything_but(Feature::kVersion1).with(Feature::kVersion1).with_bit(63));
}

TEST(DeviceOfferTest, StandardDialectHasNoBit) {
  EXPECT_FALSE(offer_of({.dialect_bit = 5}).has_bit(5));
}

// It would be negotiated by every driver that speaks the dialect.
TEST(DeviceCreationTest, DialectBitOfMustTellHostIsRefusedEvenWhereThatIsNotOffered) {
  EXPECT_EQ(
      creation_error({.dialect = Dialect::kPageBitmap, .dialect_bit = 0, .features = Features()})
          .code,
      Errc::kInvalidArgument);
}

TEST(DeviceCreationTest, FeaturesThatAreNotImplementedAreRefusedByNumber) {
  const Error error = creation_error({.features = Features().with_bit(37)});

  EXPECT_EQ(error.code, Errc::kInvalidArgument);
  EXPECT_THAT(error.message(), HasSubstr("0x2000000000"));
}

TEST(DeviceCreationTest, DialectBitOfAReservedFeatureIsRefusedWithAdvice) {
  const Error error = creation_error({.dialect = Dialect::kPageBitmap, .dialect_bit = 32});

  EXPECT_EQ(error.code, Errc::kInvalidArgument);
  EXPECT_THAT(error.message(), HasSubstr("dialect bit 32"));
  EXPECT_THAT(error.message(), HasSubstr("1 to 23 or 50 to 63"));
}

TEST(DeviceCreationTest, DialectBitBeyondAllBitsIsRefused) {
  EXPECT_EQ(creation_error({.dialect = Dialect::kPageBitmap, .dialect_bit = 64}).code,
            Errc::kInvalidArgument);
}

TEST(DeviceCreationTest, DialectBitOfAnOfferedFeatureIsRefused) {
  const Error error = creation_error({.dialect = Dialect::kPageBitmap,
                                      .features = Features{Feature::kFreePageHint},
                                      .on_free_page_hints = [](std::span<const PageRange>) {}});

  EXPECT_EQ(error.code, Errc::kInvalidArgument);
  EXPECT_THAT(error.message(), HasSubstr("dialect bit 3"));
}

TEST(DeviceCreationTest, HintsThatNobodyTakesAreRefused) {
  EXPECT_THAT(creation_error({.features = Features{Feature::kFreePageHint}}).message(),
              HasSubstr("on_free_page_hints"));
}

TEST(DeviceCreationTest, RequiringMustTellHostWithoutOfferingItIsRefused) {
  EXPECT_EQ(creation_error({.features = Features(), .require_must_tell_host = true}).code,
            Errc::kInvalidArgument);
}

TEST(DeviceCreationTest, BudgetOfNothingIsRefused) {
  EXPECT_EQ(creation_error({.budget = {.pages = 0}}).code, Errc::kInvalidArgument);
  EXPECT_EQ(creation_error({.budget = {.bytes = 0}}).code, Errc::kInvalidArgument);
}

TEST(DeviceCreationTest, DeviceWithoutMemoryIsRefused) {
  const auto device =
      BalloonDevice::create(nullptr, std::make_unique<testing::RecordingDiscarder>());

  EXPECT_EQ(device.error().code, Errc::kInvalidArgument);
}

TEST(DeviceCreationTest, DeviceWithoutDiscarderIsRefused) {
  const auto device = BalloonDevice::create(testing::memory_with_hole(), nullptr);

  EXPECT_EQ(device.error().code, Errc::kInvalidArgument);
}

// ---- features and status ------------------------------------------------------------------------

class DeviceStatusTest : public ::testing::Test {
 protected:
  // Accepts these features and asks for FEATURES_OK; answers the status that stands then.
  std::uint8_t accept(Features features) {
    rig_.write_status(kStatusAcknowledge | kStatusDriver);
    rig_.write_features(features);
    rig_.write_status(Rig::kNegotiated);
    return rig_.read_status();
  }

  Rig rig_;
};

TEST_F(DeviceStatusTest, FreshDeviceReadsZero) { EXPECT_EQ(rig_.read_status(), 0); }

TEST_F(DeviceStatusTest, OfferedFeaturesAreTaken) {
  EXPECT_EQ(accept(rig_.offered_features()), Rig::kNegotiated);
  EXPECT_THAT(rig_.all_errors(), IsEmpty());
}

TEST_F(DeviceStatusTest, FeatureThatWasNotOfferedKeepsFeaturesOkClear) {
  EXPECT_EQ(accept(Features{Feature::kVersion1}.with_bit(20)), kStatusAcknowledge | kStatusDriver);
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kFeaturesNotOffered, 1u)));
}

TEST_F(DeviceStatusTest, DriverWithoutVersion1IsRefused) {
  EXPECT_EQ(accept(everything_but(Feature::kVersion1)), kStatusAcknowledge | kStatusDriver);
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kLegacyDriver, 1u)));
  EXPECT_THAT(rig_.log(), ElementsAre(HasSubstr("legacy driver")));
}

TEST(DeviceInsistsTest, BAL_D_01_DriverWithoutMustTellHostIsRefusedIfTheDeviceInsists) {
  Rig rig({.device = {.require_must_tell_host = true},
           .accepted = everything_but(Feature::kMustTellHost)});

  rig.negotiate();

  EXPECT_EQ(rig.read_status(), kStatusAcknowledge | kStatusDriver);
  EXPECT_THAT(rig.all_errors(), ElementsAre(Pair(Errc::kMustTellHostNeeded, 1u)));
}

TEST(DeviceInsistsTest, DriverWithMustTellHostIsTaken) {
  Rig rig({.device = {.require_must_tell_host = true}});

  rig.negotiate();

  EXPECT_EQ(rig.read_status(), Rig::kNegotiated);
}

TEST_F(DeviceStatusTest, RefusedDriverMayTryAgainWithLess) {
  accept(Features(~std::uint64_t{0}));

  EXPECT_EQ(accept(Features{Feature::kVersion1}), Rig::kNegotiated);
}

TEST_F(DeviceStatusTest, FeaturesWrittenAfterFeaturesOkDoNotStopTheDriver) {
  accept(Features{Feature::kVersion1});

  rig_.write_features(Features(~std::uint64_t{0}));
  rig_.write_status(Rig::kRunning);

  EXPECT_EQ(rig_.read_status(), Rig::kRunning);
}

TEST_F(DeviceStatusTest, DriverOkWithoutFeaturesOkIsRefused) {
  rig_.write_status(kStatusAcknowledge | kStatusDriver | kStatusDriverOk);

  EXPECT_EQ(rig_.read_status(), 0);
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kBadStatus, 1u)));
}

TEST_F(DeviceStatusTest, DriverOkTogetherWithFeaturesOkIsRefused) {
  rig_.write_features(rig_.offered_features());

  rig_.write_status(Rig::kRunning);

  EXPECT_EQ(rig_.read_status(), 0);
  EXPECT_EQ(rig_.errors(Errc::kBadStatus), 1u);
}

TEST_F(DeviceStatusTest, ClearedBitIsRefused) {
  accept(rig_.offered_features());

  rig_.write_status(kStatusAcknowledge | kStatusFeaturesOk);

  EXPECT_EQ(rig_.read_status(), Rig::kNegotiated);
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kBadStatus, 1u)));
}

TEST_F(DeviceStatusTest, FailedIsKept) {
  accept(rig_.offered_features());

  rig_.write_status(Rig::kNegotiated | kStatusFailed);

  EXPECT_EQ(rig_.read_status(), Rig::kNegotiated | kStatusFailed);
}

TEST_F(DeviceStatusTest, DriverCannotSetNeedsReset) {
  accept(rig_.offered_features());

  rig_.write_status(Rig::kNegotiated | kStatusNeedsReset);

  EXPECT_EQ(rig_.read_status(), Rig::kNegotiated);
}

TEST(RegistersTest, FeaturesWrittenAfterFeaturesOkAreNotNegotiated) {
  Registers registers(Features{Feature::kVersion1, Feature::kMustTellHost}, Features());
  registers.write_features(Features{Feature::kVersion1});
  ASSERT_EQ(registers.write_status(kStatusFeaturesOk), std::nullopt);

  registers.write_features(registers.offered());
  ASSERT_EQ(registers.write_status(kStatusFeaturesOk | kStatusDriverOk), std::nullopt);

  EXPECT_EQ(registers.negotiated(), Features{Feature::kVersion1});
}

TEST(RegistersTest, DriverThatWritesBackNeedsResetIsNotRefused) {
  Registers registers(Features{Feature::kVersion1}, Features());
  ASSERT_EQ(registers.write_status(kStatusAcknowledge), std::nullopt);
  registers.require_reset();

  EXPECT_EQ(registers.write_status(kStatusAcknowledge | kStatusNeedsReset | kStatusDriver),
            std::nullopt);
  EXPECT_EQ(registers.status(), kStatusAcknowledge | kStatusNeedsReset | kStatusDriver);
}

TEST(RegistersTest, DriverThatDoesNotKnowNeedsResetKeepsIt) {
  Registers registers(Features{Feature::kVersion1}, Features());
  registers.require_reset();

  EXPECT_EQ(registers.write_status(kStatusFailed), std::nullopt);
  EXPECT_EQ(registers.status(), kStatusFailed | kStatusNeedsReset);
}

TEST(DeviceResetTest, StatusAndNegotiationAreForgotten) {
  Rig rig;
  rig.start();

  rig.reset();
  rig.write_status(Rig::kNegotiated);

  EXPECT_EQ(rig.read_status(), kStatusAcknowledge | kStatusDriver)
      << "no feature is accepted yet, not even VERSION_1";
}

TEST(DeviceResetTest, TargetAndActualAreKept) {
  Rig rig;
  rig.start();
  ASSERT_TRUE(rig.device().set_target_pages(100));
  rig.write_config32(kActualOffset, 90);

  rig.reset();

  EXPECT_EQ(rig.device().target_pages(), 100u);
  EXPECT_EQ(rig.config32(kNumPagesOffset), 100u);
  EXPECT_EQ(rig.device().actual_pages(), 90u);
}

TEST(DeviceResetTest, LedgerIsEmptied) {
  Rig rig;
  rig.start().inflate({5, 6});

  rig.reset();

  EXPECT_EQ(rig.device().ballooned_pages(), 0u);
  EXPECT_FALSE(rig.device().is_ballooned(5));
}

TEST(DeviceResetTest, PagesOwedAreForgone) {
  Rig rig;
  rig.recorded().fail_at(rig.host(6), 12);
  rig.start().inflate({6});

  rig.reset();

  const BalloonMetrics metrics = rig.device().metrics();
  EXPECT_EQ(metrics.owed_bytes, 0u);
  EXPECT_EQ(metrics.forgone_bytes, kPageSize);
  EXPECT_TRUE(testing::balanced(metrics));
}

TEST(DeviceResetTest, CountersAreKept) {
  Rig rig;
  rig.start().inflate({5, 6});

  rig.reset();

  EXPECT_EQ(rig.device().metrics().inflated_bytes, 2 * kPageSize);
  EXPECT_EQ(rig.device().metrics().inflate_messages, 1u);
}

TEST(DeviceResetTest, DeviceStartsAgain) {
  Rig rig;
  rig.start().inflate({5});
  rig.reset();

  rig.start().inflate({5});

  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_EQ(rig.errors(Errc::kPageAlreadyInflated), 0u);
}

// ---- configuration space ------------------------------------------------------------------------

class DeviceConfigTest : public ::testing::Test {
 protected:
  DeviceConfigTest() {
    if (!rig_.device().set_target_pages(0x0201)) throw std::runtime_error("target");
    rig_.write_config32(kActualOffset, 0x08070605);
  }
  std::vector<int> read(std::uint64_t offset, std::size_t bytes) {
    std::vector<std::byte> out(bytes, std::byte{0xAA});
    rig_.device().read_config(offset, out);
    std::vector<int> values;
    for (const std::byte byte : out) values.push_back(std::to_integer<int>(byte));
    return values;
  }
  void write(std::uint64_t offset, std::vector<int> values) {
    std::vector<std::byte> in;
    for (const int value : values) in.push_back(static_cast<std::byte>(value));
    rig_.device().write_config(offset, in);
  }

  Rig rig_;
};

TEST_F(DeviceConfigTest, WholeSpaceIsLittleEndian) {
  EXPECT_THAT(read(0, 8), ElementsAre(1, 2, 0, 0, 5, 6, 7, 8));
}

TEST_F(DeviceConfigTest, AnyBytesCanBeRead) {
  EXPECT_THAT(read(1, 1), ElementsAre(2));
  EXPECT_THAT(read(3, 3), ElementsAre(0, 5, 6));
}

TEST_F(DeviceConfigTest, ReadAcrossTheEndGivesZerosThere) {
  EXPECT_THAT(read(6, 5), ElementsAre(7, 8, 0, 0, 0));
}

TEST_F(DeviceConfigTest, ReadOutsideGivesZeros) {
  EXPECT_THAT(read(8, 2), ElementsAre(0, 0));
  EXPECT_THAT(read(~std::uint64_t{0}, 2), ElementsAre(0, 0));
  EXPECT_THAT(rig_.all_errors(), IsEmpty());
}

TEST_F(DeviceConfigTest, ActualCanBeWrittenByteByByte) {
  write(5, {0xFF});
  write(6, {0xEE, 0xDD});

  EXPECT_EQ(rig_.device().actual_pages(), 0xDDEEFF05u);
}

TEST_F(DeviceConfigTest, ActualMayBeAnyNumber) {
  rig_.write_config32(kActualOffset, 0xFFFFFFFF);

  EXPECT_EQ(rig_.device().actual_pages(), 0xFFFFFFFFu);
  EXPECT_EQ(rig_.device().ballooned_pages(), 0u) << "what the guest says is not what is booked";
}

TEST_F(DeviceConfigTest, NumPagesCannotBeWritten) {
  rig_.write_config32(kNumPagesOffset, 7);

  EXPECT_EQ(rig_.device().target_pages(), 0x0201u);
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kConfigReadOnly, 1u)));
}

TEST_F(DeviceConfigTest, WriteAcrossBothFieldsChangesNeither) {
  write(2, {9, 9, 9, 9});

  EXPECT_THAT(read(0, 8), ElementsAre(1, 2, 0, 0, 5, 6, 7, 8));
  EXPECT_EQ(rig_.errors(Errc::kConfigReadOnly), 1u);
}

TEST_F(DeviceConfigTest, WriteAcrossTheEndChangesNothing) {
  write(6, {9, 9, 9});

  EXPECT_EQ(rig_.device().actual_pages(), 0x08070605u);
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kConfigOutOfRange, 1u)));
}

TEST_F(DeviceConfigTest, WriteOutsideIsCounted) {
  write(8, {1});
  write(~std::uint64_t{0}, {1, 2});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kConfigOutOfRange, 2u)));
}

}  // namespace
}  // namespace vballoon
