// SPDX-License-Identifier: MIT
// The registers of virtio-mmio (src/transport/mmio.cc).
#include "vballoon/transport/mmio.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "device/device_fixture.h"
#include "transport/mmio_registers.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::Rig;

class MmioTest : public ::testing::Test {
 protected:
  explicit MmioTest(BalloonOptions device = {
                        .features = Features{Feature::kMustTellHost, Feature::kRingReset}}) {
    auto discarder = std::make_unique<testing::RecordingDiscarder>();
    recorded_ = discarder.get();
    mmio_ = MmioTransport::create(
                memory_, std::move(discarder), std::move(device),
                {.interrupt_line = [this](bool asserted) { line_.push_back(asserted); },
                 .queue_notify = [this](std::uint16_t queue) { kicks_.push_back(queue); }})
                .value();
  }

  std::uint32_t read(MmioRegister which) {
    return static_cast<std::uint32_t>(mmio_->read(static_cast<std::uint64_t>(which), 4));
  }
  void write(MmioRegister which, std::uint32_t value) {
    mmio_->write(static_cast<std::uint64_t>(which), 4, value);
  }
  std::uint32_t read_config(std::uint64_t offset, unsigned size = 4) {
    return static_cast<std::uint32_t>(mmio_->read(kMmioConfig + offset, size));
  }

  // What a driver does up to FEATURES_OK.
  void negotiate(Features features = {Feature::kMustTellHost, Feature::kRingReset}) {
    const std::uint64_t bits = features.with(Feature::kVersion1).bits();
    write(MmioRegister::kStatus, kStatusAcknowledge | kStatusDriver);
    write(MmioRegister::kDriverFeaturesSel, 0);
    write(MmioRegister::kDriverFeatures, static_cast<std::uint32_t>(bits));
    write(MmioRegister::kDriverFeaturesSel, 1);
    write(MmioRegister::kDriverFeatures, static_cast<std::uint32_t>(bits >> 32));
    write(MmioRegister::kStatus, Rig::kNegotiated);
  }
  QueueConfig ring(std::uint16_t index) const {
    return lay_out_ring(16, testing::kRings + index * testing::kRingStride).config;
  }
  void write_ring(const QueueConfig& config) {
    write(MmioRegister::kQueueSize, config.size);
    write(MmioRegister::kQueueDescLow, static_cast<std::uint32_t>(config.descriptor_table));
    write(MmioRegister::kQueueDescHigh, static_cast<std::uint32_t>(config.descriptor_table >> 32));
    write(MmioRegister::kQueueDriverLow, static_cast<std::uint32_t>(config.available_ring));
    write(MmioRegister::kQueueDriverHigh, static_cast<std::uint32_t>(config.available_ring >> 32));
    write(MmioRegister::kQueueDeviceLow, static_cast<std::uint32_t>(config.used_ring));
    write(MmioRegister::kQueueDeviceHigh, static_cast<std::uint32_t>(config.used_ring >> 32));
  }
  void set_queue(std::uint16_t index) {
    write(MmioRegister::kQueueSel, index);
    write_ring(ring(index));
    write(MmioRegister::kQueueReady, 1);
    queues_.at(index) = DriverQueue::create(memory_, ring(index)).value();
  }
  void start() {
    negotiate();
    set_queue(kInflateQueue);
    set_queue(kDeflateQueue);
    write(MmioRegister::kStatus, Rig::kRunning);
  }
  // One page goes into the balloon, and its buffer comes back.
  void inflate(std::uint32_t pfn) {
    const auto bytes = testing::le32({pfn});
    ASSERT_TRUE(memory_->write(testing::kPayloads, bytes));
    const GuestBuffer buffer{testing::kPayloads, 4};
    ASSERT_TRUE(queues_[kInflateQueue]->add(std::span(&buffer, 1), {}, 0));
    if (queues_[kInflateQueue]->publish()) write(MmioRegister::kQueueNotify, kInflateQueue);
    while (mmio_->device().process(kInflateQueue)) {
    }
  }

  std::shared_ptr<const GuestMemory> memory_ = testing::memory_with_hole();
  testing::RecordingDiscarder* recorded_ = nullptr;
  std::vector<bool> line_;  // the changes of the interrupt line
  std::vector<std::uint16_t> kicks_;
  std::unique_ptr<MmioTransport> mmio_;
  std::array<std::unique_ptr<DriverQueue>, 2> queues_;
};

TEST_F(MmioTest, MMI_D_01_MMI_D_02_FirstRegistersSayVirtioVersion2AndBalloon) {
  EXPECT_EQ(read(MmioRegister::kMagicValue), 0x74726976u);
  EXPECT_EQ(read(MmioRegister::kVersion), 2u);
  EXPECT_EQ(read(MmioRegister::kDeviceId), 5u);
}

TEST_F(MmioTest, FeaturesAreReadInTwoHalves) {
  write(MmioRegister::kDeviceFeaturesSel, 0);
  EXPECT_EQ(read(MmioRegister::kDeviceFeatures), 1u);
  write(MmioRegister::kDeviceFeaturesSel, 1);
  EXPECT_EQ(read(MmioRegister::kDeviceFeatures), 1u | 1u << 8);
  write(MmioRegister::kDeviceFeaturesSel, 2);
  EXPECT_EQ(read(MmioRegister::kDeviceFeatures), 0u);
}

TEST_F(MmioTest, DriverNegotiatesAndStarts) {
  start();

  EXPECT_EQ(read(MmioRegister::kStatus), Rig::kRunning);
  EXPECT_EQ(read(MmioRegister::kQueueReady), 1u);
}

TEST_F(MmioTest, QueueThatDoesNotExistHasNoSize) {
  write(MmioRegister::kQueueSel, 1);
  EXPECT_EQ(read(MmioRegister::kQueueSizeMax), kBalloonMaxQueueSize);
  write(MmioRegister::kQueueSel, 2);
  EXPECT_EQ(read(MmioRegister::kQueueSizeMax), 0u);
  write(MmioRegister::kQueueSel, 0xFFFFFFFF);
  EXPECT_EQ(read(MmioRegister::kQueueSizeMax), 0u);
  EXPECT_EQ(read(MmioRegister::kQueueReady), 0u);
}

TEST_F(MmioTest, QueueThatTheDeviceDoesNotTakeStaysNotReady) {
  negotiate();
  write(MmioRegister::kQueueSel, 0);
  QueueConfig config = ring(0);
  config.size = 15;
  write_ring(config);

  write(MmioRegister::kQueueReady, 1);

  EXPECT_EQ(read(MmioRegister::kQueueReady), 0u);
}

TEST_F(MmioTest, SizeThatDoesNotFitIsNotTakenForASmallOne) {
  negotiate();
  write(MmioRegister::kQueueSel, 0);
  write_ring(ring(0));
  write(MmioRegister::kQueueSize, 0x10010);

  write(MmioRegister::kQueueReady, 1);

  EXPECT_EQ(read(MmioRegister::kQueueReady), 0u);
}

TEST_F(MmioTest, MessageGoesByAndRaisesTheInterrupt) {
  start();

  inflate(5);

  EXPECT_THAT(kicks_, ElementsAre(kInflateQueue));
  EXPECT_THAT(recorded_->pages(), ElementsAre(PageRange{5, 1}));
  EXPECT_EQ(read(MmioRegister::kInterruptStatus), kMmioUsedBuffer);
  EXPECT_THAT(line_, ElementsAre(true));
}

TEST_F(MmioTest, MMI_D_03_InterruptStaysUntilItIsAcknowledged) {
  start();
  inflate(5);
  ASSERT_TRUE(mmio_->device().set_target_pages(7));
  EXPECT_EQ(read(MmioRegister::kInterruptStatus), kMmioUsedBuffer | kMmioConfigChange);

  write(MmioRegister::kInterruptAck, kMmioUsedBuffer);
  EXPECT_EQ(read(MmioRegister::kInterruptStatus), kMmioConfigChange);
  EXPECT_THAT(line_, ElementsAre(true));
  write(MmioRegister::kInterruptAck, kMmioConfigChange);

  EXPECT_EQ(read(MmioRegister::kInterruptStatus), 0u);
  EXPECT_THAT(line_, ElementsAre(true, false));
}

TEST_F(MmioTest, MMI_D_04_AcknowledgingBitsThatDoNotExistSetsNone) {
  start();
  inflate(5);

  write(MmioRegister::kInterruptAck, 0xFFFFFFFC);

  EXPECT_EQ(read(MmioRegister::kInterruptStatus), kMmioUsedBuffer);
}

TEST_F(MmioTest, MMI_D_05_ResetClearsInterruptsAndReadiness) {
  start();
  inflate(5);

  write(MmioRegister::kStatus, 0);

  EXPECT_EQ(read(MmioRegister::kStatus), 0u);
  EXPECT_EQ(read(MmioRegister::kInterruptStatus), 0u);
  EXPECT_THAT(line_, ElementsAre(true, false));
  write(MmioRegister::kQueueSel, 0);
  EXPECT_EQ(read(MmioRegister::kQueueReady), 0u);
  write(MmioRegister::kQueueSel, 1);
  EXPECT_EQ(read(MmioRegister::kQueueReady), 0u);
}

TEST_F(MmioTest, FeaturesOfADriverBeforeTheResetAreForgotten) {
  start();
  write(MmioRegister::kStatus, 0);

  write(MmioRegister::kStatus, Rig::kNegotiated);

  EXPECT_EQ(read(MmioRegister::kStatus) & kStatusFeaturesOk, 0u);
}

TEST_F(MmioTest, MMI_D_06_GenerationChangesWithTheConfiguration) {
  const std::uint32_t before = read(MmioRegister::kConfigGeneration);

  ASSERT_TRUE(mmio_->device().set_target_pages(7));

  EXPECT_NE(read(MmioRegister::kConfigGeneration), before);
  EXPECT_EQ(read_config(kNumPagesOffset), 7u);
}

class MmioHintsTest : public MmioTest {
 protected:
  MmioHintsTest()
      : MmioTest({.features = Features{Feature::kMustTellHost, Feature::kFreePageHint},
                  .on_free_page_hints = [](std::span<const PageRange>) {}}) {}

  void start_with_hints() {
    negotiate({Feature::kMustTellHost, Feature::kFreePageHint});
    write(MmioRegister::kStatus, Rig::kRunning);
  }
  // The generation, which is another one than when this was asked before.
  bool is_new_generation() {
    const std::uint32_t before = std::exchange(generation_, read(MmioRegister::kConfigGeneration));
    return generation_ != before;
  }

  std::uint32_t generation_ = 0;
};

TEST_F(MmioHintsTest, CFG_I_01_FieldsAreLittleEndianAndEachChangeHasANewGeneration) {
  start_with_hints();
  (void)is_new_generation();
  EXPECT_FALSE(is_new_generation()) << "nothing has changed";

  ASSERT_TRUE(mmio_->device().set_target_pages(0x123));
  EXPECT_TRUE(is_new_generation());
  ASSERT_TRUE(mmio_->device().set_target_pages(0x124));
  EXPECT_TRUE(is_new_generation());
  ASSERT_TRUE(mmio_->device().start_hints());
  EXPECT_TRUE(is_new_generation());
  mmio_->device().finish_hints();
  EXPECT_TRUE(is_new_generation());

  EXPECT_EQ(read_config(kNumPagesOffset, 1), 0x24u);
  EXPECT_EQ(read_config(kNumPagesOffset + 1, 1), 0x01u);
  EXPECT_EQ(read_config(kHintCommandOffset, 1), kHintDone);
  EXPECT_EQ(read_config(kHintCommandOffset + 1, 1), 0u);
}

TEST_F(MmioTest, ConfigurationIsReadAndWrittenByBytes) {
  ASSERT_TRUE(mmio_->device().set_target_pages(0x123));
  start();

  EXPECT_EQ(read_config(kNumPagesOffset, 1), 0x23u);
  EXPECT_EQ(read_config(kNumPagesOffset + 1, 1), 0x01u);
  mmio_->write(kMmioConfig + kActualOffset, 4, 0x456);

  EXPECT_EQ(mmio_->device().actual_pages(), 0x456u);
}

TEST_F(MmioTest, MMI_D_07_QueueThatIsNotReadyIsNotLookedAt) {
  start();
  write(MmioRegister::kQueueSel, kInflateQueue);

  write(MmioRegister::kQueueReady, 0);
  inflate(5);

  EXPECT_EQ(read(MmioRegister::kQueueReady), 0u);
  EXPECT_THAT(recorded_->pages(), IsEmpty());
}

TEST_F(MmioTest, FieldsOfAReadyQueueCannotBeChanged) {
  start();
  write(MmioRegister::kQueueSel, kInflateQueue);
  write(MmioRegister::kQueueSize, 1);

  inflate(5);

  EXPECT_THAT(recorded_->pages(), ElementsAre(PageRange{5, 1}));
}

TEST_F(MmioTest, MMI_D_08_MMI_D_10_MMI_D_12_QueueResetStopsTheQueueAndReadsZeroWhenDone) {
  start();
  write(MmioRegister::kQueueSel, kInflateQueue);
  EXPECT_EQ(read(MmioRegister::kQueueReset), 0u);

  write(MmioRegister::kQueueReset, 1);

  EXPECT_EQ(read(MmioRegister::kQueueReset), 0u);
  EXPECT_EQ(read(MmioRegister::kQueueReady), 0u);
  inflate(5);
  EXPECT_THAT(recorded_->pages(), IsEmpty());
}

TEST_F(MmioTest, MMI_D_09_QueueThatWasResetIsSetUpAgain) {
  start();
  write(MmioRegister::kQueueSel, kInflateQueue);
  write(MmioRegister::kQueueReset, 1);

  set_queue(kInflateQueue);
  inflate(5);

  EXPECT_EQ(read(MmioRegister::kQueueReset), 0u);
  EXPECT_EQ(read(MmioRegister::kQueueReady), 1u);
  EXPECT_THAT(recorded_->pages(), ElementsAre(PageRange{5, 1}));
}

TEST_F(MmioTest, ThereIsNoSharedMemory) {
  EXPECT_EQ(read(MmioRegister::kShmLenLow), 0xFFFFFFFFu);
  EXPECT_EQ(read(MmioRegister::kShmLenHigh), 0xFFFFFFFFu);
  EXPECT_EQ(read(MmioRegister::kShmBaseLow), 0xFFFFFFFFu);
}

TEST_F(MmioTest, AccessesThatADriverMustNotMakeDoNothing) {
  start();

  EXPECT_EQ(mmio_->read(0x70, 1), 0u) << "too small";
  EXPECT_EQ(mmio_->read(0x71, 4), 0u) << "not aligned";
  EXPECT_EQ(mmio_->read(0x10000, 4), 0u) << "outside";
  EXPECT_EQ(mmio_->read(0xFC4, 16), 0u) << "too large";
  EXPECT_EQ(read(MmioRegister::kQueueNotify), 0u) << "write-only";
  mmio_->write(0x70, 1, 0);
  mmio_->write(0x10000, 8, 1);
  write(MmioRegister::kMagicValue, 0);

  EXPECT_EQ(read(MmioRegister::kStatus), Rig::kRunning);
  EXPECT_EQ(read(MmioRegister::kMagicValue), kMmioMagic);
}

TEST_F(MmioTest, NotificationDataInTheUpperHalfIsNoPartOfTheQueuesNumber) {
  start();

  write(MmioRegister::kQueueNotify, 0x00030001);

  EXPECT_THAT(kicks_, ElementsAre(1));
}

// ---- saving ------------------------------------------------------------------------------------

class MmioStateTest : public MmioTest {
 protected:
  // Another transport takes the place of this one, on the same memory.
  Result<void> move_to_another_transport(const std::vector<std::byte>& state) {
    auto discarder = std::make_unique<testing::RecordingDiscarder>();
    recorded_ = discarder.get();
    line_.clear();
    mmio_ = MmioTransport::create(
                memory_, std::move(discarder),
                {.features = Features{Feature::kMustTellHost, Feature::kRingReset}},
                {.interrupt_line = [this](bool asserted) { line_.push_back(asserted); },
                 .queue_notify = [this](std::uint16_t queue) { kicks_.push_back(queue); }})
                .value();
    return mmio_->restore(state);
  }
};

TEST_F(MmioStateTest, QueuesGoOnBehindTheRestoredTransport) {
  start();
  inflate(5);

  ASSERT_TRUE(move_to_another_transport(mmio_->save()));
  inflate(6);

  EXPECT_EQ(read(MmioRegister::kStatus), Rig::kRunning);
  EXPECT_EQ(read(MmioRegister::kQueueReady), 1u);
  EXPECT_TRUE(mmio_->device().is_ballooned(5));
  EXPECT_THAT(recorded_->pages(), ElementsAre(PageRange{6, 1}));
}

TEST_F(MmioStateTest, InterruptThatWasNotAcknowledgedIsStillThere) {
  start();
  inflate(5);

  ASSERT_TRUE(move_to_another_transport(mmio_->save()));

  EXPECT_EQ(read(MmioRegister::kInterruptStatus), kMmioUsedBuffer);
  EXPECT_THAT(line_, ElementsAre(true));
  write(MmioRegister::kInterruptAck, kMmioUsedBuffer);
  EXPECT_THAT(line_, ElementsAre(true, false));
}

TEST_F(MmioStateTest, AcknowledgedInterruptIsNotRaisedAgain) {
  start();
  inflate(5);
  write(MmioRegister::kInterruptAck, kMmioUsedBuffer);

  ASSERT_TRUE(move_to_another_transport(mmio_->save()));

  EXPECT_THAT(line_, IsEmpty());
}

TEST_F(MmioStateTest, DriverGoesOnInTheMiddleOfSettingAQueueUp) {
  negotiate();
  write(MmioRegister::kQueueSel, kDeflateQueue);
  write_ring(ring(kDeflateQueue));

  ASSERT_TRUE(move_to_another_transport(mmio_->save()));
  write(MmioRegister::kQueueReady, 1);

  EXPECT_EQ(read(MmioRegister::kQueueReady), 1u);
  write(MmioRegister::kQueueSel, kInflateQueue);
  EXPECT_EQ(read(MmioRegister::kQueueReady), 0u);
}

TEST_F(MmioStateTest, DamagedStateChangesNothing) {
  start();
  inflate(5);
  auto state = mmio_->save();
  state[30] ^= std::byte{1};

  const auto restored = move_to_another_transport(state);

  ASSERT_FALSE(restored);
  EXPECT_EQ(restored.error().code, Errc::kBadSavedState);
  EXPECT_EQ(read(MmioRegister::kStatus), 0u);
  EXPECT_EQ(read(MmioRegister::kInterruptStatus), 0u);
  EXPECT_THAT(line_, IsEmpty());
}

TEST_F(MmioStateTest, StateOfADeviceAloneIsRefused) {
  start();

  EXPECT_FALSE(move_to_another_transport(mmio_->device().save()));
}

}  // namespace
}  // namespace vballoon
