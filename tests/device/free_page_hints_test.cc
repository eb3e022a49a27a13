// SPDX-License-Identifier: MIT
// Free page hints (src/device/hint_round.cc, src/device/serve.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "device/device_fixture.h"
#include "device/hint_round.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using testing::Rig;

constexpr std::uint16_t kHintQueue = 2;

TEST(HintRoundTest, BAL_I_09_IdsBeginBehindTheReservedOnes) {
  HintRound round;

  EXPECT_EQ(round.start(), 2u);
  EXPECT_EQ(round.command(), 2u);
}

TEST(HintRoundTest, BAL_D_11_EachRoundHasAnIdOfItsOwn) {
  HintRound round;
  round.start();

  EXPECT_EQ(round.start(), 3u);
}

TEST(HintRoundTest, BAL_I_09_IdsWrapAroundTheReservedOnes) {
  HintRound round;
  round.restore(HintState::kStopped, 0xFFFFFFFF);

  EXPECT_EQ(round.start(), 2u);
}

TEST(HintRoundTest, IdOfTheRoundBeginsIt) {
  HintRound round;

  round.received(round.start());

  EXPECT_TRUE(round.active());
}

TEST(HintRoundTest, IdOfAnotherRoundDoesNotBeginIt) {
  HintRound round;
  const std::uint32_t old = round.start();
  round.start();

  round.received(old);

  EXPECT_EQ(round.state(), HintState::kRequested);
}

TEST(HintRoundTest, StopOfAnOldRoundDoesNotEndANewOne) {
  HintRound round;
  round.received(round.start());
  round.start();

  round.received(kHintStop);

  EXPECT_EQ(round.state(), HintState::kRequested);
}

TEST(HintRoundTest, IdStandsWhileTheRoundIsActiveAndAfterTheGuestsStop) {
  HintRound round;
  const std::uint32_t id = round.start();
  round.received(id);
  EXPECT_EQ(round.command(), id);

  round.received(kHintStop);

  EXPECT_EQ(round.state(), HintState::kExhausted);
  EXPECT_EQ(round.command(), id) << "the host has said nothing new";
}

TEST(HintRoundTest, HostEndsTheRoundWithStopOrDone) {
  HintRound round;
  round.received(round.start());

  round.stop();
  EXPECT_EQ(round.command(), kHintStop);
  round.done();
  EXPECT_EQ(round.command(), kHintDone);
}

class DeviceHintsTest : public ::testing::Test {
 protected:
  DeviceHintsTest() { rig_.start(); }

  std::uint32_t start_round() {
    const std::uint32_t id = rig_.device().start_hints().value();
    send_id(id);
    return id;
  }
  void send_id(std::uint32_t id) { rig_.send(kHintQueue, {{testing::le32({id})}}); }
  void send_pages(PageRange pages) {
    rig_.send(kHintQueue,
              {{}, {{pages.first * kPageSize, static_cast<std::uint32_t>(pages.bytes())}}});
  }
  void serve() { rig_.serve(kHintQueue); }

  std::vector<PageRange> hinted_;
  std::function<void()> on_hints_ = [] {};  // at that moment
  Rig rig_{{.device = {.features = Features{Feature::kMustTellHost, Feature::kFreePageHint},
                       .on_free_page_hints = [this](std::span<const PageRange> pages) {
                         hinted_.insert(hinted_.end(), pages.begin(), pages.end());
                         on_hints_();
                       }}}};
};

TEST_F(DeviceHintsTest, StartPutsAnIdIntoTheConfigurationAndTellsTheDriver) {
  const std::uint32_t id = rig_.device().start_hints().value();

  EXPECT_GE(id, 2u);
  EXPECT_EQ(rig_.config32(kHintCommandOffset), id);
  EXPECT_EQ(rig_.config_interrupts(), 1);
  EXPECT_EQ(rig_.device().hint_status().state, HintState::kRequested);
}

TEST_F(DeviceHintsTest, PagesOfTheRoundAreHandedOverAndAnswered) {
  start_round();
  send_pages({5, 2});
  send_pages({0x900, 1});

  serve();

  EXPECT_THAT(hinted_, ElementsAre(PageRange{5, 2}, PageRange{0x900, 1}));
  EXPECT_THAT(rig_.completed(kHintQueue), ElementsAre(0u, 0u, 0u));
  EXPECT_EQ(rig_.device().metrics().hinted_bytes, 3 * kPageSize);
}

TEST_F(DeviceHintsTest, HintsAreHandedOverBeforeTheirAnswer) {
  start_round();
  serve();
  ASSERT_THAT(rig_.completed(kHintQueue), ElementsAre(0u));
  std::vector<std::size_t> answered;
  on_hints_ = [&] { answered.push_back(rig_.completed(kHintQueue).size()); };
  send_pages({5, 2});

  serve();

  EXPECT_THAT(answered, ElementsAre(0u)) << "while they are handed over";
  EXPECT_THAT(rig_.completed(kHintQueue), ElementsAre(0u));
}

TEST_F(DeviceHintsTest, BAL_D_13_BAL_D_14_HintedPagesAreNotDiscarded) {
  start_round();
  send_pages({5, 2});

  serve();

  EXPECT_THAT(rig_.discarded(), IsEmpty());
}

TEST_F(DeviceHintsTest, PagesWithoutARoundAreAnsweredAndIgnored) {
  send_pages({5, 2});

  serve();

  EXPECT_THAT(hinted_, IsEmpty());
  EXPECT_THAT(rig_.completed(kHintQueue), ElementsAre(0u));
}

TEST_F(DeviceHintsTest, BAL_D_12_PagesUnderAnOldIdAreIgnored) {
  const std::uint32_t old = rig_.device().start_hints().value();
  ASSERT_TRUE(rig_.device().start_hints());
  send_id(old);
  send_pages({5, 2});

  serve();

  EXPECT_THAT(hinted_, IsEmpty());
}

TEST_F(DeviceHintsTest, NewIdInTheMiddleOfARoundEndsTheOldOne) {
  start_round();
  send_pages({5, 1});
  serve();
  const std::uint32_t id = rig_.device().start_hints().value();
  send_pages({6, 1});
  send_id(kHintStop);
  send_id(id);
  send_pages({7, 1});

  serve();

  EXPECT_THAT(hinted_, ElementsAre(PageRange{5, 1}, PageRange{7, 1}));
}

TEST_F(DeviceHintsTest, PagesBehindTheGuestsStopAreIgnored) {
  start_round();
  send_pages({5, 1});
  send_id(kHintStop);
  send_pages({6, 1});

  serve();

  EXPECT_THAT(hinted_, ElementsAre(PageRange{5, 1}));
  EXPECT_EQ(rig_.device().hint_status().state, HintState::kExhausted);
}

TEST_F(DeviceHintsTest, BAL_D_10_StopMakesHintsUselessAtOnce) {
  start_round();
  serve();

  rig_.device().stop_hints();
  send_pages({5, 1});
  serve();

  EXPECT_THAT(hinted_, IsEmpty());
  EXPECT_EQ(rig_.config32(kHintCommandOffset), kHintStop);
  EXPECT_EQ(rig_.config_interrupts(), 2);
}

TEST_F(DeviceHintsTest, BAL_D_15_FinishLetsTheGuestHaveItsPages) {
  start_round();
  serve();

  rig_.device().finish_hints();

  EXPECT_EQ(rig_.config32(kHintCommandOffset), kHintDone);
  EXPECT_EQ(rig_.device().hint_status().state, HintState::kDone);
}

TEST_F(DeviceHintsTest, BAL_D_14_PagesThatComeAfterDoneAreNeitherHandedOverNorDiscarded) {
  start_round();
  serve();
  rig_.device().finish_hints();
  send_pages({5, 2});

  serve();

  EXPECT_THAT(hinted_, IsEmpty());
  EXPECT_THAT(rig_.discarded(), IsEmpty());
  EXPECT_THAT(rig_.completed(kHintQueue), ElementsAre(0u, 0u));
}

TEST_F(DeviceHintsTest, FinishingTwiceTellsTheDriverOnce) {
  rig_.device().finish_hints();

  rig_.device().finish_hints();

  EXPECT_EQ(rig_.config_interrupts(), 1);
}

TEST_F(DeviceHintsTest, PagesOutsideGuestMemoryAreLeftOut) {
  start_round();
  send_pages({0x3FF, 2});

  serve();

  EXPECT_THAT(hinted_, ElementsAre(PageRange{0x3FF, 1}));
  EXPECT_EQ(rig_.errors(Errc::kPageOutOfRange), 1u);
}

TEST_F(DeviceHintsTest, IdThatIsNotFourBytesIsCountedAndAnswered) {
  start_round();
  rig_.send(kHintQueue, {{testing::Bytes(5)}});
  send_pages({5, 1});

  serve();

  EXPECT_THAT(hinted_, ElementsAre(PageRange{5, 1}));
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kBadHintCommand, 1u)));
  EXPECT_THAT(rig_.completed(kHintQueue), ElementsAre(0u, 0u, 0u));
}

TEST_F(DeviceHintsTest, IdWithPagesInOneMessageIsRefused) {
  rig_.send(kHintQueue,
            {{testing::le32({rig_.device().start_hints().value()})}, {{5 * kPageSize, kPageSize}}});

  serve();

  EXPECT_THAT(hinted_, IsEmpty());
  EXPECT_EQ(rig_.errors(Errc::kBadHintCommand), 1u);
}

TEST_F(DeviceHintsTest, RoundOfADriverWithoutTheFeatureFails) {
  Rig without;
  without.start();

  EXPECT_EQ(without.device().start_hints().error().code, Errc::kNotSupported);
}

TEST_F(DeviceHintsTest, ResetEndsTheRound) {
  start_round();
  serve();

  rig_.reset();

  EXPECT_EQ(rig_.device().hint_status().state, HintState::kStopped);
  EXPECT_EQ(rig_.config32(kHintCommandOffset), kHintStop);
}

TEST_F(DeviceHintsTest, BAL_D_11_IdOfALaterBootIsAnother) {
  const std::uint32_t before = start_round();
  rig_.reset();
  rig_.start();

  EXPECT_NE(rig_.device().start_hints().value(), before);
}

}  // namespace
}  // namespace vballoon
