// SPDX-License-Identifier: MIT
// The sizes of a split ring's parts, and the arithmetic of its indices (src/ring/split_layout.h).
#include "ring/split_layout.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdint>

namespace vballoon {
namespace {

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

}  // namespace
}  // namespace vballoon
