// SPDX-License-Identifier: MIT
// The sizes of a packed ring's parts, and the arithmetic of its places (src/ring/packed_layout.h).
#include "ring/packed_layout.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdint>

namespace vballoon {
namespace {

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

}  // namespace
}  // namespace vballoon
