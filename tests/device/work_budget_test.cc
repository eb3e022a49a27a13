// SPDX-License-Identifier: MIT
// A turn of process() does only so much (src/device/serve.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "device/device_fixture.h"

namespace vballoon {
namespace {

using testing::balanced;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::message_of;
using testing::numbers;
using testing::pfn_message;
using testing::Rig;

class WorkBudgetTest : public ::testing::Test {
 protected:
  static BalloonOptions options(WorkBudget budget, Dialect dialect = Dialect::kStandard) {
    return {.dialect = dialect, .budget = budget};
  }
  // How many turns it takes until there is no more to do.
  static int turns(Rig& rig, std::uint16_t queue) {
    int count = 1;
    while (rig.device().process(queue)) ++count;
    return count;
  }
};

TEST_F(WorkBudgetTest, TurnEndsAfterItsPagesInTheMiddleOfAMessage) {
  Rig rig({.device = options({.pages = 100}, Dialect::kScatterGather)});
  rig.start().send(kInflateQueue, message_of(Dialect::kScatterGather, {{0, 300}}));

  EXPECT_TRUE(rig.device().process(kInflateQueue));

  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{0, 100}));
  EXPECT_EQ(rig.device().ballooned_pages(), 100u);
  EXPECT_THAT(rig.completed(kInflateQueue), IsEmpty());
}

TEST_F(WorkBudgetTest, BAL_D_04_MessageIsAnsweredAfterItsLastPage) {
  Rig rig({.device = options({.pages = 100}, Dialect::kScatterGather)});
  rig.start().send(kInflateQueue, message_of(Dialect::kScatterGather, {{0, 300}}));

  EXPECT_EQ(turns(rig, kInflateQueue), 3);

  EXPECT_THAT(rig.discarded(),
              ElementsAre(PageRange{0, 100}, PageRange{100, 100}, PageRange{200, 100}));
  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_TRUE(balanced(rig.device().metrics()));
}

TEST_F(WorkBudgetTest, TurnEndsAfterItsBytesInTheMiddleOfAMessage) {
  Rig rig({.device = options({.bytes = 1})});
  rig.start().send(kInflateQueue, pfn_message(numbers(0, 20'000)));

  EXPECT_TRUE(rig.device().process(kInflateQueue));

  EXPECT_EQ(rig.device().ballooned_pages() + rig.errors(Errc::kPageOutOfRange), 64u * 1024 / 4)
      << "one window";
  EXPECT_THAT(rig.completed(kInflateQueue), IsEmpty());
}

TEST_F(WorkBudgetTest, MessageThatIsReadInTurnsIsReadToItsEnd) {
  Rig rig({.device = options({.bytes = 1})});
  rig.start().send(kInflateQueue, pfn_message(numbers(0, 1000, 1)));
  rig.send(kInflateQueue, pfn_message(numbers(0x800, 500)));

  turns(rig, kInflateQueue);

  EXPECT_EQ(rig.device().ballooned_pages(), 1500u);
  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u, 0u));
}

TEST_F(WorkBudgetTest, DeflateIsDoneInTurnsToo) {
  Rig rig({.device = options({.pages = 100}, Dialect::kScatterGather)});
  rig.start().inflate(message_of(Dialect::kScatterGather, {{0, 300}}));
  rig.send(kDeflateQueue, message_of(Dialect::kScatterGather, {{0, 300}}));

  EXPECT_TRUE(rig.device().process(kDeflateQueue));

  EXPECT_EQ(rig.device().ballooned_pages(), 200u);
  EXPECT_THAT(rig.completed(kDeflateQueue), IsEmpty());
}

TEST_F(WorkBudgetTest, OtherQueueIsServedWhileAMessageWaits) {
  Rig rig({.device = options({.pages = 100}, Dialect::kScatterGather)});
  rig.start().inflate(message_of(Dialect::kScatterGather, {{0x800, 10}}));
  rig.send(kInflateQueue, message_of(Dialect::kScatterGather, {{0, 300}}));
  ASSERT_TRUE(rig.device().process(kInflateQueue));

  rig.deflate(message_of(Dialect::kScatterGather, {{0x800, 10}}));

  EXPECT_EQ(rig.device().ballooned_pages(), 100u);
  EXPECT_EQ(turns(rig, kInflateQueue), 2);
  EXPECT_EQ(rig.device().ballooned_pages(), 300u);
}

TEST_F(WorkBudgetTest, ResetDropsAMessageThatWaits) {
  Rig rig({.device = options({.pages = 100}, Dialect::kScatterGather)});
  rig.start().send(kInflateQueue, message_of(Dialect::kScatterGather, {{0, 300}}));
  ASSERT_TRUE(rig.device().process(kInflateQueue));

  rig.reset();
  rig.start();

  EXPECT_FALSE(rig.device().process(kInflateQueue));
  EXPECT_EQ(rig.device().ballooned_pages(), 0u);
}

TEST_F(WorkBudgetTest, RepeatedPagesAreCountedOnceHoweverManyTurnsTheyTake) {
  Rig rig({.device = options({.pages = 10})});
  rig.start().send(kInflateQueue, pfn_message({1, 2, 3, 1}));

  turns(rig, kInflateQueue);

  EXPECT_EQ(rig.errors(Errc::kPageRepeated), 1u);
}

}  // namespace
}  // namespace vballoon
