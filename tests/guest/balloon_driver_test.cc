// SPDX-License-Identifier: MIT
// What the simulated driver does in every dialect (src/guest/balloon_driver.cc, driver_resize.cc).
#include "vballoon/sim/balloon_driver.h"

#include "guest/driver_fixture.h"

namespace vballoon {
namespace {

using sim::DriverWait;
using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::vballoon::testing::DecodedMessage;
using ::vballoon::testing::DriverRig;
using ::vballoon::testing::kGuestPages;
using ::vballoon::testing::kWaitsForAnswer;
using ::vballoon::testing::kWaitsForTarget;
using ::vballoon::testing::pages_of;

class BalloonDriverTest : public ::testing::TestWithParam<Dialect> {
 protected:
  BalloonDriverTest() : rig_(GetParam()) { rig_.probe(); }

  // Steps a driver whose messages are held, answering all of each round, until it is done.
  DriverWait answer_until_done() {
    DriverWait wait = kWaitsForAnswer;
    while (wait == kWaitsForAnswer) {
      rig_.device.answer();
      wait = rig_.driver->step({});
    }
    return wait;
  }

  DriverRig rig_;
};

INSTANTIATE_TEST_SUITE_P(Dialects, BalloonDriverTest, testing::every_dialect(),
                         testing::dialect_name);

TEST_P(BalloonDriverTest, WithoutATargetNothingIsSent) {
  EXPECT_EQ(rig_.resize(0), kWaitsForTarget);

  EXPECT_THAT(rig_.device.messages, IsEmpty());
  EXPECT_THAT(rig_.device.actuals, IsEmpty());
}

TEST_P(BalloonDriverTest, InflatesToTheTargetAndNamesEachPageOnce) {
  EXPECT_EQ(rig_.resize(1000), kWaitsForTarget);

  EXPECT_EQ(rig_.driver->ballooned_pages(), 1000u);
  EXPECT_EQ(pages_of(rig_.device.messages), rig_.balloon());
  EXPECT_EQ(rig_.allocator.free_pages(), rig_.free_after_probe - 1000);
}

TEST_P(BalloonDriverTest, SinglePageIsInflatedAndDeflated) {
  rig_.resize(1);
  EXPECT_EQ(rig_.device.ballooned().count(), 1u);

  rig_.resize(0);

  EXPECT_EQ(rig_.device.ballooned().count(), 0u);
  EXPECT_THAT(rig_.device.messages, SizeIs(2));
}

TEST_P(BalloonDriverTest, DeflatesToALowerTargetAndNamesOnlyThePagesThatLeave) {
  rig_.resize(1000);
  const std::size_t inflates = rig_.device.messages.size();

  EXPECT_EQ(rig_.resize(300), kWaitsForTarget);

  EXPECT_EQ(rig_.driver->ballooned_pages(), 300u);
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
  EXPECT_EQ(rig_.device.messages[inflates].queue, rig_.device.last_queue(QueueRole::kDeflate));
  EXPECT_EQ(rig_.allocator.free_pages(), rig_.free_after_probe - 300);
}

TEST_P(BalloonDriverTest, EmptyingTheBalloonGivesTheAllocatorItsBlocksBack) {
  const auto before = rig_.allocator.free_blocks_by_order();
  rig_.resize(1000);

  rig_.resize(0);

  EXPECT_EQ(rig_.allocator.free_blocks_by_order(), before);
}

TEST_P(BalloonDriverTest, SecondInflationNamesOnlyNewPages) {
  rig_.resize(500);
  const std::size_t first = rig_.device.messages.size();

  rig_.resize(700);

  std::uint64_t named = 0;
  for (const PageRange& run : pages_of(rig_.messages_since(first))) named += run.count;
  EXPECT_EQ(named, 200u);
}

TEST_P(BalloonDriverTest, ActualIsTheTargetAfterEachResize) {
  rig_.resize(200);
  rig_.resize(50);
  rig_.resize(51);

  EXPECT_THAT(rig_.device.actuals, ElementsAre(200, 50, 51));
}

TEST_P(BalloonDriverTest, ActualIsNotWrittenBeforeTheLastAnswer) {
  rig_.device.answers = false;

  rig_.resize(100);

  EXPECT_THAT(rig_.device.actuals, IsEmpty());
}

TEST_P(BalloonDriverTest, WithoutAnAnswerNothingMoreIsPosted) {
  rig_.device.answers = false;
  EXPECT_EQ(rig_.resize(1000), kWaitsForAnswer);
  const std::size_t posted = rig_.device.messages.size();

  EXPECT_EQ(rig_.driver->step(milliseconds(1000)), kWaitsForAnswer);

  EXPECT_THAT(rig_.device.messages, SizeIs(posted));
  EXPECT_EQ(rig_.device.kicks, 1u);
}

TEST_P(BalloonDriverTest, TheAnswerThatTheDriverWaitsForInterruptsIt) {
  rig_.device.answers = false;
  rig_.resize(100);

  rig_.device.answer();

  EXPECT_EQ(rig_.device.interrupts, 1u);
}

TEST_P(BalloonDriverTest, GoesOnWhereItWasWhenTheAnswerComes) {
  rig_.device.answers = false;
  rig_.resize(1000);

  EXPECT_EQ(answer_until_done(), kWaitsForTarget);

  EXPECT_EQ(rig_.device.ballooned().count(), 1000u);
}

TEST_P(BalloonDriverTest, LeavingPagesAreNotFreeWhenTheDeviceIsTold) {
  rig_.resize(200);
  bool any_free = false;
  rig_.device.on_message = [&](const DecodedMessage& message) {
    for (const PageRange& run : message.pages) {
      for (Pfn pfn = run.first; pfn < run.end(); ++pfn) any_free |= rig_.allocator.is_free(pfn);
    }
  };

  rig_.resize(0);

  EXPECT_FALSE(any_free);
}

TEST_P(BalloonDriverTest, LeavingPagesAreFreedOnlyAfterTheAnswer) {
  rig_.resize(200);
  rig_.device.answers = false;

  rig_.resize(0);
  EXPECT_EQ(rig_.allocator.free_pages(), rig_.free_after_probe - 200);
  rig_.device.answer();
  rig_.driver->step({});

  EXPECT_EQ(rig_.allocator.free_pages(), rig_.free_after_probe);
}

TEST_P(BalloonDriverTest, TargetThatFallsDuringAnInflationIsFollowedAfterIt) {
  rig_.device.answers = false;
  rig_.resize(200);

  rig_.device.target = 20;
  EXPECT_EQ(answer_until_done(), kWaitsForTarget);

  EXPECT_THAT(rig_.device.actuals, ElementsAre(200, 20));
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

TEST_P(BalloonDriverTest, TargetThatRisesDuringADeflationIsFollowedAfterIt) {
  rig_.resize(200);
  rig_.device.answers = false;
  rig_.resize(100);

  rig_.device.target = 150;
  EXPECT_EQ(answer_until_done(), kWaitsForTarget);

  EXPECT_THAT(rig_.device.actuals, ElementsAre(200, 100, 150));
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

TEST_P(BalloonDriverTest, TargetBeyondFreeMemoryLeavesTheReserveFreeAndBacksOff) {
  const DriverWait wait = rig_.resize(kGuestPages, milliseconds(1000));

  EXPECT_EQ(wait, (DriverWait{DriverWait::Kind::kTime, milliseconds(1200)}));
  EXPECT_EQ(rig_.allocator.free_pages(), rig_.options.reserve_pages);
  EXPECT_EQ(rig_.device.ballooned().count(), rig_.free_after_probe - 256);
  EXPECT_EQ(rig_.device.actuals.back(), rig_.free_after_probe - 256);
}

TEST_P(BalloonDriverTest, DuringTheBackOffNothingIsAllocated) {
  rig_.resize(kGuestPages);
  const std::uint64_t failed = rig_.driver->counters().failed_allocations;

  const DriverWait wait = rig_.driver->step(milliseconds(199));

  EXPECT_EQ(wait, (DriverWait{DriverWait::Kind::kTime, milliseconds(200)}));
  EXPECT_EQ(rig_.driver->counters().failed_allocations, failed);
}

TEST_P(BalloonDriverTest, AfterTheBackOffItTriesAgainAndBacksOffAgain) {
  rig_.resize(kGuestPages);
  const std::uint64_t failed = rig_.driver->counters().failed_allocations;

  const DriverWait wait = rig_.driver->step(milliseconds(200));

  EXPECT_EQ(wait, (DriverWait{DriverWait::Kind::kTime, milliseconds(400)}));
  EXPECT_EQ(rig_.driver->counters().failed_allocations, failed + 1);
}

TEST_P(BalloonDriverTest, MemoryThatCameFreeIsTakenAfterTheBackOff) {
  const auto taken = rig_.allocator.allocate(6).value();
  rig_.resize(kGuestPages);
  const std::uint64_t before = rig_.driver->ballooned_pages();
  rig_.allocator.free(taken);

  rig_.driver->step(milliseconds(200));

  EXPECT_EQ(rig_.driver->ballooned_pages(), before + 64);
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

TEST_P(BalloonDriverTest, TargetThatFallsDuringTheBackOffIsFollowedAtOnce) {
  rig_.resize(kGuestPages);

  EXPECT_EQ(rig_.resize(10, milliseconds(1)), kWaitsForTarget);

  EXPECT_EQ(rig_.driver->ballooned_pages(), 10u);
}

TEST_P(BalloonDriverTest, NothingIsSentWhenNoPageCouldBeAllocated) {
  rig_.options.reserve_pages = kGuestPages;
  rig_.probe();

  EXPECT_EQ(rig_.resize(10).kind, DriverWait::Kind::kTime);

  EXPECT_THAT(rig_.device.messages, IsEmpty());
}

TEST_P(BalloonDriverTest, MessagesAndKicksAreCounted) {
  rig_.resize(1000);
  rig_.resize(0);

  EXPECT_EQ(rig_.driver->counters().messages, rig_.device.messages.size());
  EXPECT_EQ(rig_.driver->counters().kicks, rig_.device.kicks);
}

TEST_P(BalloonDriverTest, WithEventIndexTheSamePagesAreNamed) {
  rig_.device.offered = rig_.device.offered.with(Feature::kEventIdx);
  rig_.probe();

  rig_.resize(3000);
  rig_.resize(700);

  EXPECT_EQ(rig_.device.ballooned().count(), 700u);
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

}  // namespace
}  // namespace vballoon
