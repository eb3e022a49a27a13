// SPDX-License-Identifier: MIT
#include "balloon_events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <string>

#include "controlled_device.h"
#include "vballoon/balloon_registers.h"

namespace vballoon::tool {
namespace {

using testing::ControlledDevice;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

std::string event(const std::string& name, const std::string& data) {
  return R"({"event":")" + name + R"(","data":)" + data +
         R"(,"timestamp":{"seconds":1358529861,"microseconds":42}})"
         "\r\n";
}
std::string change(const std::string& actual) {
  return event("BALLOON_CHANGE", R"({"actual":)" + actual + "}");
}

class BalloonEventsTest : public ::testing::Test {
 protected:
  BalloonEventsTest() {
    controlled_.rig().start();
    EXPECT_TRUE(controlled_.device().set_target_pages(1024));
    controlled_.settle();
  }
  std::string events() {
    controlled_.settle();
    return ControlledDevice::read(client_);
  }

  ControlledDevice controlled_;
  QmpSession& client_ = controlled_.connect_ready();
};

TEST_F(BalloonEventsTest, ChangeOfActualSaysWhatIsLeftToTheGuest) {
  controlled_.say_actual(256);

  EXPECT_EQ(events(), change("7340032"));
}

TEST_F(BalloonEventsTest, NothingNewIsNoEvent) {
  controlled_.say_actual(256);
  events();

  controlled_.say_actual(256);
  controlled_.now += 2s;

  EXPECT_EQ(events(), "");
  EXPECT_EQ(controlled_.control().next_time(), std::nullopt);
}

TEST_F(BalloonEventsTest, ChangesWithinASecondAreOneAndTheLastIsKept) {
  controlled_.say_actual(1);
  EXPECT_EQ(events(), change("8384512"));

  controlled_.say_actual(2);
  EXPECT_EQ(events(), "");
  EXPECT_EQ(controlled_.control().next_time(), controlled_.now + 1s);
  controlled_.say_actual(3);
  EXPECT_EQ(events(), "");
  controlled_.now += 1s;

  EXPECT_EQ(events(), change("8376320"));
}

TEST_F(BalloonEventsTest, SecondThatIsOverBeginsWithTheEvent) {
  controlled_.say_actual(1);
  events();
  controlled_.say_actual(2);
  controlled_.now += 1s;
  events();

  controlled_.say_actual(3);

  EXPECT_EQ(events(), "");
  EXPECT_EQ(controlled_.control().next_time(), controlled_.now + 1s);
}

TEST_F(BalloonEventsTest, TargetThatIsReachedIsAnEventOfItsOwn) {
  controlled_.say_actual(1024);

  EXPECT_EQ(events(), change("4194304") +
                          event("VBALLOON_TARGET_REACHED", R"({"actual-balloon-bytes":4194304})"));
}

TEST_F(BalloonEventsTest, TargetThatWasLeftAgainIsNotSaidToBeReached) {
  controlled_.say_actual(1024);
  events();
  controlled_.say_actual(1);
  events();

  controlled_.say_actual(1024);
  EXPECT_EQ(events(), "");
  controlled_.say_actual(2);
  controlled_.now += 1s;

  EXPECT_EQ(events(), change("8380416"));
}

TEST_F(BalloonEventsTest, StatisticsCarryWhatTheGuestSent) {
  controlled_.send_stats({{4, 4096}, {9999, 1}});

  EXPECT_EQ(events(), event("VBALLOON_STATS", R"({"stats":{"free-memory-bytes":4096}})"));
}

TEST_F(BalloonEventsTest, WhatTheGuestDoesWrongIsCountedByQueueAndReasonOverASecond) {
  controlled_.rig().inflate({0xFFFF, 0xFFFE});
  EXPECT_EQ(events(),
            event("VBALLOON_GUEST_ERROR",
                  R"({"queue":"inflate","reason":"page-outside-guest-memory","count":2})"));

  controlled_.rig().inflate({0xFFFF});
  controlled_.rig().deflate({1});
  EXPECT_EQ(events(), "");
  controlled_.rig().inflate({0xFFFF});
  controlled_.now += 1s;

  EXPECT_EQ(events(),
            event("VBALLOON_GUEST_ERROR",
                  R"({"queue":"inflate","reason":"page-outside-guest-memory","count":2})") +
                event("VBALLOON_GUEST_ERROR",
                      R"({"queue":"deflate","reason":"page-not-in-the-balloon","count":1})"));
}

TEST_F(BalloonEventsTest, WhatTheGuestDoesWrongInRegistersIsOfNoQueue) {
  const std::array<std::byte, 4> bytes{};
  controlled_.device().write_config(kNumPagesOffset, bytes);

  EXPECT_EQ(events(), event("VBALLOON_GUEST_ERROR",
                            R"({"reason":"write-to-a-read-only-configuration-field","count":1})"));
}

TEST_F(BalloonEventsTest, RoundThatHasNoMoreHintsIsDone) {
  controlled_.say(client_, R"({"execute": "vballoon-hinting-start"})");
  auto& rig = controlled_.rig();
  rig.send(testing::kHintQueue, {{vballoon::testing::le32({2})}});
  rig.send(testing::kHintQueue, {{}, {GuestBuffer{0, 2 * kPageSize}}});
  rig.send(testing::kHintQueue, {{vballoon::testing::le32({0})}});
  rig.serve(testing::kHintQueue);

  EXPECT_EQ(events(), event("VBALLOON_HINTING_DONE", R"({"host-cmd":2,"hinted-bytes":8192})"));
}

TEST_F(BalloonEventsTest, DeviceThatNeedsAResetSaysSo) {
  ASSERT_TRUE(controlled_.device().set_memory(GuestMemory::borrow({}).value()));

  EXPECT_EQ(events(), event("VBALLOON_NEEDS_RESET", "{}"));
}

TEST_F(BalloonEventsTest, EveryClientThatHasNegotiatedGetsThem) {
  QmpSession& other = controlled_.connect_ready();
  QmpSession& silent = controlled_.connect();
  ControlledDevice::read(silent);
  controlled_.say_actual(256);

  EXPECT_EQ(events(), change("7340032"));
  EXPECT_EQ(ControlledDevice::read(other), change("7340032"));
  EXPECT_EQ(ControlledDevice::read(silent), "");
}

TEST(ReasonWordTest, ExplanationBehindACommaIsLeftOut) {
  EXPECT_EQ(reason_word(Errc::kLegacyDriver), "legacy-driver");
  EXPECT_EQ(reason_word(Errc::kChainTooLarge), "chain-of-more-than-2-32-bytes");
}

}  // namespace
}  // namespace vballoon::tool
