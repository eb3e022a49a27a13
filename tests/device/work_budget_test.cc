// SPDX-License-Identifier: MIT
// A turn of process() does only so much (src/device/serve.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <span>
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

// The guest may use the pages of a report as soon as it is answered.
TEST_F(WorkBudgetTest, ReportIsDiscardedInTurnsAndAnsweredAfterTheLast) {
  BalloonOptions reporting = options({.pages = 100});
  reporting.features = reporting.features.with(Feature::kPageReporting);
  Rig rig({.device = reporting});
  rig.start().send(2, message_of(Dialect::kScatterGather, {{0, 300}}));

  ASSERT_TRUE(rig.device().process(2));
  ASSERT_TRUE(rig.device().process(2));

  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{0, 100}, PageRange{100, 100}));
  EXPECT_THAT(rig.completed(2), IsEmpty());
  EXPECT_EQ(turns(rig, 2), 1);
  EXPECT_EQ(rig.device().metrics().reported_freed_bytes, 300 * kPageSize);
  EXPECT_THAT(rig.completed(2), ElementsAre(0u));
}

TEST_F(WorkBudgetTest, HintsAreTakenInTurnsToo) {
  PageRanges hinted;
  BalloonOptions hinting = options({.pages = 100});
  hinting.features = hinting.features.with(Feature::kFreePageHint);
  hinting.on_free_page_hints = [&hinted](std::span<const PageRange> pages) {
    hinted.insert(hinted.end(), pages.begin(), pages.end());
  };
  Rig rig({.device = hinting});
  const std::uint32_t id = rig.start().device().start_hints().value();
  rig.send(2, {{testing::le32({id})}});
  rig.serve(2);
  ASSERT_THAT(rig.completed(2), ElementsAre(0u));
  rig.send(2, message_of(Dialect::kScatterGather, {{0, 300}}));

  EXPECT_TRUE(rig.device().process(2));

  EXPECT_THAT(hinted, ElementsAre(PageRange{0, 100}));
  EXPECT_THAT(rig.completed(2), IsEmpty());
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

// ---- free page hints ---------------------------------------------------------------------------

// A round of hints that has begun, and a budget of 100 pages.
class WorkBudgetHintsTest : public ::testing::Test {
 protected:
  WorkBudgetHintsTest() {
    rig_.start();
    begin_round();
  }

  static constexpr std::uint16_t kHintQueue = 2;

  void begin_round() {
    send_command(rig_.device().start_hints().value());
    rig_.serve(kHintQueue);
    (void)rig_.completed(kHintQueue);
  }
  void send_command(std::uint32_t id) { rig_.send(kHintQueue, {{testing::le32({id})}}); }
  void send_pages(PageRange pages) {
    rig_.send(kHintQueue, message_of(Dialect::kScatterGather, {pages}));
  }

  PageRanges hinted_;
  Rig rig_{{.device = {.features = Features{Feature::kMustTellHost, Feature::kFreePageHint},
                       .budget = {.pages = 100},
                       .on_free_page_hints = [this](std::span<const PageRange> pages) {
                         hinted_.insert(hinted_.end(), pages.begin(), pages.end());
                       }}}};
};

TEST_F(WorkBudgetHintsTest, HintsAreAnsweredAfterTheLastPage) {
  send_pages({0, 300});

  rig_.serve(kHintQueue);

  EXPECT_THAT(hinted_, ElementsAre(PageRange{0, 100}, PageRange{100, 100}, PageRange{200, 100}));
  EXPECT_THAT(rig_.completed(kHintQueue), ElementsAre(0u));
}

TEST_F(WorkBudgetHintsTest, CommandWaitsForThePagesInFrontOfIt) {
  send_pages({0, 300});
  send_command(kHintStop);

  EXPECT_TRUE(rig_.device().process(kHintQueue));
  EXPECT_EQ(rig_.device().hint_status().state, HintState::kActive);
  rig_.serve(kHintQueue);

  EXPECT_EQ(rig_.device().hint_status().state, HintState::kExhausted);
  EXPECT_THAT(hinted_, ElementsAre(PageRange{0, 100}, PageRange{100, 100}, PageRange{200, 100}));
  EXPECT_THAT(rig_.completed(kHintQueue), ElementsAre(0u, 0u));
}

TEST_F(WorkBudgetHintsTest, RestOfAMessageWhoseRoundHasEndedIsNotHandedOver) {
  send_pages({0, 300});
  ASSERT_TRUE(rig_.device().process(kHintQueue));

  rig_.device().stop_hints();
  rig_.serve(kHintQueue);

  EXPECT_THAT(hinted_, ElementsAre(PageRange{0, 100}));
  EXPECT_THAT(rig_.completed(kHintQueue), ElementsAre(0u));
}

TEST_F(WorkBudgetHintsTest, RestOfAMessageIsNotTakenForOneOfTheNextRound) {
  send_pages({0, 300});
  ASSERT_TRUE(rig_.device().process(kHintQueue));
  const std::uint32_t id = rig_.device().start_hints().value();
  send_command(id);
  send_pages({0x380, 1});

  rig_.serve(kHintQueue);

  EXPECT_THAT(hinted_, ElementsAre(PageRange{0, 100}, PageRange{0x380, 1}));
}

TEST_F(WorkBudgetHintsTest, ResetDropsHintsThatWait) {
  send_pages({0, 300});
  ASSERT_TRUE(rig_.device().process(kHintQueue));

  rig_.reset();
  rig_.start();
  begin_round();

  EXPECT_THAT(hinted_, ElementsAre(PageRange{0, 100}));
  EXPECT_THAT(rig_.completed(kHintQueue), IsEmpty());
}

}  // namespace
}  // namespace vballoon
