// SPDX-License-Identifier: MIT
// The driver's side of a packed ring (src/ring/packed_driver_queue.cc), with a device written by
// hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "ring/driver_queue.h"
#include "ring/raw_packed_ring.h"
#include "test_memory.h"

namespace vballoon {
namespace {

using testing::kAvail;
using testing::kDisable;
using testing::kEnable;
using testing::kIndirect;
using testing::kNext;
using testing::kSpecific;
using testing::kUsed;
using testing::kWrap;
using testing::kWrite;
using testing::raw_packed_config;
using testing::RawEvent;
using testing::RawPackedDescriptor;

constexpr GuestBuffer kBuffer{0x30000, 16};

class PackedDriverQueueTest : public ::testing::Test {
 protected:
  static constexpr std::uint16_t kSize = 6;
  static constexpr std::uint64_t kTable = 0x20000;
  static constexpr std::uint64_t kMemoryBytes = 1 << 20;

  PackedDriverQueueTest() { create(config_); }

  void create(const QueueConfig& config) {
    config_ = config;
    driver_ = DriverQueue::create(memory_, config_).value();
  }
  void create_with_indirect() {
    config_.indirect = true;
    create(config_);
  }
  void create_with_event_index() {
    config_.event_index = true;
    create(config_);
  }
  bool add(std::size_t readable, std::size_t writable, std::uint64_t token) {
    return driver_->add(std::vector<GuestBuffer>(readable, kBuffer),
                        std::vector<GuestBuffer>(writable, kBuffer), token);
  }
  bool add_indirect(std::size_t readable, std::size_t writable) {
    return driver_->add_indirect(std::vector<GuestBuffer>(readable, kBuffer),
                                 std::vector<GuestBuffer>(writable, kBuffer), kTable, 1);
  }
  // What a device does: answers in entry `index`, with the bits of the round.
  void use(std::uint16_t index, std::uint16_t id, std::uint32_t written = 0, bool wrap = true) {
    const int bits = (wrap ? kAvail | kUsed : 0) | (written != 0 ? kWrite : 0);
    ring_.write(index, {0, written, id, static_cast<std::uint16_t>(bits)});
  }
  // Adds, uses and takes back `count` buffers, one after the other.
  void turn(std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      const auto at = static_cast<std::uint16_t>(i % kSize);
      if (!add(1, 0, i)) throw std::runtime_error("no descriptor");
      (void)driver_->publish();
      use(at, ring_.read(at).id, 0, i / kSize % 2 == 0);
      if (!driver_->take_used()) throw std::runtime_error("nothing used");
    }
  }
  // What the device reads of an entry: whether it is available in the first round.
  [[nodiscard]] bool is_available(std::uint16_t index) const {
    return (ring_.read(index).flags & (kAvail | kUsed)) == kAvail;
  }

  std::shared_ptr<const GuestMemory> memory_ = testing::memory_of(kMemoryBytes);
  QueueConfig config_ = raw_packed_config(kSize);
  testing::RawPackedRing ring_{memory_, config_};
  std::unique_ptr<DriverQueue> driver_;
};

TEST_F(PackedDriverQueueTest, BadConfigurationIsRefused) {
  config_.size = 0;

  EXPECT_EQ(DriverQueue::create(memory_, config_).error().code, Errc::kBadQueueConfig);
}

TEST_F(PackedDriverQueueTest, CreationClearsWhatAnEarlierUseLeft) {
  ring_.write(3, {1, 2, 3, kAvail});
  ring_.set_driver_event({1, kDisable});
  ring_.set_device_event({1, kDisable});

  create(config_);

  EXPECT_EQ(ring_.read(3), RawPackedDescriptor{});
  EXPECT_EQ(ring_.driver_event().flags, kEnable);
  EXPECT_EQ(ring_.device_event().flags, kEnable);
}

TEST_F(PackedDriverQueueTest, AddedBufferIsSeenAfterPublishOnly) {
  ASSERT_TRUE(add(1, 0, 42));
  const bool before = is_available(0);

  (void)driver_->publish();

  EXPECT_FALSE(before);
  EXPECT_TRUE(is_available(0));
}

TEST_F(PackedDriverQueueTest, BatchIsHiddenBehindItsFirstDescriptor) {
  ASSERT_TRUE(add(1, 0, 1) && add(1, 0, 2));

  EXPECT_FALSE(is_available(0));

  (void)driver_->publish();
  EXPECT_TRUE(is_available(0));
  EXPECT_TRUE(is_available(1));
}

TEST_F(PackedDriverQueueTest, DescriptorsHaveTheFlagsAndTheIdOfTheirBuffer) {
  ASSERT_TRUE(add(1, 0, 1));
  ASSERT_TRUE(driver_->add({{{0x31000, 1}}}, {{{0x32000, 2}}}, 2));
  (void)driver_->publish();

  const auto first = ring_.read(1);
  const auto second = ring_.read(2);

  EXPECT_EQ(first.address, 0x31000u);
  EXPECT_EQ(first.flags, kNext | kAvail);
  EXPECT_EQ(second.length, 2u);
  EXPECT_EQ(second.flags, kWrite | kAvail);
  EXPECT_NE(second.id, ring_.read(0).id);
}

TEST_F(PackedDriverQueueTest, ListGoesOnAtTheBeginningOfTheRingWithTurnedBits) {
  turn(kSize - 1);
  ASSERT_TRUE(add(2, 0, 1));
  (void)driver_->publish();

  EXPECT_EQ(ring_.read(kSize - 1).flags, kNext | kAvail);
  EXPECT_EQ(ring_.read(0).flags, kUsed);
}

TEST_F(PackedDriverQueueTest, BufferThatDoesNotFitChangesNothing) {
  ASSERT_TRUE(add(kSize - 1, 0, 1));

  EXPECT_FALSE(add(1, 1, 2));

  EXPECT_EQ(driver_->free_descriptors(), 1u);
}

TEST_F(PackedDriverQueueTest, UsedBufferComesBackWithItsTokenAndItsDescriptors) {
  ASSERT_TRUE(add(2, 1, 42));
  (void)driver_->publish();
  use(0, ring_.read(2).id, 5);

  const auto used = driver_->take_used();

  ASSERT_TRUE(used.has_value());
  EXPECT_EQ(used->token, 42u);
  EXPECT_EQ(used->written, 5u);
  EXPECT_EQ(driver_->free_descriptors(), kSize);
}

TEST_F(PackedDriverQueueTest, BuffersUsedOutOfOrderComeBackInTheOrderOfUse) {
  ASSERT_TRUE(add(3, 0, 40) && add(1, 0, 41));
  (void)driver_->publish();
  const std::uint16_t first = ring_.read(2).id;
  use(0, ring_.read(3).id);
  use(1, first);

  EXPECT_EQ(driver_->take_used()->token, 41u);
  EXPECT_EQ(driver_->take_used()->token, 40u);
  EXPECT_FALSE(driver_->take_used());
}

TEST_F(PackedDriverQueueTest, LengthWithoutTheWriteFlagIsIgnored) {
  ASSERT_TRUE(add(1, 0, 42));
  (void)driver_->publish();
  ring_.write(0, {0, 99, ring_.read(0).id, kAvail | kUsed});

  EXPECT_EQ(driver_->take_used()->written, 0u);
}

TEST_F(PackedDriverQueueTest, NothingUsedIsNothingTaken) {
  ASSERT_TRUE(add(1, 0, 42));
  (void)driver_->publish();

  EXPECT_FALSE(driver_->take_used());
}

TEST_F(PackedDriverQueueTest, IdThatWasNotGivenOutIsDroppedAndCounted) {
  use(0, 5);
  use(1, 0xFFFF);

  EXPECT_FALSE(driver_->take_used());

  EXPECT_EQ(driver_->bogus_used(), 2u);
}

TEST_F(PackedDriverQueueTest, IdUsedTwiceCountsOnce) {
  ASSERT_TRUE(add(1, 0, 1) && add(1, 0, 2));
  (void)driver_->publish();
  const std::uint16_t id = ring_.read(0).id;
  use(0, id);
  use(1, id);

  EXPECT_TRUE(driver_->take_used());
  EXPECT_FALSE(driver_->take_used());

  EXPECT_EQ(driver_->bogus_used(), 1u);
}

TEST_F(PackedDriverQueueTest, RingFullOfNonsenseEndsInOneCall) {
  for (std::uint16_t i = 0; i < kSize; ++i) use(i, 0xFFFF);

  EXPECT_FALSE(driver_->take_used());

  EXPECT_EQ(driver_->bogus_used(), kSize);
}

TEST_F(PackedDriverQueueTest, BuffersGoRoundTheRingManyTimes) {
  turn(kSize * 1001 + 2);

  EXPECT_EQ(driver_->bogus_used(), 0u);
  EXPECT_EQ(driver_->free_descriptors(), kSize);
}

TEST_F(PackedDriverQueueTest, IndirectBufferTakesOneDescriptor) {
  create_with_indirect();
  ASSERT_TRUE(add_indirect(2, 1));
  (void)driver_->publish();

  const auto table = ring_.read(0);

  EXPECT_EQ(table.flags, kIndirect | kAvail);
  EXPECT_EQ(table.address, kTable);
  EXPECT_EQ(table.length, 48u);
  EXPECT_EQ(driver_->free_descriptors(), kSize - 1);
}

TEST_F(PackedDriverQueueTest, IndirectBufferLongerThanTheQueueIsRefused) {
  create_with_indirect();

  EXPECT_FALSE(add_indirect(kSize + 1, 0));
}

TEST_F(PackedDriverQueueTest, DeviceIsKickedWhenItsEventIsEnabled) {
  ASSERT_TRUE(add(1, 0, 1));

  EXPECT_TRUE(driver_->publish());
}

TEST_F(PackedDriverQueueTest, DeviceIsNotKickedWhenItsEventIsDisabled) {
  ring_.set_device_event({0, kDisable});
  ASSERT_TRUE(add(1, 0, 1));

  EXPECT_FALSE(driver_->publish());
}

TEST_F(PackedDriverQueueTest, NothingAddedKicksNobody) { EXPECT_FALSE(driver_->publish()); }

TEST_F(PackedDriverQueueTest, InterruptsAreDisabledAndEnabledByTheEventFlags) {
  driver_->disable_interrupts();
  const RawEvent disabled = ring_.driver_event();

  EXPECT_FALSE(driver_->enable_interrupts());

  EXPECT_EQ(disabled.flags, kDisable);
  EXPECT_EQ(ring_.driver_event().flags, kEnable);
}

TEST_F(PackedDriverQueueTest, EnablingInterruptsReportsBuffersUsedMeanwhile) {
  ASSERT_TRUE(add(1, 0, 1));
  (void)driver_->publish();
  driver_->disable_interrupts();
  use(0, ring_.read(0).id);

  EXPECT_TRUE(driver_->enable_interrupts());
}

TEST_F(PackedDriverQueueTest, DeviceIsKickedAtTheEntryItWaitsFor) {
  create_with_event_index();
  turn(3);
  ring_.set_device_event({3 | kWrap, kSpecific});
  ASSERT_TRUE(add(1, 0, 1));

  EXPECT_TRUE(driver_->publish());
}

TEST_F(PackedDriverQueueTest, DeviceIsNotKickedBeforeTheEntryItWaitsFor) {
  create_with_event_index();
  turn(3);
  ring_.set_device_event({4 | kWrap, kSpecific});
  ASSERT_TRUE(add(1, 0, 1));

  EXPECT_FALSE(driver_->publish());
}

TEST_F(PackedDriverQueueTest, InterruptsAreAskedForAtTheEntryOfTheOldestBuffer) {
  create_with_event_index();
  ASSERT_TRUE(add(1, 0, 1) && add(1, 0, 2));
  (void)driver_->publish();

  EXPECT_FALSE(driver_->enable_interrupts());

  EXPECT_EQ(ring_.driver_event(), (RawEvent{0 | kWrap, kSpecific}));
}

TEST_F(PackedDriverQueueTest, InterruptsAreAskedForAtTheNextEntryOfTheRound) {
  create_with_event_index();
  turn(kSize + 3);

  EXPECT_FALSE(driver_->enable_interrupts());

  EXPECT_EQ(ring_.driver_event(), (RawEvent{3, kSpecific}));
}

}  // namespace
}  // namespace vballoon
