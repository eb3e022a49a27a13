// SPDX-License-Identifier: MIT
// The balloon of a guest that is short of memory, and of one that compacts it
// (src/guest/driver_pressure.cc, driver_pages.h).
#include <algorithm>

#include "guest/driver_fixture.h"
#include "vballoon/sim/guest_kernel.h"

namespace vballoon {
namespace {

using sim::Block;
using sim::DriverWait;
using sim::MemoryStatistic;
using sim::ProcessId;
using std::chrono::milliseconds;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::vballoon::testing::DecodedMessage;
using ::vballoon::testing::DriverRig;
using ::vballoon::testing::kGuestPages;
using ::vballoon::testing::kWaitsForAnswer;
using ::vballoon::testing::kWaitsForTarget;
using ::vballoon::testing::pages_of;

// ---- memory is short ----------------------------------------------------------------------------

class DriverPressureTest : public ::testing::TestWithParam<Dialect> {
 protected:
  DriverPressureTest() : rig_(GetParam()) {}
  ~DriverPressureTest() override { rig_.driver.reset(); }  // before the kernel

  void probe(Features features) {
    rig_.device.offered = rig_.device.offered.with(Feature::kDeflateOnOom);
    rig_.options.features = features;
    rig_.options.kernel = &kernel_;
    rig_.probe();
  }
  // A process that uses all that the kernel would give it without the balloon.
  ProcessId fill_guest() {
    const ProcessId process = kernel_.start_process();
    const auto count = kernel_.statistics()[MemoryStatistic::kFreeMemory] >> kPageShift;
    EXPECT_TRUE(kernel_.touch(process, 0, static_cast<std::uint32_t>(count - kernel_min_)));
    return process;
  }
  std::uint64_t statistic(MemoryStatistic tag) const { return kernel_.statistics()[tag]; }

  static constexpr Features kOnOom{Feature::kMustTellHost, Feature::kDeflateOnOom};
  DriverRig rig_;
  sim::GuestKernel kernel_{rig_.allocator};
  const std::uint64_t kernel_min_ = kernel_.watermarks().min;
};

INSTANTIATE_TEST_SUITE_P(Dialects, DriverPressureTest, testing::every_dialect(),
                         testing::dialect_name);

TEST_P(DriverPressureTest, BalloonThatGrowsPushesThePageCacheOut) {
  probe(Features{Feature::kMustTellHost});
  ASSERT_TRUE(kernel_.read_file(1, 0, kGuestPages - 1000));

  rig_.resize(2000);

  EXPECT_GT(statistic(MemoryStatistic::kDirectReclaim), 0u);
  EXPECT_EQ(rig_.driver->ballooned_pages(), 2000u);
}

TEST_P(DriverPressureTest, BalloonThatGrowsKillsNobodyAndBacksOff) {
  probe(Features{Feature::kMustTellHost});
  const ProcessId process = fill_guest();

  EXPECT_EQ(rig_.resize(2000, milliseconds(1000)),
            (DriverWait{DriverWait::Kind::kTime, milliseconds(1200)}));

  EXPECT_TRUE(kernel_.alive(process));
  EXPECT_EQ(statistic(MemoryStatistic::kOomKills), 0u);
}

TEST_P(DriverPressureTest, GuestThatIsOutOfMemoryGets256PagesBackAtATime) {
  probe(kOnOom);
  rig_.resize(1000);
  const ProcessId process = fill_guest();

  EXPECT_TRUE(kernel_.touch(process, kGuestPages, 1));

  EXPECT_EQ(rig_.driver->ballooned_pages(), 744u);
  EXPECT_THAT(rig_.device.actuals.back(), 744u);
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

TEST_P(DriverPressureTest, GuestGetsTheWholeBalloonBackBeforeAnybodyIsKilled) {
  probe(kOnOom);
  rig_.resize(1000);
  const ProcessId process = fill_guest();

  EXPECT_TRUE(kernel_.touch(process, kGuestPages, 1000));
  EXPECT_EQ(rig_.driver->ballooned_pages(), 0u);
  EXPECT_EQ(statistic(MemoryStatistic::kOomKills), 0u);

  EXPECT_FALSE(kernel_.touch(process, 2 * kGuestPages, 1));
  EXPECT_EQ(statistic(MemoryStatistic::kOomKills), 1u);
}

TEST_P(DriverPressureTest, WithoutTheFeatureSomebodyIsKilledAndTheBalloonStays) {
  probe(Features{Feature::kMustTellHost});
  rig_.resize(1000);
  const ProcessId process = fill_guest();

  EXPECT_FALSE(kernel_.touch(process, kGuestPages, 1));

  EXPECT_EQ(statistic(MemoryStatistic::kOomKills), 1u);
  EXPECT_EQ(rig_.driver->ballooned_pages(), 1000u);
}

TEST_P(DriverPressureTest, DeviceThatAnswersLaterIsLetWorkUntilThePagesAreBack) {
  int waits = 0;
  rig_.options.let_device_answer = [&] {
    ++waits;
    rig_.device.answer();
    return true;
  };
  probe(kOnOom);
  rig_.resize(1000);
  const ProcessId process = fill_guest();
  rig_.device.answers = false;

  EXPECT_TRUE(kernel_.touch(process, kGuestPages, 1));

  EXPECT_EQ(waits, 1);
  EXPECT_EQ(rig_.device.ballooned().count(), 744u);
}

TEST_P(DriverPressureTest, DeviceThatCannotAnswerDoesNotHoldTheGuestUp) {
  probe(kOnOom);
  rig_.resize(1000);
  const ProcessId process = fill_guest();
  rig_.device.answers = false;

  EXPECT_FALSE(kernel_.touch(process, kGuestPages, 1)) << "it was killed";

  rig_.device.answer();
  EXPECT_EQ(rig_.driver->step({}), kWaitsForTarget);
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
  EXPECT_EQ(rig_.driver->ballooned_pages(), 744u) << "what the device was told of is free";
}

TEST_P(DriverPressureTest, InflationThatIsUnderWayIsFinishedFirst) {
  rig_.options.let_device_answer = [&] {
    rig_.device.answer();
    return true;
  };
  probe(kOnOom);
  rig_.device.answers = false;
  rig_.resize(200);
  const ProcessId process = fill_guest();

  EXPECT_TRUE(kernel_.touch(process, kGuestPages, 1));

  EXPECT_THAT(rig_.device.actuals, ElementsAre(200, 0));
  EXPECT_EQ(rig_.device.ballooned().count(), 0u);
}

TEST_P(DriverPressureTest, PagesThatLeftOnOomComeBackOnlyWithTheNextTarget) {
  probe(kOnOom);
  rig_.resize(1000);
  const ProcessId process = fill_guest();
  ASSERT_TRUE(kernel_.touch(process, kGuestPages, 1));
  kernel_.exit(process);

  EXPECT_EQ(rig_.driver->step(milliseconds(10000)), kWaitsForTarget);
  EXPECT_EQ(rig_.driver->ballooned_pages(), 744u);

  EXPECT_EQ(rig_.resize(1001, milliseconds(10000)), kWaitsForTarget);
  EXPECT_EQ(rig_.driver->ballooned_pages(), 1001u);
}

TEST_P(DriverPressureTest, WithoutTheFeatureTheBalloonIsNotTheGuestsMemory) {
  probe(Features{Feature::kMustTellHost});

  rig_.resize(1000);
  EXPECT_EQ(statistic(MemoryStatistic::kTotalMemory) >> kPageShift, kGuestPages - 1000);

  rig_.resize(300);
  EXPECT_EQ(statistic(MemoryStatistic::kTotalMemory) >> kPageShift, kGuestPages - 300);
}

TEST_P(DriverPressureTest, RemovedBalloonIsTheGuestsMemoryAgain) {
  probe(Features{Feature::kMustTellHost});
  rig_.resize(1000);
  rig_.device.answers = false;
  rig_.resize(300);
  rig_.device.needs_reset = true;

  rig_.driver->remove();
  rig_.driver->step({});

  EXPECT_EQ(statistic(MemoryStatistic::kTotalMemory) >> kPageShift, kGuestPages);
}

TEST_P(DriverPressureTest, WithTheFeatureTheBalloonCountsAsTheGuestsMemory) {
  probe(kOnOom);

  rig_.resize(1000);

  EXPECT_EQ(statistic(MemoryStatistic::kTotalMemory) >> kPageShift, kGuestPages);
}

TEST(DriverWithoutKernelTest, DeflateOnOomIsDeclined) {
  DriverRig rig;
  rig.device.offered = rig.device.offered.with(Feature::kDeflateOnOom);
  rig.options.features = {Feature::kDeflateOnOom};

  rig.probe();

  EXPECT_FALSE(rig.driver->features().has(Feature::kDeflateOnOom));
}

// ---- compaction ---------------------------------------------------------------------------------

class DriverMigrationTest : public ::testing::TestWithParam<Dialect> {
 protected:
  DriverMigrationTest() : rig_(GetParam()) {
    rig_.options.chunk_order = 4;
    rig_.probe();
    rig_.resize(500);
    sent_ = rig_.device.messages.size();
    rig_.device.actuals.clear();
    // From the first page of the newest block on: whole blocks of the largest order.
    rig_.driver->for_each_block([&](Block block) {
      if (wanted_.count == 0) wanted_ = {block.first / 16 * 16, 16};
    });
  }
  std::uint64_t ballooned_in_range() const {
    std::uint64_t pages = 0;
    rig_.driver->for_each_block([&](Block block) {
      const PageRange range = block.pages();
      const Pfn end = std::min(range.end(), wanted_.end());
      const Pfn first = std::max(range.first, wanted_.first);
      if (first < end) pages += end - first;
    });
    return pages;
  }
  std::vector<Block> blocks() const {
    std::vector<Block> all;
    rig_.driver->for_each_block([&](Block block) { all.push_back(block); });
    return all;
  }

  DriverRig rig_;
  std::size_t sent_ = 0;  // messages before
  PageRange wanted_{0, 0};
};

INSTANTIATE_TEST_SUITE_P(Dialects, DriverMigrationTest, testing::every_dialect(),
                         testing::dialect_name);

TEST_P(DriverMigrationTest, RangeIsFreeOfTheBalloonAfterwards) {
  ASSERT_GT(ballooned_in_range(), 0u);

  EXPECT_TRUE(rig_.driver->migrate_out_of(wanted_));
  EXPECT_EQ(rig_.driver->step({}), kWaitsForTarget);

  EXPECT_EQ(ballooned_in_range(), 0u);
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

TEST_P(DriverMigrationTest, SizeOfTheBalloonStaysAndActualIsNotWritten) {
  const std::uint64_t free_before = rig_.allocator.free_pages();

  ASSERT_TRUE(rig_.driver->migrate_out_of(wanted_));
  rig_.driver->step({});

  EXPECT_EQ(rig_.driver->ballooned_pages(), 500u);
  EXPECT_EQ(rig_.allocator.free_pages(), free_before);
  EXPECT_THAT(rig_.device.actuals, IsEmpty());
}

TEST_P(DriverMigrationTest, OtherBlocksStayWhereTheyAreInTheList) {
  const std::vector<Block> before = blocks();

  ASSERT_TRUE(rig_.driver->migrate_out_of(wanted_));
  rig_.driver->step({});

  const std::vector<Block> after = blocks();
  ASSERT_THAT(after, SizeIs(before.size()));
  std::uint64_t moved = 0;
  for (std::size_t i = 0; i < before.size(); ++i) moved += before[i] == after[i] ? 0 : 1;
  EXPECT_EQ(moved, rig_.driver->counters().migrated);
  EXPECT_GT(moved, 0u);
}

TEST_P(DriverMigrationTest, NewPageIsInflatedAndAnsweredBeforeTheOldOneIsDeflatedAndFree) {
  rig_.device.answers = false;
  const Pfn old = blocks()[0].first;
  ASSERT_TRUE(rig_.driver->migrate_out_of({old, 1}));

  EXPECT_EQ(rig_.driver->step({}), kWaitsForAnswer);
  ASSERT_THAT(
      rig_.messages_since(sent_),
      ElementsAre(Field(&DecodedMessage::queue, rig_.device.last_queue(QueueRole::kInflate))));

  rig_.device.answer();
  EXPECT_EQ(rig_.driver->step({}), kWaitsForAnswer);
  ASSERT_THAT(rig_.messages_since(sent_), SizeIs(2));
  EXPECT_EQ(rig_.device.messages.back().queue, rig_.device.last_queue(QueueRole::kDeflate));
  EXPECT_FALSE(rig_.allocator.is_free(old));

  rig_.device.answer();
  EXPECT_EQ(rig_.driver->step({}), kWaitsForTarget);
  EXPECT_TRUE(rig_.allocator.is_free(old));
}

TEST_P(DriverMigrationTest, DriverThatIsBusyRefuses) {
  rig_.device.answers = false;
  rig_.resize(600);

  EXPECT_FALSE(rig_.driver->migrate_out_of(wanted_));

  rig_.device.answers = true;
  rig_.device.answer();
  rig_.driver->step({});
  EXPECT_TRUE(rig_.driver->migrate_out_of(wanted_));
}

TEST_P(DriverMigrationTest, OneMigrationAtATime) {
  rig_.device.answers = false;
  ASSERT_TRUE(rig_.driver->migrate_out_of(wanted_));
  rig_.driver->step({});

  EXPECT_FALSE(rig_.driver->migrate_out_of({0, kGuestPages}));
}

TEST_P(DriverMigrationTest, WithoutMemoryOutsideNothingIsMovedAndTheTargetIsFollowed) {
  ASSERT_TRUE(rig_.driver->migrate_out_of({0, kGuestPages}));

  EXPECT_EQ(rig_.resize(400), kWaitsForTarget);

  EXPECT_EQ(rig_.driver->counters().migrated, 0u);
  EXPECT_EQ(rig_.driver->ballooned_pages(), 400u);
}

TEST_P(DriverMigrationTest, TargetThatChangedMeanwhileIsFollowedAfterIt) {
  rig_.device.answers = false;
  ASSERT_TRUE(rig_.driver->migrate_out_of(wanted_));
  rig_.driver->step({});

  rig_.device.answers = true;
  rig_.device.answer();
  EXPECT_EQ(rig_.resize(100), kWaitsForTarget);

  EXPECT_GT(rig_.driver->counters().migrated, 0u);
  EXPECT_EQ(rig_.driver->ballooned_pages(), 100u);
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

TEST_P(DriverMigrationTest, DriverThatIsRemovedMeanwhileGivesBothBlocksBack) {
  rig_.device.answers = false;
  ASSERT_TRUE(rig_.driver->migrate_out_of(wanted_));
  rig_.driver->step({});
  rig_.device.needs_reset = true;

  rig_.driver->remove();
  rig_.driver->step({});

  EXPECT_EQ(rig_.allocator.free_pages(), kGuestPages);
}

TEST(DriverMigrationOnOomTest, BalloonThatShrinksMeanwhileIsWalkedFromItsBeginning) {
  DriverRig rig;
  sim::GuestKernel kernel(rig.allocator);
  rig.options.kernel = &kernel;
  rig.options.features = {Feature::kMustTellHost, Feature::kDeflateOnOom};
  rig.options.let_device_answer = [&] {
    rig.device.answer();
    return true;
  };
  rig.device.offered = rig.device.offered.with(Feature::kDeflateOnOom);
  rig.probe();
  rig.resize(1000);
  const PageRange range = rig.balloon().front();
  rig.device.answers = false;
  ASSERT_TRUE(rig.driver->migrate_out_of(range));
  rig.driver->step({});

  const ProcessId process = kernel.start_process();
  EXPECT_TRUE(kernel.touch(process, 0, kGuestPages - 1000));
  kernel.exit(process);
  rig.device.answers = true;
  rig.device.answer();
  EXPECT_EQ(rig.driver->step({}), kWaitsForTarget);

  EXPECT_LT(rig.driver->ballooned_pages(), 1000u);
  EXPECT_EQ(rig.device_balloon(), rig.balloon());
  rig.driver.reset();
}

}  // namespace
}  // namespace vballoon
