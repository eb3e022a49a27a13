// SPDX-License-Identifier: MIT
// The habits of the Windows driver (src/guest/driver_resize.cc, page_reporter.cc, stats_sender.cc).
#include "guest/driver_fixture.h"
#include "wire/little_endian.h"

namespace vballoon {
namespace {

using sim::DriverHabits;
using sim::DriverWait;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::SizeIs;
using ::vballoon::testing::DecodedMessage;
using ::vballoon::testing::DriverRig;
using ::vballoon::testing::kWaitsForTarget;

class DriverHabitsTest : public ::testing::Test {
 protected:
  DriverHabitsTest() {
    rig_.options.habits = DriverHabits::kWindows;
    rig_.device.wide_pfns = true;
    rig_.options.features = Features{Feature::kStatsVq};
  }
  ~DriverHabitsTest() override { rig_.driver.reset(); }  // before the kernel

  // Inflates a message and waits for its answer in vain until the driver goes on.
  void let_wait_be_abandoned() {
    rig_.device.answers = false;
    rig_.resize(100, seconds(10));
    rig_.driver->step(seconds(11));
  }

  DriverRig rig_;
  sim::GuestKernel kernel_{rig_.allocator};
};

TEST_F(DriverHabitsTest, ArrayHas512NumbersOf8Bytes) {
  rig_.probe();

  rig_.resize(600);

  ASSERT_THAT(rig_.device.messages, SizeIs(2));
  EXPECT_THAT(rig_.device.messages[0].payload, SizeIs(4096));
  EXPECT_THAT(rig_.device.messages[1].payload, SizeIs(88 * 8));
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

TEST_F(DriverHabitsTest, PagesAreFreeWhenTheDeviceIsToldOfTheirDeflation) {
  rig_.probe();
  rig_.resize(200);
  std::uint64_t free_pages = 0;
  rig_.device.on_message = [&](const DecodedMessage& message) {
    for (const PageRange& run : message.pages) {
      for (Pfn pfn = run.first; pfn < run.end(); ++pfn) {
        free_pages += rig_.allocator.is_free(pfn) ? 1 : 0;
      }
    }
  };

  rig_.resize(50);

  EXPECT_EQ(free_pages, 150u);
  EXPECT_EQ(rig_.device.ballooned().count(), 50u);
}

TEST_F(DriverHabitsTest, WithMustTellHostPagesAreFreedAfterTheAnswer) {
  rig_.options.features = Features{Feature::kMustTellHost};
  rig_.probe();
  rig_.resize(200);
  rig_.device.answers = false;
  const std::uint64_t free_before = rig_.allocator.free_pages();

  rig_.resize(0);
  EXPECT_EQ(rig_.allocator.free_pages(), free_before);

  rig_.device.answer();
  rig_.driver->step({});
  EXPECT_EQ(rig_.allocator.free_pages(), free_before + 200);
}

TEST_F(DriverHabitsTest, AnswerIsWaitedForForASecond) {
  rig_.probe();
  rig_.device.answers = false;
  const DriverWait wait{DriverWait::Kind::kUsedBuffer, seconds(11)};

  EXPECT_EQ(rig_.resize(100, seconds(10)), wait);
  EXPECT_EQ(rig_.driver->step(milliseconds(10999)), wait);
  EXPECT_THAT(rig_.device.actuals, SizeIs(0));

  EXPECT_EQ(rig_.driver->step(seconds(11)), kWaitsForTarget);
  EXPECT_THAT(rig_.device.actuals, ElementsAre(100));
}

TEST_F(DriverHabitsTest, DriverThatWaitsNoLongerGoesOnWithTheNextMessage) {
  rig_.probe();
  let_wait_be_abandoned();

  rig_.resize(150, seconds(11));

  EXPECT_THAT(rig_.device.messages, SizeIs(2));
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

TEST_F(DriverHabitsTest, LateAnswerIsNotTakenForThatOfTheNextMessage) {
  rig_.probe();
  let_wait_be_abandoned();
  rig_.resize(150, seconds(11));

  rig_.device.answer(1);
  EXPECT_EQ(rig_.driver->step(seconds(11)).kind, DriverWait::Kind::kUsedBuffer);

  rig_.device.answer(1);
  EXPECT_EQ(rig_.driver->step(seconds(11)), kWaitsForTarget);
  EXPECT_THAT(rig_.device.actuals, ElementsAre(100, 150));
}

TEST_F(DriverHabitsTest, LateAnswerOfAnIdleDriverDoesNotMatter) {
  rig_.probe();
  let_wait_be_abandoned();

  rig_.device.answers = true;
  rig_.device.answer();
  rig_.driver->step(seconds(11));
  rig_.resize(30, seconds(11));
  rig_.resize(60, seconds(11));

  EXPECT_THAT(rig_.device.actuals, ElementsAre(100, 30, 60));
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

TEST_F(DriverHabitsTest, RingFullOfUnansweredMessagesIsWaitedFor) {
  rig_.options.queue_size = 2;
  rig_.probe();
  let_wait_be_abandoned();
  rig_.resize(150, seconds(11));

  EXPECT_EQ(rig_.driver->step(seconds(100)).kind, DriverWait::Kind::kUsedBuffer);
  EXPECT_THAT(rig_.device.messages, SizeIs(2));

  rig_.device.answers = true;
  rig_.device.answer();
  EXPECT_EQ(rig_.resize(200, seconds(100)), kWaitsForTarget);
  EXPECT_EQ(rig_.device.ballooned().count(), 200u);
}

TEST_F(DriverHabitsTest, GuestThatIsOutOfMemoryNeedsNoAnswer) {
  rig_.device.offered = rig_.device.offered.with(Feature::kDeflateOnOom);
  rig_.options.features = Features{Feature::kDeflateOnOom};
  rig_.options.kernel = &kernel_;
  rig_.probe();
  rig_.resize(1000);
  rig_.device.answers = false;
  const sim::ProcessId process = kernel_.start_process();

  EXPECT_TRUE(kernel_.touch(process, 0, testing::kGuestPages - 1000));
}

TEST_F(DriverHabitsTest, OtherDialectsAreSpokenAsLinuxWould) {
  DriverRig rig(Dialect::kPageBitmap);
  rig.options.habits = DriverHabits::kWindows;
  rig.options.features = Features();
  rig.probe();
  rig.resize(200);
  rig.device.answers = false;
  const std::uint64_t free_before = rig.allocator.free_pages();

  EXPECT_EQ(rig.resize(0), testing::kWaitsForAnswer);

  EXPECT_EQ(rig.allocator.free_pages(), free_before);
}

TEST_F(DriverHabitsTest, StatisticsAreThoseOfTheStandardByTheirNumbers) {
  rig_.device.offered = rig_.device.offered.with(Feature::kStatsVq);
  rig_.options.kernel = &kernel_;

  rig_.probe();

  const auto messages = rig_.device.messages_on(QueueRole::kStats);
  ASSERT_THAT(messages, SizeIs(1));
  std::vector<std::uint16_t> tags;
  for (std::size_t at = 0; at < messages[0].payload.size(); at += 10) {
    tags.push_back(load_le<std::uint16_t>(messages[0].payload.data() + at));
  }
  EXPECT_THAT(tags, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
}

}  // namespace
}  // namespace vballoon
