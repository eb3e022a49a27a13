// SPDX-License-Identifier: MIT
// A device whose driver goes and comes back: removal, hibernation, halt, a second boot; and a
// guest that is out of memory or compacts it. Both sides work on one thread.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "vm/guest_fixture.h"

namespace vballoon {
namespace {

using sim::MemoryStatistic;
using sim::ProcessId;

class DriverLifeTest : public testing::GuestFixture {
 protected:
  static constexpr Features kAll{Feature::kMustTellHost, Feature::kStatsVq, Feature::kDeflateOnOom,
                                 Feature::kFreePageHint, Feature::kPageReporting};

  void boot_all() {
    boot(kAll, {.kernel = &kernel_, .let_device_answer = [this] {
                  serve();
                  return true;
                }});
    ASSERT_TRUE(device().set_target_pages(5000));
    run();
    ASSERT_EQ(device().ballooned_pages(), 5000u);
  }
  const std::uint64_t all_free_ = allocator_.free_pages();
};

TEST_F(DriverLifeTest, RemovedDriverLeavesAnEmptyBalloonAndADeviceAtRest) {
  boot_all();
  run_for(5 * testing::kSecond);

  driver_->remove();
  EXPECT_EQ(run().kind, sim::DriverWait::Kind::kStopped);

  EXPECT_EQ(device().read_status(), 0);
  EXPECT_EQ(device().actual_pages(), 0u);
  EXPECT_EQ(device().ballooned_pages(), 0u);
  EXPECT_EQ(device().target_pages(), 5000u);
  EXPECT_EQ(allocator_.free_pages(), all_free_);
}

TEST_F(DriverLifeTest, GuestThatWakesFromHibernationFollowsTheTarget) {
  boot_all();
  driver_->freeze();
  run();
  ASSERT_EQ(device().ballooned_pages(), 0u);

  ASSERT_TRUE(driver_->restore());
  run();

  EXPECT_EQ(device().ballooned_pages(), 5000u);
  EXPECT_EQ(device().metrics().count(Errc::kPageAlreadyInflated), 0u);
  ASSERT_TRUE(device().request_stats(testing::kSecond));
  run();
  EXPECT_FALSE(device().stats().requested);
}

TEST_F(DriverLifeTest, HaltOfTheGuestEmptiesTheLedgerThoughNothingWasDeflated) {
  boot_all();

  driver_->shutdown();
  EXPECT_EQ(run().kind, sim::DriverWait::Kind::kStopped);

  EXPECT_EQ(device().metrics().deflated_bytes, 0u);
  EXPECT_EQ(device().ballooned_pages(), 0u);
}

// All pages of the guest are free again, and it knows nothing of its former life.
TEST_F(DriverLifeTest, SecondBootKeepsTheTargetAndStartsWithAnEmptyLedger) {
  boot_all();
  sim::PageAllocator fresh(PageRanges{{0, kPages}});

  driver_ =
      testing::BalloonDriver::probe(*access_, memory_, fresh, {.features = features_}).value();
  EXPECT_EQ(device().ballooned_pages(), 0u);
  EXPECT_EQ(device().target_pages(), 5000u);
  run();

  EXPECT_EQ(device().ballooned_pages(), 5000u);
  EXPECT_EQ(device().metrics().count(Errc::kPageAlreadyInflated), 0u);
  driver_->for_each_block(
      [&](sim::Block block) { EXPECT_TRUE(device().is_ballooned(block.first)); });
  driver_.reset();
}

TEST_F(DriverLifeTest, GuestThatIsOutOfMemoryDeflatesThroughTheRealDevice) {
  boot_all();
  const ProcessId process = kernel_.start_process();

  EXPECT_TRUE(kernel_.touch(process, 0, kPages - 4000));

  EXPECT_TRUE(kernel_.alive(process));
  EXPECT_EQ(kernel_.statistics()[MemoryStatistic::kOomKills], 0u);
  EXPECT_LT(device().ballooned_pages(), 5000u);
  EXPECT_EQ(device().ballooned_pages(), driver_->ballooned_pages());
  EXPECT_EQ(device().actual_pages(), driver_->ballooned_pages());
}

TEST_F(DriverLifeTest, WhatCompactionMovedIsMovedInTheLedgerToo) {
  boot_all();
  const auto first = [&] {
    Pfn lowest = kPages;
    driver_->for_each_block([&](sim::Block block) { lowest = std::min(lowest, block.first); });
    return lowest;
  };
  const PageRange wanted{first() / 512 * 512, 512};
  ASSERT_TRUE(device().is_ballooned(first()));

  ASSERT_TRUE(driver_->migrate_out_of(wanted));
  run();

  EXPECT_EQ(device().ballooned_pages(), 5000u);
  std::uint64_t in_range = 0;
  for (Pfn pfn = wanted.first; pfn < wanted.end(); ++pfn) in_range += device().is_ballooned(pfn);
  EXPECT_EQ(in_range, 0u);
  driver_->for_each_block(
      [&](sim::Block block) { EXPECT_TRUE(device().is_ballooned(block.first)); });
}

}  // namespace
}  // namespace vballoon
