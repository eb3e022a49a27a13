// SPDX-License-Identifier: MIT
// The split virtqueue, statement by statement (virtio 1.3, sections 2.6.1 and 2.7).
//
// A test bears the numbers of the statements that it shows. Those about the order of memory
// accesses, SPL-G-29 and SPL-G-30, are in memory_order_test.cc: no single thread sees it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "ring/device_queue_fixture.h"
#include "ring/driver_queue.h"

namespace vballoon {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kIndirect;
using testing::kNext;
using testing::kWrite;
using testing::raw_config;
using testing::RawUsed;

std::vector<std::byte> bytes_at(const GuestMemory& memory, std::uint64_t at, std::size_t count) {
  std::vector<std::byte> bytes(count);
  if (!memory.read(at, bytes)) throw std::out_of_range("bytes_at");
  return bytes;
}

class SplitConformance : public testing::DeviceQueueFixture {
 protected:
  void answer_one(std::uint32_t written = 0) {
    ring_.offer(0, {kPayload, 16, kWrite, 0});
    pop_chain().complete(written);
  }
};

TEST_F(SplitConformance, VQR_D_01_QueueThatWasResetGivesNothingAndNotifiesNobody) {
  ring_.offer(0, {kPayload, 16, 0, 0});
  ring_.offer(1, {kPayload, 16, 0, 0});
  DescriptorChain held = pop_chain();

  queue_.reset();
  held.complete(1);

  EXPECT_EQ(pop_error(), Errc::kQueueNotReady);
  EXPECT_FALSE(queue_.publish());
  EXPECT_THAT(returned(), IsEmpty());
}

TEST_F(SplitConformance, VQR_D_02_QueueThatWasResetBeginsAtItsFirstEntries) {
  turn(3);
  queue_.reset();
  ring_.set_avail_index(0);
  ring_.set_used_index(0);

  start(config_);
  turn(1);

  EXPECT_EQ(ring_.used_index(), 1u);
  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(SplitConformance, VQR_D_03_QueueMayHaveAnotherSizeAfterAReset) {
  turn(3);
  queue_.reset();
  const QueueConfig smaller = raw_config(2, 0x10000);
  ring_ = testing::RawRing(memory_, smaller);

  start(smaller);
  turn(5);

  EXPECT_EQ(ring_.used_index(), 5u);
}

TEST_F(SplitConformance, VQR_I_01_UsedLengthIsTheNumberOfBytesWritten) {
  answer_one(13);
  (void)queue_.publish();

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 13}));
}

TEST_F(SplitConformance, SPL_D_01_MessageIsTheSameInAnyArrangementOfDescriptors) {
  ASSERT_TRUE(memory_->write(kPayload, std::vector{std::byte{1}, std::byte{2}, std::byte{3}}));
  ring_.describe(5, {kPayload + 1, 2, 0, 0});
  ring_.offer(2, {kPayload, 1, kNext, 5});
  std::vector<std::byte> bytes(3);

  ASSERT_TRUE(pop_chain().read(0, bytes));

  EXPECT_THAT(bytes, ElementsAre(std::byte{1}, std::byte{2}, std::byte{3}));
}

TEST_F(SplitConformance, SPL_D_02_ChainLongerThanTheQueueIsReturned) {
  ring_.offer(0, {kPayload, 16, kNext, 0});

  EXPECT_EQ(pop_error(), Errc::kDescriptorLoop);
  (void)queue_.publish();

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(SplitConformance, SPL_D_04_WritableBufferIsNotAmongWhatIsRead) {
  ring_.describe(1, {kMemoryBytes, 16, kWrite, 0});
  ring_.offer(0, {kPayload, 16, kNext, 1});
  const DescriptorChain chain = pop_chain();
  std::vector<std::byte> bytes(chain.readable_bytes());

  EXPECT_TRUE(chain.read(0, bytes));

  EXPECT_EQ(bytes.size(), 16u);
}

TEST_F(SplitConformance, SPL_D_06_DescriptorTableIsNotWritten) {
  ring_.describe(2, {kPayload, 32, kWrite, 5});
  ring_.offer(1, {kPayload, 16, kNext, 2});
  const auto before = bytes_at(*memory_, 0, config_.available_ring);

  pop_chain().complete(3);
  (void)queue_.publish();
  (void)queue_.enable_kicks();

  EXPECT_EQ(bytes_at(*memory_, 0, config_.available_ring), before);
}

TEST_F(SplitConformance, SPL_D_07_WriteFlagOfATableIsIgnored) {
  start_with_indirect();
  ring_.describe_at(kTable, 0, {kPayload, 16, 0, 0});
  ring_.offer(0, {kTable, 16, kIndirect | kWrite, 0});

  EXPECT_THAT(pop_chain().readable(), ElementsAre(GuestBuffer{kPayload, 16}));
}

TEST_F(SplitConformance, SPL_D_08_TableMayComeBehindDirectDescriptors) {
  start_with_indirect();
  ring_.describe_at(kTable, 0, {kPayload, 16, 0, 0});
  ring_.describe(1, {0x41000, 2, kNext, 2});
  ring_.describe(2, {kTable, 16, kIndirect, 0});
  ring_.offer(0, {0x40000, 1, kNext, 1});

  EXPECT_THAT(pop_chain().readable(), ElementsAre(GuestBuffer{0x40000, 1}, GuestBuffer{0x41000, 2},
                                                  GuestBuffer{kPayload, 16}));
}

TEST_F(SplitConformance, SPL_D_09_SPL_D_11_DriverWithFlagsZeroIsInterruptedWhateverUsedEventSays) {
  ring_.set_used_event(40);
  answer_one();

  EXPECT_TRUE(queue_.publish());
}

TEST_F(SplitConformance, SPL_D_10_DriverWithFlagsOneIsNotInterrupted) {
  ring_.set_avail_flags(1);
  answer_one();

  EXPECT_FALSE(queue_.publish());
}

TEST_F(SplitConformance, SPL_D_12_SPL_D_13_UsedEventDecidesWhateverTheFlagSays) {
  start_with_event_index();
  ring_.set_avail_flags(1);
  ring_.set_used_event(0);
  answer_one();

  EXPECT_TRUE(queue_.publish());
}

TEST_F(SplitConformance, SPL_D_14_DriverThatWaitsForALaterEntryIsNotInterrupted) {
  start_with_event_index();
  ring_.set_used_event(1);
  answer_one();

  EXPECT_FALSE(queue_.publish());
}

TEST_F(SplitConformance, SPL_D_15_ElementStandsBeforeTheUsedIndexMoves) {
  answer_one(16);

  EXPECT_EQ(ring_.used_index(), 0u);
  EXPECT_EQ(ring_.used(0), (RawUsed{0, 16}));
}

TEST_F(SplitConformance, SPL_D_18_SPL_D_19_SPL_D_24_UsedFlagsAreZeroOrOne) {
  queue_.disable_kicks();
  const std::uint16_t disabled = ring_.used_flags();
  (void)queue_.enable_kicks();

  EXPECT_EQ(disabled, 1u);
  EXPECT_EQ(ring_.used_flags(), 0u);
}

TEST_F(SplitConformance, SPL_D_20_SPL_D_21_UsedFlagsStayZeroWithAvailEvent) {
  start_with_event_index();
  turn(3);
  queue_.disable_kicks();
  const std::uint16_t disabled = ring_.used_flags();
  (void)queue_.enable_kicks();

  EXPECT_EQ(disabled, 0u);
  EXPECT_EQ(ring_.used_flags(), 0u);
  EXPECT_EQ(ring_.avail_event(), 3u);
}

TEST_F(SplitConformance, SPL_D_23_ChainIsTakenAsSoonAsTheIndexMoved) {
  queue_.disable_kicks();
  ring_.describe(0, {kPayload, 16, 0, 0});
  const bool before = pop_is_empty();

  ring_.offer(0);

  EXPECT_TRUE(before);
  EXPECT_FALSE(pop_is_empty());
}

TEST_F(SplitConformance, SPL_I_03_UsedEventIsPassedAcrossTheWrapOfTheIndex) {
  start_with_event_index();
  turn(65535);
  ring_.set_used_event(65535);
  answer_one();

  EXPECT_TRUE(queue_.publish());
  EXPECT_EQ(ring_.used_index(), 0u);
}

class SplitDriverConformance : public ::testing::Test {
 protected:
  static constexpr std::uint16_t kSize = 4;
  static constexpr std::uint64_t kTable = 0x20000;
  static constexpr GuestBuffer kBuffer{0x30000, 16};

  void create(bool event_index, bool indirect = false, bool in_order = false) {
    config_.event_index = event_index;
    config_.indirect = indirect;
    config_.in_order = in_order;
    driver_ = DriverQueue::create(memory_, config_).value();
  }
  bool add(std::size_t readable, std::size_t writable = 0) {
    return driver_->add(std::vector<GuestBuffer>(readable, kBuffer),
                        std::vector<GuestBuffer>(writable, kBuffer), 1);
  }
  bool add_indirect(std::size_t readable) {
    return driver_->add_indirect(std::vector<GuestBuffer>(readable, kBuffer), {}, kTable, 1);
  }
  void use(std::uint16_t head) {
    ring_.set_used(ring_.used_index(), {head, 0});
    ring_.set_used_index(static_cast<std::uint16_t>(ring_.used_index() + 1));
  }
  testing::RawDescriptor table_entry(std::uint16_t index) const {
    testing::RawDescriptor entry;
    (void)memory_->read(kTable + std::uint64_t{16} * index,
                        std::as_writable_bytes(std::span(&entry, 1)));
    return entry;
  }

  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, 1 << 20}}).value();
  QueueConfig config_ = raw_config(kSize);
  testing::RawRing ring_{memory_, config_};
  std::unique_ptr<DriverQueue> driver_ = DriverQueue::create(memory_, config_).value();
};

TEST(SplitLayoutConformance, SPL_G_01_SPL_I_01_PartsAreAlignedForEverySize) {
  const QueueConfig one = lay_out_ring(1, 0x1000).config;
  const QueueConfig largest = lay_out_ring(32768, 0x1000).config;

  EXPECT_EQ(one.descriptor_table % 16, 0u);
  EXPECT_EQ(one.available_ring % 2, 0u);
  EXPECT_EQ(one.used_ring % 4, 0u);
  EXPECT_EQ(largest.available_ring % 2, 0u);
  EXPECT_EQ(largest.used_ring % 4, 0u);
}

TEST_F(SplitDriverConformance, SPL_G_04_SPL_G_05_WritablePiecesComeLastAndEndTheChain) {
  ASSERT_TRUE(add(1, 1));
  const auto first = ring_.descriptor(ring_.offered(0));
  const auto second = ring_.descriptor(first.next);

  EXPECT_EQ(first.flags, kNext);
  EXPECT_EQ(second.flags, kWrite);
  EXPECT_EQ(driver_->free_descriptors(), kSize - 2);
}

TEST_F(SplitDriverConformance, SPL_G_07_InOrderDescriptorsOfAChainFollowOneAnother) {
  create(false, false, true);
  ASSERT_TRUE(add(1) && add(3));

  EXPECT_EQ(ring_.offered(1), 1u);
  EXPECT_EQ(ring_.descriptor(1).next, 2u);
  EXPECT_EQ(ring_.descriptor(2).next, 3u);
}

TEST_F(SplitDriverConformance, SPL_G_07_InOrderTheLastDescriptorIsFollowedByTheFirst) {
  create(false, false, true);
  ASSERT_TRUE(add(3));
  use(ring_.offered(0));
  ASSERT_TRUE(driver_->take_used());
  ASSERT_TRUE(add(2));

  EXPECT_EQ(ring_.offered(1), 3u);
  EXPECT_EQ(ring_.descriptor(3).flags, kNext);
  EXPECT_EQ(ring_.descriptor(3).next, 0u);
}

TEST_F(SplitDriverConformance, SPL_G_08_DirectDescriptorsAreNotIndirect) {
  ASSERT_TRUE(add(2, 2));

  EXPECT_EQ(ring_.descriptor(0).flags & kIndirect, 0);
  EXPECT_EQ(ring_.descriptor(1).flags & kIndirect, 0);
  EXPECT_EQ(ring_.descriptor(2).flags & kIndirect, 0);
  EXPECT_EQ(ring_.descriptor(3).flags & kIndirect, 0);
}

TEST_F(SplitDriverConformance, SPL_G_09_SPL_G_12_TableEntriesFollowOneAnother) {
  create(false, true, true);
  ASSERT_TRUE(add_indirect(3));

  EXPECT_EQ(table_entry(0).flags, kNext);
  EXPECT_EQ(table_entry(0).next, 1u);
  EXPECT_EQ(table_entry(1).flags, kNext);
  EXPECT_EQ(table_entry(1).next, 2u);
  EXPECT_EQ(table_entry(2).flags, 0u);
}

TEST_F(SplitDriverConformance, SPL_G_10_ChainLongerThanTheQueueIsRefused) {
  create(false, true);

  EXPECT_FALSE(add(kSize + 1));
  EXPECT_FALSE(add_indirect(kSize + 1));
}

TEST_F(SplitDriverConformance, SPL_G_11_IndirectDescriptorHasNoNext) {
  create(false, true);
  ASSERT_TRUE(add_indirect(2));

  EXPECT_EQ(ring_.descriptor(ring_.offered(0)).flags, kIndirect);
}

// With and without something to publish, and round the ring more than once.
TEST_F(SplitDriverConformance, SPL_G_13_AvailableIndexOnlyGrows) {
  std::vector<std::uint16_t> indices;
  for (std::uint16_t turn = 0; turn < 6; ++turn) {
    ASSERT_TRUE(add(1));
    (void)driver_->publish();
    use(ring_.offered(turn));
    ASSERT_TRUE(driver_->take_used());
    (void)driver_->publish();
    indices.push_back(ring_.avail_index());
  }

  EXPECT_THAT(indices, ElementsAre(1, 2, 3, 4, 5, 6));
}

TEST_F(SplitDriverConformance, SPL_G_14_SPL_G_15_AvailableFlagsAreZeroOrOne) {
  driver_->disable_interrupts();
  const std::uint16_t disabled = ring_.avail_flags();
  (void)driver_->enable_interrupts();

  EXPECT_EQ(disabled, 1u);
  EXPECT_EQ(ring_.avail_flags(), 0u);
}

TEST_F(SplitDriverConformance, SPL_G_16_SPL_G_17_AvailableFlagsStayZeroWithUsedEvent) {
  create(true);
  driver_->disable_interrupts();
  const std::uint16_t disabled = ring_.avail_flags();
  (void)driver_->enable_interrupts();

  EXPECT_EQ(disabled, 0u);
  EXPECT_EQ(ring_.avail_flags(), 0u);
  EXPECT_EQ(ring_.used_event(), 0u);
}

TEST_F(SplitDriverConformance, MMI_I_01_RingsOfANewQueueAreZeros) {
  ASSERT_TRUE(memory_->write(0, std::vector<std::byte>(1 << 20, std::byte{0xFF})));
  create(true);

  EXPECT_THAT(bytes_at(*memory_, config_.descriptor_table, 16 * kSize), Each(std::byte{0}));
  EXPECT_THAT(bytes_at(*memory_, config_.available_ring, 6 + 2 * kSize), Each(std::byte{0}));
  EXPECT_THAT(bytes_at(*memory_, config_.used_ring, 6 + 8 * kSize), Each(std::byte{0}));
}

TEST_F(SplitDriverConformance, CLN_G_01_BufferStaysAsItIsWhileOthersComeAndGo) {
  ASSERT_TRUE(add(1, 1));
  (void)driver_->publish();
  const std::uint16_t head = ring_.offered(0);
  const auto descriptor = ring_.descriptor(head);
  const auto next = ring_.descriptor(descriptor.next);

  for (std::uint16_t turn = 1; turn < kSize; ++turn) {
    ASSERT_TRUE(add(2));
    (void)driver_->publish();
    use(ring_.offered(turn));
    ASSERT_TRUE(driver_->take_used());
  }

  EXPECT_EQ(ring_.offered(0), head);
  EXPECT_EQ(ring_.descriptor(head), descriptor);
  EXPECT_EQ(ring_.descriptor(descriptor.next), next);
}

TEST_F(SplitDriverConformance, SPL_G_21_UsedFlagsBeginAtZero) {
  ring_.set_used_flags(1);

  create(false);

  EXPECT_EQ(ring_.used_flags(), 0u);
}

TEST_F(SplitDriverConformance,
       SPL_G_22_SPL_G_24_DeviceWithFlagsZeroIsKickedWhateverAvailEventSays) {
  ring_.set_avail_event(40);
  ASSERT_TRUE(add(1));

  EXPECT_TRUE(driver_->publish());
}

TEST_F(SplitDriverConformance, SPL_G_23_DeviceWithFlagsOneIsNotKicked) {
  ring_.set_used_flags(1);
  ASSERT_TRUE(add(1));

  EXPECT_FALSE(driver_->publish());
}

TEST_F(SplitDriverConformance, SPL_G_25_SPL_G_26_AvailEventDecidesWhateverTheFlagSays) {
  create(true);
  ring_.set_used_flags(1);
  ring_.set_avail_event(0);
  ASSERT_TRUE(add(1));

  EXPECT_TRUE(driver_->publish());
}

TEST_F(SplitDriverConformance, SPL_G_27_DeviceThatWaitsForALaterEntryIsNotKicked) {
  create(true);
  ring_.set_avail_event(1);
  ASSERT_TRUE(add(1));

  EXPECT_FALSE(driver_->publish());
}

TEST_F(SplitDriverConformance, SPL_G_28_BuffersOfABatchBecomeAvailableByOneUpdateOfTheIndex) {
  ASSERT_TRUE(add(1) && add(1) && add(1));
  const std::uint16_t before = ring_.avail_index();

  (void)driver_->publish();

  EXPECT_EQ(before, 0u);
  EXPECT_EQ(ring_.avail_index(), 3u);
}

TEST_F(SplitDriverConformance, SPL_G_31_DriverThatEnablesInterruptsAgainLooksOnceMore) {
  ASSERT_TRUE(add(1));
  (void)driver_->publish();
  driver_->disable_interrupts();
  use(ring_.offered(0));

  EXPECT_TRUE(driver_->enable_interrupts());
}

TEST_F(SplitDriverConformance, SPL_I_02_OneUsedEntryAnswersABatchInOrder) {
  create(false, false, true);
  ASSERT_TRUE(add(1) && add(2));
  (void)driver_->publish();
  ring_.set_used(0, {ring_.offered(1), 0});
  ring_.set_used_index(2);

  EXPECT_TRUE(driver_->take_used());
  EXPECT_TRUE(driver_->take_used());

  EXPECT_EQ(driver_->free_descriptors(), kSize);
}

}  // namespace
}  // namespace vballoon
