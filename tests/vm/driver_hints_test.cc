// SPDX-License-Identifier: MIT
// A driver that gives free page hints, and the device that asked for them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "vm/guest_fixture.h"

namespace vballoon {
namespace {

using sim::kMaxOrder;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr std::uint64_t kBlockPages = std::uint64_t{1} << kMaxOrder;

class DriverHintsTest : public testing::GuestFixture {
 protected:
  DriverHintsTest() {
    boot(Features{Feature::kMustTellHost, Feature::kFreePageHint}, {.kernel = &kernel_});
    run();
    free_at_boot_ = allocator_.free_pages();
  }
  // A whole round, up to the guest's stop.
  void round() {
    ASSERT_TRUE(device().start_hints());
    run();
  }
  std::uint64_t hinted_pages() const {
    std::uint64_t pages = 0;
    for (const PageRange& range : hinted_) pages += range.count;
    return pages;
  }

  std::uint64_t free_at_boot_ = 0;
};

TEST_F(DriverHintsTest, BAL_G_27_BAL_G_29_BAL_G_31_RoundNamesTheLargeFreeBlocksAndIsStopped) {
  round();

  EXPECT_GT(hinted_pages(), free_at_boot_ * 9 / 10);
  EXPECT_EQ(device().hint_status().state, HintState::kExhausted);
  EXPECT_EQ(hinted_pages() % kBlockPages, 0u);
}

TEST_F(DriverHintsTest, BAL_G_26_BAL_G_28_CommandIdIsFourBytesAndSentOnce) {
  round();

  const BalloonMetrics metrics = device().metrics();
  EXPECT_EQ(metrics.count(Errc::kBadHintCommand), 0u);
  EXPECT_EQ(metrics.hint_messages, hinted_pages() / kBlockPages + 2) << "its start and its stop";
}

TEST_F(DriverHintsTest, HintedPagesStayOutOfTheAllocator) {
  round();

  EXPECT_EQ(allocator_.free_pages(), free_at_boot_ - hinted_pages());
}

TEST_F(DriverHintsTest, BAL_G_35_AllPagesAreFreedWhenTheHostIsDone) {
  round();

  device().finish_hints();
  run();

  EXPECT_EQ(allocator_.free_pages(), free_at_boot_);
}

TEST_F(DriverHintsTest, PagesAreKeptWhenTheHostStops) {
  round();

  device().stop_hints();
  run();

  EXPECT_LT(allocator_.free_pages(), free_at_boot_);
}

TEST_F(DriverHintsTest, BAL_G_30_RoundThatTheHostStopsAtOnceNamesNothing) {
  ASSERT_TRUE(device().start_hints());
  device().stop_hints();

  run();

  EXPECT_THAT(hinted_, IsEmpty());
}

TEST_F(DriverHintsTest, SecondRoundNamesWhatHasBecomeFree) {
  round();
  device().finish_hints();
  run();
  hinted_.clear();

  round();

  EXPECT_THAT(hinted_, Not(IsEmpty()));
}

TEST_F(DriverHintsTest, NewIdInTheMiddleOfARoundBeginsAnother) {
  ASSERT_TRUE(device().start_hints());
  (void)driver_->step(now_);
  ASSERT_TRUE(device().start_hints());

  run();

  EXPECT_EQ(device().hint_status().state, HintState::kExhausted);
  EXPECT_EQ(allocator_.free_pages() + hinted_pages(), free_at_boot_) << "each page once";
}

TEST_F(DriverHintsTest, BAL_G_32_GuestThatRunsShortTakesHintedPagesBack) {
  round();
  ASSERT_LT(allocator_.free_pages(), free_at_boot_ / 10);
  const sim::ProcessId process = kernel_.start_process();

  EXPECT_TRUE(kernel_.touch(process, 0, static_cast<std::uint32_t>(free_at_boot_ / 2)));

  EXPECT_TRUE(kernel_.alive(process));
}

TEST_F(DriverHintsTest, BalloonWorksMeanwhile) {
  round();
  device().finish_hints();
  ASSERT_TRUE(device().set_target_pages(5000));

  run();

  EXPECT_EQ(device().ballooned_pages(), 5000u);
}

}  // namespace
}  // namespace vballoon
