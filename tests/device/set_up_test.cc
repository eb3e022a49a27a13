// SPDX-License-Identifier: MIT
// Before the first message: the target, the queues, and when they are served
// (src/device/balloon_device.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <optional>

#include "device/device_fixture.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kRings;
using ::testing::Pair;
using testing::pfn_message;
using testing::Rig;

// ---- target -------------------------------------------------------------------------------------

class DeviceTargetTest : public ::testing::Test {
 protected:
  Rig rig_;
};

TEST_F(DeviceTargetTest, TargetIsWhatTheDriverReads) {
  ASSERT_TRUE(rig_.device().set_target_bytes(3 << 20));

  EXPECT_EQ(rig_.device().target_pages(), 768u);
  EXPECT_EQ(rig_.config32(kNumPagesOffset), 768u);
}

TEST_F(DeviceTargetTest, AllOfGuestMemoryIsAllowed) {
  EXPECT_TRUE(rig_.device().set_target_pages(0x800));
}

TEST_F(DeviceTargetTest, MoreThanGuestMemoryIsRefusedWithBothNumbers) {
  const auto result = rig_.device().set_target_pages(0x801);

  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::kTargetTooLarge);
  EXPECT_THAT(result.error().message(), HasSubstr("2049"));
  EXPECT_THAT(result.error().message(), HasSubstr("2048"));
  EXPECT_EQ(rig_.device().target_pages(), 0u);
}

TEST_F(DeviceTargetTest, BytesThatAreNoWholePagesAreRefused) {
  const auto result = rig_.device().set_target_bytes(4097);

  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::kInvalidArgument);
  EXPECT_THAT(result.error().message(), HasSubstr("4097"));
}

TEST_F(DeviceTargetTest, RunningDriverIsTold) {
  rig_.start();

  ASSERT_TRUE(rig_.device().set_target_pages(7));

  EXPECT_EQ(rig_.config_interrupts(), 1);
}

TEST_F(DeviceTargetTest, SameTargetAgainIsNotTold) {
  rig_.start();
  ASSERT_TRUE(rig_.device().set_target_pages(7));

  ASSERT_TRUE(rig_.device().set_target_pages(7));

  EXPECT_EQ(rig_.config_interrupts(), 1);
}

TEST_F(DeviceTargetTest, DriverThatHasNotStartedIsNotTold) {
  rig_.negotiate();

  ASSERT_TRUE(rig_.device().set_target_pages(7));

  EXPECT_EQ(rig_.config_interrupts(), 0);
}

TEST_F(DeviceTargetTest, NotificationMayCallTheDevice) {
  std::optional<std::uint64_t> seen;
  rig_.on_config_interrupt = [&] { seen = rig_.device().target_pages(); };
  rig_.start();

  ASSERT_TRUE(rig_.device().set_target_pages(7));

  EXPECT_EQ(seen, 7u);
}

// ---- queue set-up -------------------------------------------------------------------------------

class DeviceQueueSetUpTest : public ::testing::Test {
 protected:
  // Sets the inflate queue up with one thing changed; why it fails, if it does.
  std::optional<Errc> set_up(const std::function<void(QueueConfig&)>& change) {
    QueueConfig config = rig_.ring_config(kInflateQueue);
    change(config);
    return set_up(kInflateQueue, config);
  }
  std::optional<Errc> set_up(std::uint16_t index, const QueueConfig& config) {
    const auto result = rig_.set_queue(index, config);
    return result ? std::nullopt : std::optional(result.error().code);
  }

  Rig rig_;
};

TEST_F(DeviceQueueSetUpTest, DeviceWithoutFurtherFeaturesHasTwoQueues) {
  EXPECT_TRUE(rig_.has_queue(1));
  EXPECT_FALSE(rig_.has_queue(2));
}

TEST(DeviceQueueNumberTest, QueuesOfferedExistUntilTheDriverDeclinesThem) {
  Rig rig({.device = {.features = Features{Feature::kStatsVq, Feature::kPageReporting}},
           .accepted = Features{Feature::kVersion1, Feature::kPageReporting}});
  EXPECT_TRUE(rig.has_queue(3));

  rig.negotiate();

  EXPECT_TRUE(rig.has_queue(2));
  EXPECT_FALSE(rig.has_queue(3));
}

// The published bit of the dialects is the one that the standard gave to FREE_PAGE_HINT later.
TEST(DeviceQueueNumberTest, BitOfADialectBringsNoQueueAndNoField) {
  Rig rig({.device = testing::speaking(Dialect::kPageBitmap)});
  rig.negotiate();

  EXPECT_FALSE(rig.has_queue(2));
  rig.write_config32(kHintCommandOffset, 5);
  EXPECT_THAT(rig.all_errors(), ElementsAre(Pair(Errc::kConfigOutOfRange, 1u)));
}

TEST(DeviceQueueNumberTest, FixedNumbersLeaveGaps) {
  Rig rig({.device = {.features = Features{Feature::kPageReporting},
                      .numbering = QueueNumbering::kFixed}});
  rig.negotiate();

  EXPECT_FALSE(rig.has_queue(2));
  EXPECT_FALSE(rig.has_queue(3));
  EXPECT_TRUE(rig.has_queue(4));
}

// ---- features -----------------------------------------------------------------------------------

TEST_F(DeviceQueueSetUpTest, NothingIsNegotiatedBeforeFeaturesOk) {
  rig_.write_status(kStatusAcknowledge | kStatusDriver);
  rig_.write_features(rig_.offered_features());

  EXPECT_EQ(rig_.device().negotiated_features(), Features());
}

TEST_F(DeviceQueueSetUpTest, WhatTheDriverAcceptedIsNegotiated) {
  Rig rig({.accepted = Features{Feature::kVersion1}, .packed = false});

  rig.negotiate();

  EXPECT_EQ(rig.device().negotiated_features(), Features{Feature::kVersion1});
}

TEST_F(DeviceQueueSetUpTest, NothingIsNegotiatedAfterAReset) {
  rig_.negotiate();

  rig_.reset();

  EXPECT_EQ(rig_.device().negotiated_features(), Features());
}

// ---- kicks before DRIVER_OK --------------------------------------------------------------------

TEST(DeviceEarlyKickTest, DSF_D_01_KickBeforeDriverOkIsNotObeyedAndNotLost) {
  Rig rig;
  rig.negotiate().set_queues();
  rig.send(kInflateQueue, testing::pfn_message({5}));

  EXPECT_FALSE(rig.device().process(kInflateQueue));
  EXPECT_THAT(rig.completed(kInflateQueue), IsEmpty());
  rig.write_status(Rig::kRunning);

  EXPECT_THAT(rig.woken(), ElementsAre(kInflateQueue));
  rig.serve(kInflateQueue);
  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
}

TEST(DeviceEarlyKickTest, QueueThatWasNotKickedIsNotWoken) {
  Rig rig;

  rig.start();

  EXPECT_THAT(rig.woken(), IsEmpty());
}

TEST(DeviceEarlyKickTest, ResetForgetsTheKick) {
  Rig rig;
  rig.negotiate().set_queues();
  rig.device().process(kInflateQueue);

  rig.reset();
  rig.start();

  EXPECT_THAT(rig.woken(), IsEmpty());
}

TEST_F(DeviceQueueSetUpTest, BothQueuesAreTaken) {
  rig_.negotiate();

  EXPECT_EQ(set_up(kInflateQueue, rig_.ring_config(kInflateQueue)), std::nullopt);
  EXPECT_EQ(set_up(kDeflateQueue, rig_.ring_config(kDeflateQueue)), std::nullopt);
  EXPECT_THAT(rig_.all_errors(), IsEmpty());
}

TEST_F(DeviceQueueSetUpTest, QueueBeforeFeaturesOkIsRefused) {
  EXPECT_EQ(set_up([](QueueConfig&) {}), Errc::kBadQueueConfig);
}

TEST_F(DeviceQueueSetUpTest, QueueAfterDriverOkIsRefused) {
  rig_.start();

  EXPECT_EQ(set_up([](QueueConfig&) {}), Errc::kBadQueueConfig);
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kBadQueueConfig, 1u)));
}

TEST_F(DeviceQueueSetUpTest, ThirdQueueIsRefused) {
  rig_.negotiate();

  EXPECT_EQ(set_up(2, rig_.ring_config(kInflateQueue)), Errc::kBadQueueConfig);
  EXPECT_EQ(set_up(0xFFFF, rig_.ring_config(kInflateQueue)), Errc::kBadQueueConfig);
  EXPECT_EQ(rig_.errors(Errc::kBadQueueConfig), 2u);
}

TEST_F(DeviceQueueSetUpTest, SizeOfZeroIsRefused) {
  rig_.negotiate();

  EXPECT_EQ(set_up([](QueueConfig& c) { c.size = 0; }), Errc::kBadQueueConfig);
}

TEST(SplitRingSetUpTest, SizeThatIsNoPowerOfTwoIsRefused) {
  Rig rig({.packed = false});
  QueueConfig config = rig.negotiate().ring_config(kInflateQueue);
  config.size = 65;

  EXPECT_FALSE(rig.device().set_queue(kInflateQueue, config));
}

TEST_F(DeviceQueueSetUpTest, SizeBeyondTheDevicesOwnIsRefused) {
  rig_.negotiate();

  EXPECT_EQ(set_up([](QueueConfig& c) { c.size = 2 * kBalloonMaxQueueSize; }),
            Errc::kBadQueueConfig);
}

TEST_F(DeviceQueueSetUpTest, LargestSizeOfTheDeviceIsTaken) {
  rig_.negotiate();
  const QueueConfig config = lay_out_ring(kBalloonMaxQueueSize, kRings).config;

  EXPECT_EQ(set_up(kInflateQueue, config), std::nullopt);
}

TEST_F(DeviceQueueSetUpTest, AddressesThatAreNotAlignedAreRefused) {
  rig_.negotiate();

  EXPECT_EQ(set_up([](QueueConfig& c) { c.descriptor_table += 8; }), Errc::kBadQueueConfig);
  EXPECT_EQ(set_up([](QueueConfig& c) { c.available_ring += 1; }), Errc::kBadQueueConfig);
  EXPECT_EQ(set_up([](QueueConfig& c) { c.used_ring += 2; }), Errc::kBadQueueConfig);
}

TEST_F(DeviceQueueSetUpTest, RingOutsideGuestMemoryIsRefused) {
  rig_.negotiate();

  EXPECT_EQ(set_up([](QueueConfig& c) { c.descriptor_table = testing::kHole * kPageSize - 16; }),
            Errc::kBadQueueConfig);
  EXPECT_EQ(set_up([](QueueConfig& c) { c.descriptor_table = ~std::uint64_t{15}; }),
            Errc::kBadQueueConfig);
}

TEST_F(DeviceQueueSetUpTest, QueueThatFailedToBeSetUpIsNotServed) {
  rig_.negotiate().set_queues();
  rig_.send(kInflateQueue, pfn_message({5}));
  ASSERT_EQ(set_up([](QueueConfig& c) { c.used_ring = 1; }), Errc::kBadQueueConfig);
  rig_.write_status(Rig::kRunning);

  EXPECT_FALSE(rig_.device().process(kInflateQueue));
  EXPECT_THAT(rig_.discarded(), IsEmpty());
}

// ---- when queues are served ---------------------------------------------------------------------

TEST(DeviceKickTest, KickBeforeDriverOkDoesNothing) {
  Rig rig;
  rig.negotiate().set_queues();
  rig.send(kInflateQueue, pfn_message({5}));

  EXPECT_FALSE(rig.device().process(kInflateQueue));
  EXPECT_THAT(rig.completed(kInflateQueue), IsEmpty());
  EXPECT_THAT(rig.discarded(), IsEmpty());
}

TEST(DeviceKickTest, BufferMadeAvailableBeforeDriverOkIsServedAfterIt) {
  Rig rig;
  rig.negotiate().set_queues();
  rig.send(kInflateQueue, pfn_message({5}));
  rig.write_status(Rig::kRunning);

  rig.serve(kInflateQueue);

  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
}

TEST(DeviceKickTest, KickOfAQueueThatDoesNotExistDoesNothing) {
  Rig rig;
  rig.start();

  EXPECT_FALSE(rig.device().process(2));
  EXPECT_FALSE(rig.device().process(0xFFFF));
}

TEST(DeviceKickTest, KickOfAQueueThatWasNotSetUpDoesNothing) {
  Rig rig;
  rig.negotiate().write_status(Rig::kRunning);

  EXPECT_FALSE(rig.device().process(kInflateQueue));
}

TEST(DeviceKickTest, EmptyQueueIsServedWithoutAnInterrupt) {
  Rig rig;
  rig.start();

  EXPECT_FALSE(rig.device().process(kInflateQueue));
  EXPECT_EQ(rig.interrupts(kInflateQueue), 0);
}

}  // namespace
}  // namespace vballoon
