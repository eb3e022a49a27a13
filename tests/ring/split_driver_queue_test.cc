// SPDX-License-Identifier: MIT
// The driver's side of a split ring (src/ring/split_driver_queue.cc), with a device written by
// hand.
#include "ring/driver_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "ring/raw_ring.h"
#include "test_memory.h"

namespace vballoon {
namespace {

using testing::kIndirect;
using testing::kNext;
using testing::kWrite;
using testing::raw_config;

constexpr GuestBuffer kBuffer{0x30000, 16};

class SplitDriverQueueTest : public ::testing::Test {
 protected:
  static constexpr std::uint16_t kSize = 8;
  static constexpr std::uint64_t kTable = 0x20000;
  static constexpr std::uint64_t kMemoryBytes = 1 << 20;

  SplitDriverQueueTest() { create(config_); }

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
  bool add_indirect(std::size_t readable, std::uint64_t token) {
    return driver_->add_indirect(std::vector<GuestBuffer>(readable, kBuffer), {}, kTable, token);
  }
  // What a device does: returns a head.
  void use(std::uint32_t id, std::uint32_t length) {
    ring_.set_used(ring_.used_index(), {id, length});
    ring_.set_used_index(static_cast<std::uint16_t>(ring_.used_index() + 1));
  }
  // Adds, uses and takes back `count` buffers, one after the other.
  void turn(std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      if (!add(1, 0, i)) throw std::runtime_error("no descriptor");
      (void)driver_->publish();
      use(ring_.offered(static_cast<std::uint16_t>(ring_.avail_index() - 1)), 0);
      if (!driver_->take_used()) throw std::runtime_error("nothing used");
    }
  }

  std::shared_ptr<const GuestMemory> memory_ = testing::memory_of(kMemoryBytes);
  QueueConfig config_ = raw_config(kSize);
  testing::RawRing ring_{memory_, config_};
  std::unique_ptr<DriverQueue> driver_;
};

TEST_F(SplitDriverQueueTest, BadConfigurationIsRefused) {
  config_.size = 0;

  const auto created = DriverQueue::create(memory_, config_);

  EXPECT_EQ(created.error().code, Errc::kBadQueueConfig);
}

// SPL-G-21.
TEST_F(SplitDriverQueueTest, CreationClearsWhatAnEarlierUseLeft) {
  ring_.set_used_flags(1);
  ring_.set_used_index(7);
  ring_.set_avail_index(9);

  create(config_);

  EXPECT_EQ(ring_.used_flags(), 0u);
  EXPECT_EQ(ring_.used_index(), 0u);
  EXPECT_EQ(ring_.avail_index(), 0u);
}

TEST_F(SplitDriverQueueTest, AddedBufferIsSeenAfterPublishOnly) {
  ASSERT_TRUE(add(1, 0, 42));
  const std::uint16_t before = ring_.avail_index();

  (void)driver_->publish();

  EXPECT_EQ(before, 0u);
  EXPECT_EQ(ring_.avail_index(), 1u);
}

// SPL-G-04.
TEST_F(SplitDriverQueueTest, ReadablePiecesStandInFrontOfWritableOnes) {
  ASSERT_TRUE(driver_->add({{{0x30000, 1}}}, {{{0x31000, 2}}}, 1));
  (void)driver_->publish();

  const auto first = ring_.descriptor(ring_.offered(0));
  const auto second = ring_.descriptor(first.next);
  EXPECT_EQ(first.address, 0x30000u);
  EXPECT_EQ(first.flags, kNext);
  EXPECT_EQ(second.length, 2u);
  EXPECT_EQ(second.flags, kWrite);
}

TEST_F(SplitDriverQueueTest, ChainTakesOneDescriptorAPiece) {
  ASSERT_TRUE(add(2, 1, 1));

  EXPECT_EQ(driver_->free_descriptors(), kSize - 3);
}

TEST_F(SplitDriverQueueTest, ChainThatDoesNotFitChangesNothing) {
  ASSERT_TRUE(add(kSize - 1, 0, 1));

  EXPECT_FALSE(add(1, 1, 2));

  EXPECT_EQ(driver_->free_descriptors(), 1u);
  (void)driver_->publish();
  EXPECT_EQ(ring_.avail_index(), 1u);
}

TEST_F(SplitDriverQueueTest, UsedBufferComesBackWithItsTokenAndItsDescriptors) {
  ASSERT_TRUE(add(2, 1, 42));
  (void)driver_->publish();
  use(ring_.offered(0), 5);

  const auto used = driver_->take_used();

  ASSERT_TRUE(used.has_value());
  EXPECT_EQ(used->token, 42u);
  EXPECT_EQ(used->written, 5u);
  EXPECT_EQ(driver_->free_descriptors(), kSize);
}

TEST_F(SplitDriverQueueTest, NothingUsedIsNothingTaken) { EXPECT_FALSE(driver_->take_used()); }

TEST_F(SplitDriverQueueTest, DescriptorsFreedOutOfOrderServeAWholeChainAgain) {
  ASSERT_TRUE(add(3, 0, 1));
  ASSERT_TRUE(add(2, 0, 2));
  ASSERT_TRUE(add(3, 0, 3));
  use(ring_.offered(1), 0);
  use(ring_.offered(0), 0);
  use(ring_.offered(2), 0);
  (void)driver_->take_used();
  (void)driver_->take_used();
  (void)driver_->take_used();

  EXPECT_TRUE(add(kSize, 0, 4));
}

TEST_F(SplitDriverQueueTest, UsedIdOutsideTheTableIsDroppedAndCounted) {
  use(kSize, 0);
  use(0xFFFFFFFF, 0);

  EXPECT_FALSE(driver_->take_used());

  EXPECT_EQ(driver_->bogus_used(), 2u);
}

TEST_F(SplitDriverQueueTest, UsedIdInTheMiddleOfAChainIsDropped) {
  ASSERT_TRUE(add(2, 0, 1));
  use(ring_.descriptor(ring_.offered(0)).next, 0);

  EXPECT_FALSE(driver_->take_used());

  EXPECT_EQ(driver_->bogus_used(), 1u);
}

TEST_F(SplitDriverQueueTest, IdUsedTwiceCountsOnce) {
  ASSERT_TRUE(add(1, 0, 1));
  use(ring_.offered(0), 0);
  use(ring_.offered(0), 0);

  EXPECT_TRUE(driver_->take_used());
  EXPECT_FALSE(driver_->take_used());

  EXPECT_EQ(driver_->bogus_used(), 1u);
  EXPECT_EQ(driver_->free_descriptors(), kSize);
}

TEST_F(SplitDriverQueueTest, BufferBehindABogusIdIsStillTaken) {
  ASSERT_TRUE(add(1, 0, 42));
  use(5, 0);
  use(ring_.offered(0), 0);

  EXPECT_EQ(driver_->take_used()->token, 42u);
}

TEST_F(SplitDriverQueueTest, UsedIndexFarAheadEndsInOneCall) {
  ring_.set_used_index(65535);

  EXPECT_FALSE(driver_->take_used());

  EXPECT_EQ(driver_->bogus_used(), 65535u);
}

TEST_F(SplitDriverQueueTest, IndicesWrapAt65536) {
  turn(65536 + 3);

  EXPECT_EQ(ring_.avail_index(), 3u);
  EXPECT_EQ(driver_->bogus_used(), 0u);
  EXPECT_EQ(driver_->free_descriptors(), kSize);
}

TEST_F(SplitDriverQueueTest, IndirectChainTakesOneDescriptor) {
  create_with_indirect();
  ASSERT_TRUE(add_indirect(3, 1));
  (void)driver_->publish();

  const auto table = ring_.descriptor(ring_.offered(0));
  EXPECT_EQ(table.flags, kIndirect);
  EXPECT_EQ(table.address, kTable);
  EXPECT_EQ(table.length, 48u);
  EXPECT_EQ(driver_->free_descriptors(), kSize - 1);
}

// SPL-G-10.
TEST_F(SplitDriverQueueTest, IndirectChainLongerThanTheQueueIsRefused) {
  create_with_indirect();

  EXPECT_FALSE(add_indirect(kSize + 1, 1));
}

TEST_F(SplitDriverQueueTest, IndirectChainNeedsAFreeDescriptor) {
  create_with_indirect();
  ASSERT_TRUE(add(kSize, 0, 1));

  EXPECT_FALSE(add_indirect(1, 2));
}

// SPL-G-24.
TEST_F(SplitDriverQueueTest, DeviceIsKickedWhenItsFlagsAreZero) {
  ASSERT_TRUE(add(1, 0, 1));

  EXPECT_TRUE(driver_->publish());
}

// SPL-G-23.
TEST_F(SplitDriverQueueTest, DeviceIsNotKickedWhenItsFlagIsSet) {
  ring_.set_used_flags(1);
  ASSERT_TRUE(add(1, 0, 1));

  EXPECT_FALSE(driver_->publish());
}

// SPL-G-22.
TEST_F(SplitDriverQueueTest, AvailEventIsIgnoredWithoutTheFeature) {
  ring_.set_avail_event(40);
  ASSERT_TRUE(add(1, 0, 1));

  EXPECT_TRUE(driver_->publish());
}

TEST_F(SplitDriverQueueTest, NothingAddedKicksNobody) { EXPECT_FALSE(driver_->publish()); }

// SPL-G-15, SPL-G-14.
TEST_F(SplitDriverQueueTest, DisabledInterruptsSetTheFlagAndEnabledOnesClearIt) {
  driver_->disable_interrupts();
  const std::uint16_t disabled = ring_.avail_flags();

  EXPECT_FALSE(driver_->enable_interrupts());

  EXPECT_EQ(disabled, 1u);
  EXPECT_EQ(ring_.avail_flags(), 0u);
}

// SPL-G-31.
TEST_F(SplitDriverQueueTest, EnablingInterruptsReportsBuffersUsedMeanwhile) {
  ASSERT_TRUE(add(1, 0, 1));
  driver_->disable_interrupts();
  use(ring_.offered(0), 0);

  EXPECT_TRUE(driver_->enable_interrupts());
}

// SPL-G-26.
TEST_F(SplitDriverQueueTest, DeviceIsKickedAtTheEntryItWaitsFor) {
  create_with_event_index();
  turn(3);
  ring_.set_avail_event(3);
  ASSERT_TRUE(add(1, 0, 1));

  EXPECT_TRUE(driver_->publish());
}

// SPL-G-27.
TEST_F(SplitDriverQueueTest, DeviceIsNotKickedBeforeTheEntryItWaitsFor) {
  create_with_event_index();
  turn(3);
  ring_.set_avail_event(4);
  ASSERT_TRUE(add(1, 0, 1));

  EXPECT_FALSE(driver_->publish());
}

// SPL-G-28.
TEST_F(SplitDriverQueueTest, DeviceIsKickedInTheMiddleOfABatch) {
  create_with_event_index();
  ring_.set_avail_event(1);
  ASSERT_TRUE(add(1, 0, 1));
  ASSERT_TRUE(add(1, 0, 2));
  ASSERT_TRUE(add(1, 0, 3));

  EXPECT_TRUE(driver_->publish());
}

// SPL-G-25.
TEST_F(SplitDriverQueueTest, NotifyFlagIsIgnoredWithEventIndex) {
  create_with_event_index();
  ring_.set_used_flags(1);
  ASSERT_TRUE(add(1, 0, 1));

  EXPECT_TRUE(driver_->publish());
}

// SPL-G-16, SPL-G-17.
TEST_F(SplitDriverQueueTest, InterruptsAreAskedForByUsedEvent) {
  create_with_event_index();
  turn(3);
  driver_->disable_interrupts();
  const std::uint16_t disabled = ring_.used_event();

  EXPECT_FALSE(driver_->enable_interrupts());

  EXPECT_EQ(disabled, 2u);
  EXPECT_EQ(ring_.used_event(), 3u);
  EXPECT_EQ(ring_.avail_flags(), 0u);
}

// SPL-G-01, SPL-I-01.
TEST(LayOutRingTest, PartsAreAlignedAndDoNotOverlap) {
  const RingLayout layout = lay_out_ring(4, 0x4000);

  EXPECT_EQ(layout.config.size, 4u);
  EXPECT_EQ(layout.config.descriptor_table, 0x4000u);
  EXPECT_EQ(layout.config.available_ring, 0x4040u);
  EXPECT_EQ(layout.config.used_ring, 0x4050u);
  EXPECT_EQ(layout.bytes, 0x50u + 38u);
}

}  // namespace
}  // namespace vballoon
