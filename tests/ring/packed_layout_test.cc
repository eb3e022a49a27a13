// SPDX-License-Identifier: MIT
// Where the parts of a packed ring lie, and the arithmetic of its places
// (src/ring/packed_layout.h).
#include "ring/packed_layout.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>


#include "ring/raw_packed_ring.h"
#include "test_memory.h"

namespace vballoon {
namespace {

using testing::raw_packed_config;

TEST(PackedPlaceTest, LastEntryIsFollowedByTheFirstOfTheOtherRound) {
  PackedPlace place{4, true};

  place.advance(1, 5);

  EXPECT_EQ(place, (PackedPlace{0, false}));
}

TEST(PackedPlaceTest, WholeRoundTurnsTheCounterOver) {
  PackedPlace place{3, false};

  place.advance(5, 5);

  EXPECT_EQ(place, (PackedPlace{3, true}));
}

TEST(PackedPlaceTest, WordHasTheCounterInItsHighestBit) {
  EXPECT_EQ((PackedPlace{5, true}).word(), 0x8005u);
  EXPECT_EQ((PackedPlace{5, false}).word(), 5u);
  EXPECT_EQ(PackedPlace::of_word(0xFFFF), (PackedPlace{32767, true}));
}

TEST(PackedDistanceTest, PlacesOfOneRoundAreCounted) {
  EXPECT_EQ(packed_distance({2, true}, {5, true}, 7), 3u);
}

TEST(PackedDistanceTest, PlacesAcrossTheEndAreCounted) {
  EXPECT_EQ(packed_distance({5, true}, {2, false}, 7), 4u);
  EXPECT_EQ(packed_distance({5, false}, {2, true}, 7), 4u);
}

TEST(PackedDistanceTest, SameIndexOfTheOtherRoundIsARoundAway) {
  EXPECT_EQ(packed_distance({2, true}, {2, false}, 7), 7u);
}

// The definition in words: one of the places from `before` on, as many as moved, is the event's.
RC_GTEST_PROP(WantsPackedEventProperty, AgreesWithCountingEntries, ()) {
  const auto size = *rc::gen::inRange<std::uint16_t>(1, 20);
  const auto place = [&] {
    return PackedPlace{*rc::gen::inRange<std::uint16_t>(0, size), *rc::gen::arbitrary<bool>()};
  };
  const PackedPlace before = place();
  const PackedPlace event = place();
  const auto moved = *rc::gen::inRange<std::uint16_t>(1, static_cast<std::uint16_t>(size + 1));
  PackedPlace now = before;
  bool passed = false;
  for (std::uint16_t i = 0; i < moved; ++i) {
    passed = passed || now == event;
    now.advance(1, size);
  }

  RC_ASSERT(wants_packed_event(event_word(kEventSpecific, event), true, before, now, size) ==
            passed);
}

// PKD-I-01: 2.8.10.1 gives 16 bytes an entry and 4 for each event structure.
TEST(PackedLayoutTest, PartsHaveTheSizesOfTheSpecification) {
  EXPECT_EQ(packed_ring_bytes(kMaxQueueSize), 524288u);
  EXPECT_EQ(kPackedEventBytes, 4u);
}

class PackedLayoutLocateTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kBytes = 1 << 20;

  bool located(const QueueConfig& config) const {
    return PackedLayout::locate(*memory_, config).has_value();
  }

  std::shared_ptr<const GuestMemory> memory_ = testing::memory_of(kBytes);
  QueueConfig config_ = raw_packed_config(8);
};

TEST_F(PackedLayoutLocateTest, SizeZeroIsRefused) { EXPECT_FALSE(located(raw_packed_config(0))); }

TEST_F(PackedLayoutLocateTest, SizeThatIsNoPowerOfTwoIsTaken) {
  EXPECT_TRUE(located(raw_packed_config(7)));
}

TEST_F(PackedLayoutLocateTest, LargestSizeIsTaken) {
  EXPECT_TRUE(located(raw_packed_config(32768)));
}

TEST_F(PackedLayoutLocateTest, SizeAboveTheLargestIsRefused) {
  EXPECT_FALSE(located(raw_packed_config(32769)));
}

TEST_F(PackedLayoutLocateTest, UnalignedRingIsRefused) {
  config_.descriptor_table = 8;

  EXPECT_FALSE(located(config_));
}

TEST_F(PackedLayoutLocateTest, UnalignedDriverEventIsRefused) {
  config_.available_ring += 2;

  EXPECT_FALSE(located(config_));
}

TEST_F(PackedLayoutLocateTest, UnalignedDeviceEventIsRefused) {
  config_.used_ring += 2;

  EXPECT_FALSE(located(config_));
}

TEST_F(PackedLayoutLocateTest, RingThatEndsOutsideMemoryIsRefused) {
  config_.descriptor_table = kBytes - 7 * 16;

  EXPECT_FALSE(located(config_));
}

TEST_F(PackedLayoutLocateTest, EventThatEndsWithMemoryIsTaken) {
  config_.used_ring = kBytes - 4;

  EXPECT_TRUE(located(config_));
}

TEST_F(PackedLayoutLocateTest, EventOutsideMemoryIsRefused) {
  config_.used_ring = kBytes;

  EXPECT_FALSE(located(config_));
}

}  // namespace
}  // namespace vballoon
