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
  explicit DriverHintsTest(std::uint16_t queue_size = 256) {
    boot(Features{Feature::kMustTellHost, Feature::kFreePageHint},
         {.queue_size = queue_size, .kernel = &kernel_});
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

TEST_F(DriverHintsTest, BAL_G_30_RoundThatIsStoppedBeforeTheDriverLooksIsNotBegun) {
  ASSERT_TRUE(device().start_hints());
  device().stop_hints();

  run();

  EXPECT_EQ(device().metrics().hint_messages, 0u);
  EXPECT_EQ(allocator_.free_pages(), free_at_boot_);
}

TEST_F(DriverHintsTest, SecondRoundNamesWhatHasBecomeFree) {
  round();
  device().finish_hints();
  run();
  hinted_.clear();

  round();

  EXPECT_THAT(hinted_, Not(IsEmpty()));
}

TEST_F(DriverHintsTest, BAL_G_32_GuestThatRunsShortTakesHintedPagesBack) {
  round();
  ASSERT_LT(allocator_.free_pages(), free_at_boot_ / 10);
  const sim::ProcessId process = kernel_.start_process();

  EXPECT_TRUE(kernel_.touch(process, 0, static_cast<std::uint32_t>(free_at_boot_ / 2)));

  EXPECT_TRUE(kernel_.alive(process));
}

TEST_F(DriverHintsTest, BAL_G_32_GuestThatRunsShortTakesPagesWhoseHintsAreStillOut) {
  serves_kicks_at_once_ = false;
  ASSERT_TRUE(device().start_hints());
  driver_->step(now_);
  ASSERT_LT(allocator_.free_pages(), free_at_boot_ / 10);
  const sim::ProcessId process = kernel_.start_process();

  EXPECT_TRUE(kernel_.touch(process, 0, static_cast<std::uint32_t>(free_at_boot_ / 2)));

  EXPECT_TRUE(kernel_.alive(process));
  EXPECT_EQ(device().metrics().hint_messages, 0u) << "nobody has served the queue";
}

TEST_F(DriverHintsTest, BalloonWorksMeanwhile) {
  round();
  device().finish_hints();
  ASSERT_TRUE(device().set_target_pages(5000));

  run();

  EXPECT_EQ(device().ballooned_pages(), 5000u);
}

// ---- a round in the middle of which something changes -------------------------------------------

// A ring of four entries and a device that is slow: a step names two blocks, and is not answered.
class SlowHintsTest : public DriverHintsTest {
 protected:
  static constexpr std::uint64_t kFirstBlocks = 2;

  SlowHintsTest() : DriverHintsTest(4) { serves_kicks_at_once_ = false; }
  void begin_round() {
    ASSERT_TRUE(device().start_hints());
    driver_->step(now_);
    ASSERT_EQ(free_at_boot_ - allocator_.free_pages(), kFirstBlocks * kBlockPages);
  }
};

TEST_F(SlowHintsTest, BAL_G_31_RoundLongerThanTheRingIsStopped) {
  begin_round();

  run();

  EXPECT_GT(hinted_pages(), free_at_boot_ * 9 / 10);
  EXPECT_EQ(device().hint_status().state, HintState::kExhausted);
}

TEST_F(SlowHintsTest, NewIdInTheMiddleOfARoundBeginsAnother) {
  begin_round();
  ASSERT_TRUE(device().start_hints());

  run();

  EXPECT_EQ(device().hint_status().state, HintState::kExhausted);
  EXPECT_EQ(allocator_.free_pages() + hinted_pages() + kFirstBlocks * kBlockPages, free_at_boot_)
      << "each page once; those of the first round are kept";
}

TEST_F(SlowHintsTest, BAL_G_30_RoundThatTheHostStopsInTheMiddleNamesNoMore) {
  begin_round();
  device().stop_hints();

  run();

  EXPECT_EQ(device().metrics().hint_messages, 1 + kFirstBlocks + 1) << "its start and its stop";
  EXPECT_THAT(hinted_, IsEmpty()) << "what the host sees afterwards is of no round";
}

TEST_F(SlowHintsTest, BAL_G_30_BAL_G_35_RoundThatIsDoneInTheMiddleNamesNoMoreAndFreesItsPages) {
  begin_round();
  device().finish_hints();

  run();

  EXPECT_EQ(device().metrics().hint_messages, 1 + kFirstBlocks + 1) << "its start and its stop";
  EXPECT_EQ(allocator_.free_pages(), free_at_boot_);
}

}  // namespace
}  // namespace vballoon
