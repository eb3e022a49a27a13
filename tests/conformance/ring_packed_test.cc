// SPDX-License-Identifier: MIT
// The packed virtqueue, statement by statement (virtio 1.3, section 2.8).
//
// A test bears the numbers of the statements that it shows. Those about the order of memory
// accesses, PKD-G-17 and PKD-G-18, are in memory_order_test.cc: no single thread sees it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "ring/driver_queue.h"
#include "ring/packed_queue_fixture.h"

namespace vballoon {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
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

class PackedConformance : public testing::PackedQueueFixture {};

TEST_F(PackedConformance, VQR_D_01_QueueThatWasResetGivesNothingAndNotifiesNobody) {
  offer(0);
  offer(1);
  DescriptorChain held = pop_chain();
  const RawPackedDescriptor before = ring_.read(0);

  queue_.reset();
  held.complete(1);

  EXPECT_EQ(pop_error(), Errc::kQueueNotReady);
  EXPECT_FALSE(queue_.publish());
  EXPECT_EQ(ring_.read(0), before);
}

TEST_F(PackedConformance, VQR_D_02_VQR_D_03_QueueThatWasResetBeginsAtItsFirstEntry) {
  turn(kSize + 3);
  queue_.reset();

  start(raw_packed_config(5, 0x10000));
  turn(1);

  EXPECT_TRUE(is_used(0, true));
  EXPECT_EQ(queue_.position(), (QueuePosition{1, 1, true, true}));
}

TEST_F(PackedConformance, PKD_I_01_EverySizeUpToTheLargestIsTaken) {
  EXPECT_TRUE(queue_.start(memory_, raw_packed_config(1)));
  EXPECT_TRUE(queue_.start(memory_, raw_packed_config(1000)));
  EXPECT_TRUE(queue_.start(memory_, raw_packed_config(32768)));
  EXPECT_FALSE(queue_.start(memory_, raw_packed_config(32769)));
}

TEST_F(PackedConformance, PKD_I_02_WrapCountersBeginAtOneAndTurnOverAtTheEnd) {
  turn(kSize);
  const std::uint16_t first_round = ring_.read(kSize - 1).flags;
  turn(1);

  EXPECT_EQ(first_round, kAvail | kUsed);
  EXPECT_EQ(ring_.read(0).flags, 0u);
}

TEST_F(PackedConformance, PKD_I_03_WriteFlagSaysThatBytesWereWritten) {
  offer(0);
  offer(1);
  answer(7);
  answer(0);
  (void)queue_.publish();

  EXPECT_EQ(ring_.read(0).flags & kWrite, kWrite);
  EXPECT_EQ(ring_.read(0).length, 7u);
  EXPECT_EQ(ring_.read(1).flags & kWrite, 0);
}

TEST_F(PackedConformance, PKD_I_04_ListIsAnsweredOnceWithTheIdOfItsLastDescriptor) {
  ring_.append({kPayload, 16, 1, kNext});
  ring_.append({kPayload, 16, 2, kNext});
  ring_.append({kPayload, 16, 3, 0});
  answer();
  (void)queue_.publish();

  EXPECT_EQ(ring_.read(0).id, 3u);
  EXPECT_FALSE(is_used(1, true));
  EXPECT_EQ(queue_.position(), (QueuePosition{3, 3, true, true}));
}

TEST_F(PackedConformance, PKD_I_05_OnlyTheWriteFlagCountsInATable) {
  start_with_indirect();
  ring_.write_at(kTable, 0, {0x40000, 1, 9, kNext | kIndirect | kAvail});
  ring_.write_at(kTable, 1, {0x41000, 2, 9, kWrite});
  ring_.append({kTable, 32, 4, kIndirect | kWrite});

  const DescriptorChain chain = pop_chain();

  EXPECT_THAT(chain.readable(), ElementsAre(GuestBuffer{0x40000, 1}));
  EXPECT_THAT(chain.writable(), ElementsAre(GuestBuffer{0x41000, 2}));
}

TEST_F(PackedConformance, PKD_I_06_EventStructureNamesAPlaceWithTheFeatureOnly) {
  (void)queue_.enable_kicks();
  const RawEvent without = ring_.device_event();
  start_with_event_index();
  (void)queue_.enable_kicks();

  EXPECT_EQ(without.flags, kEnable);
  EXPECT_EQ(ring_.device_event(), (RawEvent{0 | kWrap, kSpecific}));
}

TEST_F(PackedConformance, PKD_D_01_BuffersAreTakenInTheOrderOfTheRing) {
  ring_.append({0x40000, 1, 7, 0});
  ring_.append({0x41000, 2, 3, 0});

  const DescriptorChain first = pop_chain();
  const DescriptorChain second = pop_chain();

  EXPECT_THAT(first.readable(), ElementsAre(GuestBuffer{0x40000, 1}));
  EXPECT_THAT(second.readable(), ElementsAre(GuestBuffer{0x41000, 2}));
}

TEST_F(PackedConformance, PKD_D_02_UsedDescriptorsAreInTheOrderOfCompletion) {
  offer(7);
  offer(3);
  DescriptorChain first = pop_chain();
  DescriptorChain second = pop_chain();

  second.complete();
  first.complete();
  (void)queue_.publish();

  EXPECT_EQ(ring_.read(0).id, 3u);
  EXPECT_EQ(ring_.read(1).id, 7u);
}

TEST_F(PackedConformance, PKD_D_03_FirstDescriptorOfABatchIsWrittenLast) {
  offer(0);
  offer(1);
  answer();
  answer();

  EXPECT_FALSE(is_used(0, true));
  EXPECT_TRUE(is_used(1, true));
}

TEST_F(PackedConformance, PKD_D_05_WritableBufferIsNotAmongWhatIsRead) {
  ring_.append({kPayload, 16, 0, kNext});
  ring_.append({kMemoryBytes, 16, 0, kWrite});
  const DescriptorChain chain = pop_chain();
  std::vector<std::byte> bytes(chain.readable_bytes());

  EXPECT_TRUE(chain.read(0, bytes));

  EXPECT_EQ(bytes.size(), 16u);
}

TEST_F(PackedConformance, PKD_D_06_DescriptorIsNotUsedBeforeItsAvailBitChanges) {
  ring_.write(0, {kPayload, 16, 5, 0});
  const bool before = pop_is_empty();

  ring_.write(0, {kPayload, 16, 5, kAvail});

  EXPECT_TRUE(before);
  EXPECT_FALSE(pop_is_empty());
}

TEST_F(PackedConformance, PKD_D_06_NextOfAListIsNotUsedBeforeItsAvailBitChanges) {
  ring_.write(1, {kPayload, 16, 6, 0});
  ring_.append({kPayload, 16, 5, kNext});

  EXPECT_EQ(pop_error(), Errc::kDescriptorIndexOutOfRange);
}

TEST_F(PackedConformance, PKD_D_07_UsedDescriptorIsNotChangedAfterItsUsedBit) {
  offer(5);
  answer(3);
  (void)queue_.publish();
  const RawPackedDescriptor used = ring_.read(0);

  turn(kSize - 1);
  (void)queue_.enable_kicks();
  queue_.disable_kicks();

  EXPECT_EQ(ring_.read(0), used);
}

TEST_F(PackedConformance, PKD_D_08_DescriptorsOfAListAreUsedInTheirOrder) {
  ring_.append({0x42000, 1, 0, kNext});
  ring_.append({0x40000, 2, 0, kNext});
  ring_.append({0x41000, 3, 0, 0});

  EXPECT_THAT(pop_chain().readable(), ElementsAre(GuestBuffer{0x42000, 1}, GuestBuffer{0x40000, 2},
                                                  GuestBuffer{0x41000, 3}));
}

TEST_F(PackedConformance, PKD_D_09_TableLongerThanTheQueueIsReturned) {
  start_with_indirect();
  ring_.append({kTable, (kSize + 1) * 16, 5, kIndirect});

  EXPECT_EQ(pop_error_and_publish(), Errc::kDescriptorLoop);

  EXPECT_EQ(ring_.read(0).id, 5u);
  EXPECT_TRUE(is_used(0, true));
}

TEST_F(PackedConformance, PKD_D_10_BufferIsTakenAsSoonAsItsFlagsChanged) {
  queue_.disable_kicks();

  offer(5);

  EXPECT_FALSE(pop_is_empty());
}

TEST_F(PackedConformance, PKD_D_11_DeviceSuppressesKicks) {
  queue_.disable_kicks();

  EXPECT_EQ(ring_.device_event().flags, kDisable);
}

class PackedDriverConformance : public ::testing::Test {
 protected:
  static constexpr std::uint16_t kSize = 5;
  static constexpr std::uint64_t kTable = 0x20000;
  static constexpr GuestBuffer kBuffer{0x30000, 16};

  void create_with_indirect() {
    config_.indirect = true;
    driver_ = DriverQueue::create(memory_, config_).value();
  }
  bool add(std::size_t readable, std::size_t writable = 0) {
    return driver_->add(std::vector<GuestBuffer>(readable, kBuffer),
                        std::vector<GuestBuffer>(writable, kBuffer), 1);
  }
  bool add_indirect(std::size_t readable, std::size_t writable = 0) {
    return driver_->add_indirect(std::vector<GuestBuffer>(readable, kBuffer),
                                 std::vector<GuestBuffer>(writable, kBuffer), kTable, 1);
  }
  RawPackedDescriptor table_entry(std::uint16_t index) const {
    RawPackedDescriptor entry;
    (void)memory_->read(kTable + std::uint64_t{16} * index,
                        std::as_writable_bytes(std::span(&entry, 1)));
    return entry;
  }
  std::vector<std::byte> whole_ring() const {
    std::vector<std::byte> bytes(std::size_t{16} * kSize);
    if (!memory_->read(config_.descriptor_table, bytes)) throw std::out_of_range("whole_ring");
    return bytes;
  }

  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, 1 << 20}}).value();
  QueueConfig config_ = raw_packed_config(kSize);
  testing::RawPackedRing ring_{memory_, config_};
  std::unique_ptr<DriverQueue> driver_ = DriverQueue::create(memory_, config_).value();
};

TEST(PackedLayoutConformance, PKD_G_01_PartsAreAlignedForEverySize) {
  const QueueConfig one = lay_out_ring(1, 0x1000, true).config;
  const QueueConfig largest = lay_out_ring(32768, 0x1000, true).config;

  EXPECT_EQ(one.descriptor_table % 16, 0u);
  EXPECT_EQ(one.available_ring % 4, 0u);
  EXPECT_EQ(one.used_ring % 4, 0u);
  EXPECT_EQ(largest.available_ring % 4, 0u);
  EXPECT_EQ(largest.used_ring % 4, 0u);
}

TEST_F(PackedDriverConformance, PKD_G_02_PKD_G_10_FullRingIsNotChangedBeforeADescriptorIsUsed) {
  ASSERT_TRUE(add(3) && add(2));
  (void)driver_->publish();
  const auto before = whole_ring();

  EXPECT_FALSE(add(1));
  (void)driver_->publish();

  EXPECT_EQ(whole_ring(), before);
}

TEST_F(PackedDriverConformance, PKD_G_03_CLN_G_01_AvailableDescriptorIsNotChanged) {
  ASSERT_TRUE(add(1));
  (void)driver_->publish();
  const RawPackedDescriptor before = ring_.read(0);

  ASSERT_TRUE(add(2));
  (void)driver_->publish();

  EXPECT_EQ(ring_.read(0), before);
}

TEST_F(PackedDriverConformance, PKD_I_01_MMI_I_01_RingsOfANewQueueAreZeros) {
  ASSERT_TRUE(memory_->write(0, std::vector<std::byte>(1 << 20, std::byte{0xFF})));

  driver_ = DriverQueue::create(memory_, config_).value();

  EXPECT_THAT(whole_ring(), Each(std::byte{0}));
  EXPECT_EQ(ring_.driver_event(), RawEvent{});
  EXPECT_EQ(ring_.device_event(), RawEvent{});
}

TEST_F(PackedDriverConformance, PKD_G_06_PKD_G_07_PKD_G_14_ListLongerThanTheQueueIsRefused) {
  create_with_indirect();

  EXPECT_FALSE(add(kSize + 1));
  EXPECT_FALSE(add_indirect(kSize + 1));
}

TEST_F(PackedDriverConformance, PKD_G_08_WritablePiecesComeLast) {
  ASSERT_TRUE(add(1, 1));
  (void)driver_->publish();

  EXPECT_EQ(ring_.read(0).flags, kNext | kAvail);
  EXPECT_EQ(ring_.read(1).flags, kWrite | kAvail);
}

TEST_F(PackedDriverConformance, PKD_G_09_ListComesBackByOneUsedDescriptor) {
  ASSERT_TRUE(add(1, 2));
  (void)driver_->publish();
  ring_.write(0, {0, 1, ring_.read(2).id, kAvail | kUsed | kWrite});

  EXPECT_TRUE(driver_->take_used());

  EXPECT_EQ(driver_->free_descriptors(), kSize);
}

TEST_F(PackedDriverConformance, PKD_G_11_PKD_G_16_FirstDescriptorBecomesAvailableLast) {
  ASSERT_TRUE(add(3));
  const std::uint16_t first_before = ring_.read(0).flags;
  const std::uint16_t others_before = ring_.read(1).flags & ring_.read(2).flags;

  (void)driver_->publish();

  EXPECT_EQ(first_before, 0u);
  EXPECT_EQ(others_before & kAvail, kAvail);
  EXPECT_EQ(ring_.read(0).flags, kNext | kAvail);
}

TEST_F(PackedDriverConformance, PKD_G_12_DirectDescriptorsAreNotIndirect) {
  ASSERT_TRUE(add(1, 1));
  (void)driver_->publish();

  EXPECT_EQ((ring_.read(0).flags | ring_.read(1).flags) & kIndirect, 0);
}

TEST_F(PackedDriverConformance, PKD_G_13_TableEntriesHaveNoFlagButWrite) {
  create_with_indirect();
  ASSERT_TRUE(add_indirect(2, 1));

  EXPECT_EQ(table_entry(0).flags, 0u);
  EXPECT_EQ(table_entry(1).flags, 0u);
  EXPECT_EQ(table_entry(2).flags, kWrite);
}

TEST_F(PackedDriverConformance, PKD_G_15_IndirectDescriptorStandsAlone) {
  create_with_indirect();
  ASSERT_TRUE(add_indirect(2));
  (void)driver_->publish();

  EXPECT_EQ(ring_.read(0).flags, kIndirect | kAvail);
}

TEST_F(PackedDriverConformance, PKD_G_19_DriverThatEnablesInterruptsAgainLooksOnceMore) {
  ASSERT_TRUE(add(1));
  (void)driver_->publish();
  driver_->disable_interrupts();
  const std::uint16_t disabled = ring_.driver_event().flags;
  ring_.write(0, {0, 0, ring_.read(0).id, kAvail | kUsed});

  EXPECT_TRUE(driver_->enable_interrupts());

  EXPECT_EQ(disabled, kDisable);
}

TEST_F(PackedDriverConformance, PKD_I_02_AvailableBitsTurnOverInTheSecondRound) {
  ASSERT_TRUE(add(kSize));
  (void)driver_->publish();
  const std::uint16_t first_round = ring_.read(kSize - 1).flags;
  ring_.write(0, {0, 0, ring_.read(kSize - 1).id, kAvail | kUsed});
  ASSERT_TRUE(driver_->take_used());
  ASSERT_TRUE(add(1));
  (void)driver_->publish();

  EXPECT_EQ(first_round & (kAvail | kUsed), kAvail);
  EXPECT_EQ(ring_.read(0).flags, kUsed);
}

}  // namespace
}  // namespace vballoon
