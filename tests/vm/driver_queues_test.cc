// SPDX-License-Identifier: MIT
// A driver that says in its kicks where its rings stand and gives its queues another size in the
// middle of its life, with a real device, through virtio-mmio.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>

#include "vm/guest_fixture.h"

namespace vballoon {
namespace {

using ::testing::Each;
using ::testing::IsEmpty;
using testing::kSecond;
using ::testing::Not;

constexpr Features kSplit{
    Feature::kMustTellHost, Feature::kStatsVq,  Feature::kFreePageHint,     Feature::kPageReporting,
    Feature::kIndirectDesc, Feature::kEventIdx, Feature::kNotificationData, Feature::kRingReset};
constexpr Features kPacked = kSplit.with(Feature::kRingPacked);
constexpr Features kPackedInOrder = kPacked.with(Feature::kInOrder);

struct Rings {
  const char* name;
  Features features;
};

class DriverQueuesTest : public testing::GuestFixture, public ::testing::WithParamInterface<Rings> {
 protected:
  static constexpr std::uint16_t kQueues = 5;

  DriverQueuesTest() { boot(GetParam().features, {.kernel = &kernel_}); }

  void follow(std::uint64_t target) {
    ASSERT_TRUE(device().set_target_pages(target));
    run();
  }
  void resize_all_queues(std::uint16_t size) {
    for (std::uint16_t queue = 0; queue < kQueues; ++queue) {
      const auto done = driver_->resize_queue(queue, size);
      ASSERT_TRUE(done) << queue << ": " << done.error().message();
    }
  }
  // The queues get another size three times on the way, each time with a message unanswered.
  void follow_with_resizes(std::uint64_t target) {
    serves_kicks_at_once_ = false;
    ASSERT_TRUE(device().set_target_pages(target));
    for (const std::uint16_t size : std::array<std::uint16_t, 3>{512, 32, 64}) {
      ASSERT_EQ(driver_->step(now_).kind, sim::DriverWait::Kind::kUsedBuffer);
      resize_all_queues(size);
      driver_->step(now_);
      serve();
    }
    run();
  }
  void expect_balloon(std::uint64_t pages) {
    EXPECT_EQ(driver_->ballooned_pages(), pages);
    EXPECT_EQ(device().ballooned_pages(), pages);
    EXPECT_EQ(device().actual_pages(), pages);
    driver_->for_each_block(
        [this](sim::Block block) { EXPECT_TRUE(device().is_ballooned(block.first)); });
    EXPECT_THAT(device().metrics().errors, Each(0u));
  }

  const std::uint64_t all_free_ = allocator_.free_pages();
};

INSTANTIATE_TEST_SUITE_P(Rings, DriverQueuesTest,
                         ::testing::Values(Rings{"Split", kSplit}, Rings{"Packed", kPacked},
                                           Rings{"PackedInOrder", kPackedInOrder}),
                         [](const auto& rings) { return rings.param.name; });

TEST_P(DriverQueuesTest, DriverTakesBothFeaturesAndFollowsItsTargetUpAndDown) {
  EXPECT_TRUE(driver_->features().has(Feature::kNotificationData));
  EXPECT_TRUE(driver_->features().has(Feature::kRingReset));
  follow(5000);
  expect_balloon(5000);

  follow(100);

  expect_balloon(100);
}

TEST_P(DriverQueuesTest, ResizeOfEachQueueAtRestChangesNothingOfTheBalloon) {
  follow(3000);

  resize_all_queues(32);

  expect_balloon(3000);
  follow(5000);
  expect_balloon(5000);
  follow(0);
  expect_balloon(0);
}

TEST_P(DriverQueuesTest, ResizeInTheMiddleOfAnInflateChangesNothingOfTheBalloon) {
  follow_with_resizes(5000);

  expect_balloon(5000);
}

TEST_P(DriverQueuesTest, ResizeInTheMiddleOfADeflateChangesNothingOfTheBalloon) {
  follow(5000);
  follow_with_resizes(100);

  expect_balloon(100);
}

TEST_P(DriverQueuesTest, StatisticsAreAskedForThroughTheNewQueue) {
  run();
  resize_all_queues(32);
  run();

  ASSERT_TRUE(device().request_stats(kSecond));
  run();

  EXPECT_FALSE(device().stats().requested);
  EXPECT_THAT(device().metrics().errors, Each(0u));
}

TEST_P(DriverQueuesTest, RoundOfHintsThatWasLostIsNamedThroughTheNewQueue) {
  run();
  serves_kicks_at_once_ = false;
  ASSERT_TRUE(device().start_hints());
  driver_->step(now_);

  resize_all_queues(32);
  run();

  EXPECT_EQ(device().hint_status().state, HintState::kExhausted);
  EXPECT_THAT(hinted_, Not(IsEmpty()));
  device().finish_hints();
  run();
  EXPECT_GT(allocator_.free_pages(), kPages * 9 / 10);
}

TEST_P(DriverQueuesTest, ReportsGoThroughTheNewQueue) {
  run();

  resize_all_queues(32);
  run_for(5 * kSecond);

  EXPECT_GT(device().metrics().reported_bytes, 0u);
  EXPECT_THAT(device().metrics().errors, Each(0u));
}

TEST_P(DriverQueuesTest, DriverThatGoesHasGivenTheMemoryOfAllItsRingsBack) {
  follow(1000);
  resize_all_queues(512);

  driver_->remove();
  run();

  EXPECT_EQ(allocator_.free_pages(), all_free_);
}

}  // namespace
}  // namespace vballoon
