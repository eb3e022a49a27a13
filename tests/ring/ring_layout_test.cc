// SPDX-License-Identifier: MIT
// Where the parts of both rings may lie (src/ring/split_layout.cc, src/ring/packed_layout.cc).
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "ring/packed_layout.h"
#include "ring/ring_kind.h"
#include "ring/split_layout.h"
#include "test_memory.h"

namespace vballoon {
namespace {

using testing::raw_config;
using testing::RingKind;
using ::testing::Values;

class RingLayoutTest : public ::testing::TestWithParam<RingKind> {
 protected:
  static constexpr std::uint64_t kBytes = 1 << 20;

  bool located(const QueueConfig& config) const {
    return config.packed ? PackedLayout::locate(*memory_, config).has_value()
                         : SplitLayout::locate(*memory_, config).has_value();
  }
  bool located_with_size(std::uint16_t size) const { return located(raw_config(GetParam(), size)); }

  std::shared_ptr<const GuestMemory> memory_ = testing::memory_of(kBytes);
  QueueConfig config_ = raw_config(GetParam(), 8);
};
class SplitRingLayoutTest : public RingLayoutTest {};
class PackedRingLayoutTest : public RingLayoutTest {};

INSTANTIATE_TEST_SUITE_P(BothRings, RingLayoutTest, Values(RingKind::kSplit, RingKind::kPacked),
                         testing::ring_name);
INSTANTIATE_TEST_SUITE_P(Ring, SplitRingLayoutTest, Values(RingKind::kSplit), testing::ring_name);
INSTANTIATE_TEST_SUITE_P(Ring, PackedRingLayoutTest, Values(RingKind::kPacked), testing::ring_name);

TEST_P(RingLayoutTest, SizeZeroIsRefused) { EXPECT_FALSE(located_with_size(0)); }

TEST_P(RingLayoutTest, SmallestSizeIsTaken) { EXPECT_TRUE(located_with_size(1)); }

TEST_P(RingLayoutTest, LargestSizeIsTaken) { EXPECT_TRUE(located_with_size(32768)); }

TEST_P(RingLayoutTest, UnalignedDescriptorTableIsRefused) {
  config_.descriptor_table = 8;

  EXPECT_FALSE(located(config_));
}

TEST_P(RingLayoutTest, UnalignedUsedRingIsRefused) {
  config_.used_ring += 2;

  EXPECT_FALSE(located(config_));
}

TEST_P(RingLayoutTest, DescriptorTableThatEndsWithMemoryIsTaken) {
  config_.descriptor_table = kBytes - 8 * 16;

  EXPECT_TRUE(located(config_));
}

TEST_P(RingLayoutTest, DescriptorTableThatEndsOutsideMemoryIsRefused) {
  config_.descriptor_table = kBytes - 7 * 16;

  EXPECT_FALSE(located(config_));
}

TEST_P(RingLayoutTest, AddressAtTheEndOfAllAddressesIsRefused) {
  config_.used_ring = ~std::uint64_t{3};

  EXPECT_FALSE(located(config_));
}

TEST_P(RingLayoutTest, PartAcrossTwoRegionsIsRefused) {
  memory_ =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, 0x10000}, {0x10000, 0x10000}}).value();
  config_.descriptor_table = 0x10000 - 64;

  EXPECT_FALSE(located(config_));
}

TEST_P(SplitRingLayoutTest, SizeThatIsNoPowerOfTwoIsRefused) {
  config_.size = 6;

  EXPECT_FALSE(located(config_));
}

TEST_P(SplitRingLayoutTest, UnalignedAvailableRingIsRefused) {
  config_.available_ring += 1;

  EXPECT_FALSE(located(config_));
}

TEST_P(SplitRingLayoutTest, AvailableRingThatEndsOutsideMemoryIsRefused) {
  config_.available_ring = kBytes - 20;

  EXPECT_FALSE(located(config_));
}

TEST_P(SplitRingLayoutTest, UsedRingThatEndsWithMemoryIsTaken) {
  config_.used_ring = kBytes - 72;

  EXPECT_TRUE(located(config_));
}

TEST_P(SplitRingLayoutTest, UsedRingThatEndsOutsideMemoryIsRefused) {
  config_.used_ring = kBytes - 68;

  EXPECT_FALSE(located(config_));
}

TEST_P(PackedRingLayoutTest, SizeThatIsNoPowerOfTwoIsTaken) { EXPECT_TRUE(located_with_size(7)); }

TEST_P(PackedRingLayoutTest, SizeAboveTheLargestIsRefused) {
  EXPECT_FALSE(located_with_size(32769));
}

TEST_P(PackedRingLayoutTest, UnalignedDriverEventIsRefused) {
  config_.available_ring += 2;

  EXPECT_FALSE(located(config_));
}

TEST_P(PackedRingLayoutTest, EventThatEndsWithMemoryIsTaken) {
  config_.used_ring = kBytes - 4;

  EXPECT_TRUE(located(config_));
}

TEST_P(PackedRingLayoutTest, EventOutsideMemoryIsRefused) {
  config_.used_ring = kBytes;

  EXPECT_FALSE(located(config_));
}

}  // namespace
}  // namespace vballoon
