// SPDX-License-Identifier: MIT
// A device whose queues stop while it runs.
#ifndef VBALLOON_TESTS_DEVICE_SUSPEND_FIXTURE_H_
#define VBALLOON_TESTS_DEVICE_SUSPEND_FIXTURE_H_

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>

#include "device/device_fixture.h"

namespace vballoon::testing {

// Where a ring stands of which that many entries were taken and returned, in its first round.
constexpr QueuePosition behind(std::uint16_t entries) {
  return {.next_available = entries, .next_used = entries};
}

class SuspendQueueTest : public ::testing::Test {
 protected:
  static BalloonOptions options(WorkBudget budget = {}) {
    return {.features = Features{Feature::kMustTellHost, Feature::kStatsVq},
            .budget = budget,
            .clock = [] { return std::chrono::nanoseconds(0); }};
  }
  static bool resume(Rig& rig, std::uint16_t queue, const QueuePosition& position) {
    return rig.device().resume_queue(queue, rig.ring_config(queue), position).has_value();
  }
  // Stops the inflate queue and lets it go on where it stood.
  static void pause(Rig& rig, std::uint16_t queue = kInflateQueue) {
    const auto position = rig.device().suspend_queue(queue);
    ASSERT_TRUE(position);
    ASSERT_TRUE(resume(rig, queue, *position));
    rig.serve(queue);
  }

  Rig rig_{{.device = options()}};
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_DEVICE_SUSPEND_FIXTURE_H_
