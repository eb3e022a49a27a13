// SPDX-License-Identifier: MIT
// What a driver does on a packed ring and on no other (src/ring/packed_driver_queue.cc), with a
// device written by hand.
#include <gtest/gtest.h>

#include <cstdint>
#include <stdexcept>

#include "ring/driver_queue_fixture.h"
#include "ring/raw_packed_ring.h"

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

class PackedDriverQueueTest : public ::testing::Test, protected testing::DriverUnderTest {
 protected:
  static constexpr std::uint16_t kSize = 6;

  PackedDriverQueueTest() : DriverUnderTest(raw_packed_config(kSize)) {}

  // What a device does: answers in entry `index`, with the bits of the round.
  void use(std::uint16_t index, std::uint16_t id, std::uint32_t written = 0, bool wrap = true) {
    const int bits = (wrap ? kAvail | kUsed : 0) | (written != 0 ? kWrite : 0);
    ring_.write(index, {0, written, id, static_cast<std::uint16_t>(bits)});
  }
  // Adds, uses and takes back `count` buffers, one after the other.
  void turn(std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      const auto at = static_cast<std::uint16_t>(i % kSize);
      if (!add(1)) throw std::runtime_error("no descriptor");
      (void)driver_->publish();
      use(at, ring_.read(at).id, 0, i / kSize % 2 == 0);
      if (!driver_->take_used()) throw std::runtime_error("nothing used");
    }
  }
  // What the device reads of an entry: whether it is available in the first round.
  [[nodiscard]] bool is_available(std::uint16_t index) const {
    return is_available_at({index, true}, ring_.read(index));
  }

  testing::RawPackedRing ring_{memory_, config_};
};

TEST_F(PackedDriverQueueTest, CreationClearsWhatAnEarlierUseLeft) {
  ring_.write(3, {1, 2, 3, kAvail});
  ring_.set_driver_event({1, kDisable});
  ring_.set_device_event({1, kDisable});

  create();

  EXPECT_EQ(ring_.read(3), RawPackedDescriptor{});
  EXPECT_EQ(ring_.driver_event().flags, kEnable);
  EXPECT_EQ(ring_.device_event().flags, kEnable);
}

TEST_F(PackedDriverQueueTest, BatchIsHiddenBehindItsFirstDescriptor) {
  ASSERT_TRUE(add(1) && add(1));

  EXPECT_FALSE(is_available(0));

  (void)driver_->publish();
  EXPECT_TRUE(is_available(0));
  EXPECT_TRUE(is_available(1));
}

TEST_F(PackedDriverQueueTest, DescriptorsHaveTheFlagsAndTheIdOfTheirBuffer) {
  ASSERT_TRUE(add(1));
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
  ASSERT_TRUE(add(2));
  (void)driver_->publish();

  EXPECT_EQ(ring_.read(kSize - 1).flags, kNext | kAvail);
  EXPECT_EQ(ring_.read(0).flags, kUsed);
}

TEST_F(PackedDriverQueueTest, LengthWithoutTheWriteFlagIsIgnored) {
  ASSERT_TRUE(add(1));
  (void)driver_->publish();
  ring_.write(0, {0, 99, ring_.read(0).id, kAvail | kUsed});

  EXPECT_EQ(driver_->take_used()->written, 0u);
}

TEST_F(PackedDriverQueueTest, IdThatWasNotGivenOutIsDroppedAndCounted) {
  use(0, 5);
  use(1, 0xFFFF);

  EXPECT_FALSE(driver_->take_used());

  EXPECT_EQ(driver_->bogus_used(), 2u);
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

TEST_F(PackedDriverQueueTest, DeviceIsNotKickedWhenItsEventIsDisabled) {
  ring_.set_device_event({0, kDisable});
  ASSERT_TRUE(add(1));

  EXPECT_FALSE(driver_->publish());
}

TEST_F(PackedDriverQueueTest, InterruptsAreDisabledAndEnabledByTheEventFlags) {
  driver_->disable_interrupts();
  const RawEvent disabled = ring_.driver_event();

  EXPECT_FALSE(driver_->enable_interrupts());

  EXPECT_EQ(disabled.flags, kDisable);
  EXPECT_EQ(ring_.driver_event().flags, kEnable);
}

TEST_F(PackedDriverQueueTest, DeviceIsKickedAtTheEntryItWaitsFor) {
  create_with_event_index();
  turn(3);
  ring_.set_device_event({3 | kWrap, kSpecific});
  ASSERT_TRUE(add(1));

  EXPECT_TRUE(driver_->publish());
}

TEST_F(PackedDriverQueueTest, DeviceIsNotKickedBeforeTheEntryItWaitsFor) {
  create_with_event_index();
  turn(3);
  ring_.set_device_event({4 | kWrap, kSpecific});
  ASSERT_TRUE(add(1));

  EXPECT_FALSE(driver_->publish());
}

TEST_F(PackedDriverQueueTest, InterruptsAreAskedForAtTheEntryOfTheOldestBuffer) {
  create_with_event_index();
  ASSERT_TRUE(add(1) && add(1));
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

TEST_F(PackedDriverQueueTest, PKD_G_04_NextAvailableIsTheFirstDescriptorThatIsNot) {
  ASSERT_TRUE(add(2) && add(1));
  (void)driver_->publish();

  EXPECT_EQ(driver_->next_available(), 3 | kWrap);
  EXPECT_TRUE(is_available(2));
  EXPECT_FALSE(is_available(3));
}

TEST_F(PackedDriverQueueTest, PKD_G_04_WrapCounterOfTheNextAvailableTurnsOverWithTheRing) {
  turn(kSize);

  EXPECT_EQ(driver_->next_available(), 0u);
}

TEST_F(PackedDriverQueueTest, PKD_G_04_WrapCounterOfTheNextAvailableTurnsBack) {
  turn(2 * kSize);

  EXPECT_EQ(driver_->next_available(), 0 | kWrap);
}

}  // namespace
}  // namespace vballoon
