// SPDX-License-Identifier: MIT
// A machine that is looked at and told new targets from another thread while it works.
#include <atomic>
#include <thread>

#include "memory/test_discarders.h"
#include "vm/machine_fixture.h"

namespace vballoon {
namespace {

using sim::NotifyMode;
using ::vballoon::testing::BlockingDiscarder;
using ::vballoon::testing::MachineRig;

class MachineControlThreadsTest : public ::testing::TestWithParam<Dialect> {
 protected:
  // Runs `work` over and over on another thread while `resizes` runs on this one.
  template <typename Work, typename Resizes>
  void meanwhile(Work work, Resizes resizes) {
    std::atomic<bool> done{false};
    std::thread other([&] {
      while (!done) work();
    });
    resizes();
    done = true;
    other.join();
  }

  MachineRig rig_{GetParam(), NotifyMode::kEventfd};
};

INSTANTIATE_TEST_SUITE_P(Dialects, MachineControlThreadsTest, testing::every_dialect(),
                         testing::dialect_name);

TEST_P(MachineControlThreadsTest, MetricsReadMeanwhileAlwaysAddUp) {
  rig_.start();
  std::atomic<bool> adds_up{true};

  meanwhile(
      [&] {
        const BalloonMetrics m = rig_.machine->device().metrics();
        const bool sum =
            m.inflated_bytes == m.freed_bytes + m.owed_bytes + m.forgone_bytes + m.cancelled_bytes;
        if (!sum) adds_up = false;
      },
      [&] {
        rig_.resize(6000);
        rig_.resize(100);
        rig_.resize(3000);
      });

  EXPECT_TRUE(adds_up);
}

TEST_P(MachineControlThreadsTest, TargetsSetMeanwhileLeaveTheTwoSidesInAgreement) {
  rig_.start();
  std::atomic<std::uint64_t> target{0};

  meanwhile([&] { (void)rig_.machine->device().set_target_pages((target += 617) % 8000); },
            [&] {
              rig_.resize(6000);
              rig_.resize(100);
              rig_.resize(3000);
            });
  rig_.resize(2000);

  EXPECT_EQ(rig_.machine->device().ballooned_pages(), 2000u);
  EXPECT_EQ(rig_.machine->driver().ballooned_pages(), 2000u);
  EXPECT_EQ(rig_.resident_balloon_pages(), 0u);
}

TEST_P(MachineControlThreadsTest, TargetThatFallsWhileTheKernelIsAtWorkIsFollowed) {
  auto blocking = std::make_unique<BlockingDiscarder>(make_kernel_discarder());
  BlockingDiscarder& discarder = *blocking;
  rig_.start(std::move(blocking));
  discarder.block();
  std::thread control([&] {
    discarder.wait_until_blocked();
    (void)rig_.machine->device().set_target_pages(10);
    discarder.release();
  });

  rig_.resize(5000);
  control.join();

  EXPECT_EQ(rig_.machine->driver().ballooned_pages(), 10u);
  EXPECT_EQ(rig_.machine->device().actual_pages(), 10u);
}

TEST_P(MachineControlThreadsTest, MachineThatIsStoppedInTheMiddleOfAMessageCanBeDestroyed) {
  rig_.start();
  int asked = 0;
  rig_.resize(5000, [&] { return ++asked < 2; });

  rig_.machine.reset();

  SUCCEED();  // the sanitizers look for what was left behind
}

TEST_P(MachineControlThreadsTest, WhatIsWrittenBehindIsGivenBackWhenTheResizeIsOver) {
  rig_.options.device.write_behind = true;
  rig_.start();

  const sim::ResizeReport report = rig_.resize(5000);

  EXPECT_TRUE(report.reached);
  EXPECT_EQ(report.device.freed_bytes, 5000 * kPageSize);
  EXPECT_EQ(report.device.owed_bytes, 0u);
  EXPECT_EQ(report.device.stages.discard_behind, report.stages.discard);
  EXPECT_EQ(rig_.resident_balloon_pages(), 0u);
}

// Time passes once: between a message and its answer, as the guest sees it, while a thread is in
// the kernel with the pages of that message.
TEST_P(MachineControlThreadsTest, TimeOfTheGuestAndOfADiscardBehindItIsOverlap) {
  auto blocking = std::make_unique<BlockingDiscarder>(make_kernel_discarder());
  BlockingDiscarder& discarder = *blocking;
  discarder.block();
  std::atomic<std::int64_t> now{0};
  bool passed = false;  // the guest's
  rig_.options.device.clock = [&, guest = std::this_thread::get_id()] {
    if (std::this_thread::get_id() == guest && !passed && rig_.machine != nullptr &&
        rig_.machine->driver().counters().messages != 0) {
      passed = true;
      discarder.wait_until_blocked();
      now += 1000;
      discarder.release();
    }
    return std::chrono::nanoseconds(now);
  };
  rig_.options.device.write_behind = true;
  rig_.start(std::move(blocking));

  const sim::ResizeReport report = rig_.resize(100);

  EXPECT_EQ(report.stages.discard, std::chrono::nanoseconds(1000));
  EXPECT_EQ(report.stages.send, std::chrono::nanoseconds(1000));
  EXPECT_EQ(report.wall, std::chrono::nanoseconds(1000));
  EXPECT_EQ(report.overlap, std::chrono::nanoseconds(1000));
}

// Only the first messages can find the device's thread asleep, or on its way.
TEST(MachineWatchThreadsTest, WatchedRingsNeedFewerKicks) {
  MachineRig rig(Dialect::kStandard, NotifyMode::kEventfd);
  rig.options.watch = std::chrono::minutes(1);
  rig.start();

  const sim::ResizeReport report = rig.resize(7000);

  EXPECT_TRUE(report.reached);
  EXPECT_LT(report.driver.kicks, report.driver.messages);
}

TEST(MachineWatchThreadsTest, ThreadThatSleepsAgainIsKicked) {
  MachineRig rig(Dialect::kStandard, NotifyMode::kEventfd);
  rig.options.watch = std::chrono::nanoseconds(1);
  rig.start();

  EXPECT_TRUE(rig.resize(7000).reached);
  EXPECT_TRUE(rig.resize(0).reached);
}

// ---- a guest that steps its driver itself ------------------------------------------------------

class MachineSettleThreadsTest : public ::testing::TestWithParam<NotifyMode> {};

INSTANTIATE_TEST_SUITE_P(Notify, MachineSettleThreadsTest,
                         ::testing::Values(NotifyMode::kDirect, NotifyMode::kEventfd));

TEST_P(MachineSettleThreadsTest, DeviceHasServedWhatItWasKickedFor) {
  MachineRig rig(Dialect::kStandard, GetParam());
  rig.start();
  ASSERT_TRUE(rig.machine->device().set_target_pages(200));
  rig.machine->driver().step(std::chrono::nanoseconds(0));

  rig.machine->settle();

  EXPECT_EQ(rig.machine->device().ballooned_pages(), 200u);
}

TEST_P(MachineSettleThreadsTest, MachineThatWasNeverKickedIsSettled) {
  MachineRig rig(Dialect::kStandard, GetParam());
  rig.start();

  rig.machine->settle();

  EXPECT_EQ(rig.machine->device().metrics().inflate_messages, 0u);
}

}  // namespace
}  // namespace vballoon
