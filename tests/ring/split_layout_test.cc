// SPDX-License-Identifier: MIT
// Where the parts of a split ring lie, and the arithmetic of its indices (src/ring/split_layout.h).
#include "ring/split_layout.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

#include "ring/raw_ring.h"
#include "test_memory.h"

namespace vballoon {
namespace {

using testing::raw_config;

TEST(PassesEventTest, EntryThatIsWaitedForIsPassed) { EXPECT_TRUE(passes_event(5, 6, 5)); }

TEST(PassesEventTest, EntryNotYetReachedIsNotPassed) { EXPECT_FALSE(passes_event(6, 6, 5)); }

TEST(PassesEventTest, EntryAlreadyBehindIsNotPassedAgain) { EXPECT_FALSE(passes_event(4, 6, 5)); }

TEST(PassesEventTest, EntryInTheMiddleOfABatchIsPassed) { EXPECT_TRUE(passes_event(7, 10, 5)); }

TEST(PassesEventTest, LastEntryBeforeTheWrapIsPassed) {
  EXPECT_TRUE(passes_event(65535, 0, 65535));
}

TEST(PassesEventTest, FirstEntryBehindTheWrapIsPassedInABatch) {
  EXPECT_TRUE(passes_event(0, 2, 65534));
}

TEST(PassesEventTest, NothingMovedPassesNothing) { EXPECT_FALSE(passes_event(5, 5, 5)); }

// The definition in words: one of the entries before, before + 1, ..., now - 1 is the event.
RC_GTEST_PROP(PassesEventProperty, AgreesWithCountingEntries, ()) {
  const auto before = *rc::gen::arbitrary<std::uint16_t>();
  const auto moved = *rc::gen::inRange<std::uint16_t>(0, 600);
  const auto distance = *rc::gen::inRange<std::uint16_t>(0, 600);
  const auto event = static_cast<std::uint16_t>(before + distance - 10);
  bool passed = false;
  for (std::uint16_t i = 0; i < moved; ++i) {
    passed = passed || static_cast<std::uint16_t>(before + i) == event;
  }

  RC_ASSERT(passes_event(event, static_cast<std::uint16_t>(before + moved), before) == passed);
}

// SPL-I-01: 2.7 gives 16, 6 + 2 and 6 + 8 bytes an entry.
TEST(SplitLayoutTest, PartsHaveTheSizesOfTheSpecification) {
  EXPECT_EQ(descriptor_table_bytes(kMaxQueueSize), 524288u);
  EXPECT_EQ(available_ring_bytes(kMaxQueueSize), 65542u);
  EXPECT_EQ(used_ring_bytes(kMaxQueueSize), 262150u);
}

class SplitLayoutLocateTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kBytes = 1 << 20;

  bool located(const QueueConfig& config) const {
    return SplitLayout::locate(*memory_, config).has_value();
  }

  std::shared_ptr<const GuestMemory> memory_ = testing::memory_of(kBytes);
  QueueConfig config_ = raw_config(8);
};

TEST_F(SplitLayoutLocateTest, SizeZeroIsRefused) {
  config_.size = 0;

  EXPECT_FALSE(located(config_));
}

TEST_F(SplitLayoutLocateTest, SizeThatIsNoPowerOfTwoIsRefused) {
  config_.size = 6;

  EXPECT_FALSE(located(config_));
}

TEST_F(SplitLayoutLocateTest, SmallestSizeIsTaken) { EXPECT_TRUE(located(raw_config(1))); }

TEST_F(SplitLayoutLocateTest, LargestSizeIsTaken) { EXPECT_TRUE(located(raw_config(32768))); }

TEST_F(SplitLayoutLocateTest, UnalignedDescriptorTableIsRefused) {
  config_.descriptor_table = 8;

  EXPECT_FALSE(located(config_));
}

TEST_F(SplitLayoutLocateTest, UnalignedAvailableRingIsRefused) {
  config_.available_ring += 1;

  EXPECT_FALSE(located(config_));
}

TEST_F(SplitLayoutLocateTest, UnalignedUsedRingIsRefused) {
  config_.used_ring += 2;

  EXPECT_FALSE(located(config_));
}

TEST_F(SplitLayoutLocateTest, DescriptorTableThatEndsOutsideMemoryIsRefused) {
  config_.descriptor_table = kBytes - 7 * 16;

  EXPECT_FALSE(located(config_));
}

TEST_F(SplitLayoutLocateTest, AvailableRingThatEndsOutsideMemoryIsRefused) {
  config_.available_ring = kBytes - 20;

  EXPECT_FALSE(located(config_));
}

TEST_F(SplitLayoutLocateTest, UsedRingThatEndsWithMemoryIsTaken) {
  config_.used_ring = kBytes - 72;

  EXPECT_TRUE(located(config_));
}

TEST_F(SplitLayoutLocateTest, UsedRingThatEndsOutsideMemoryIsRefused) {
  config_.used_ring = kBytes - 68;

  EXPECT_FALSE(located(config_));
}

TEST_F(SplitLayoutLocateTest, AddressAtTheEndOfAllAddressesIsRefused) {
  config_.used_ring = ~std::uint64_t{3};

  EXPECT_FALSE(located(config_));
}

TEST(SplitLayoutRegionsTest, PartAcrossTwoRegionsIsRefused) {
  const auto memory =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, 0x10000}, {0x10000, 0x10000}}).value();
  QueueConfig config = raw_config(8);
  config.descriptor_table = 0x10000 - 64;

  EXPECT_FALSE(SplitLayout::locate(*memory, config).has_value());
}

}  // namespace
}  // namespace vballoon
