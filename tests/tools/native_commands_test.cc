// SPDX-License-Identifier: MIT
// The commands of vballoon's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "balloon_numbers.h"
#include "controlled_device.h"

namespace vballoon::tool {
namespace {

using testing::ControlledDevice;
using ::testing::HasSubstr;
using testing::kRamBytes;
using testing::Rig;
using namespace std::chrono_literals;
using nlohmann::json;

constexpr std::string_view kNoDriver =
    R"({"error": {"class":"DeviceNotActive","desc":"No guest runs a driver for this balloon"}})"
    "\r\n";

class NativeCommandsTest : public ::testing::Test {
 protected:
  explicit NativeCommandsTest(BalloonOptions options = testing::with_all_queues())
      : controlled_(std::move(options)) {
    controlled_.rig().start();
  }

  // The answer, without the events of what happened before.
  std::string say(QmpSession& client, std::string_view text) {
    controlled_.settle();
    ControlledDevice::read(client);
    return controlled_.say(client, text);
  }
  std::string say(std::string_view text) { return say(client_, text); }
  std::string set_target(const std::string& arguments) {
    return say(R"({"execute": "vballoon-set-target", "arguments": {)" + arguments + "}}");
  }
  // What a client that has waited is told, without events.
  std::string answer(QmpSession& client) {
    controlled_.settle();
    const std::string all = ControlledDevice::read(client);
    const auto begin = all.find("{\"error\"") == std::string::npos ? all.find("{\"return\"")
                                                                   : all.find("{\"error\"");
    return begin == std::string::npos ? "" : all.substr(begin);
  }

  ControlledDevice controlled_;
  QmpSession& client_ = controlled_.connect_ready();
};

TEST_F(NativeCommandsTest, QuerySaysBothSizesAndWhatWasNegotiated) {
  ASSERT_TRUE(controlled_.device().set_target_pages(512));
  controlled_.say_actual(256);

  const auto answer = json::parse(say(R"({"execute": "vballoon-query", "id": 1})"));

  auto expected = json::parse(R"({"return": {"state": "ready", "ram-bytes": 8388608,
      "target-balloon-bytes": 2097152, "actual-balloon-bytes": 1048576,
      "features": ["must-tell-host", "stats-vq", "free-page-hint", "version-1"],
      "mode": "pfn", "page-size": 4096}, "id": 1})");
  if (vballoon::testing::packed_by_default())
    expected["return"]["features"].push_back("ring-packed");
  EXPECT_EQ(answer, expected);
}

TEST_F(NativeCommandsTest, QueryOfADeviceWithoutADriverSaysSo) {
  controlled_.rig().reset();

  EXPECT_THAT(say(R"({"execute": "vballoon-query"})"), HasSubstr(R"("state":"no-driver")"));
}

TEST_F(NativeCommandsTest, QueryOfADeviceWithoutAGuestSaysSo) {
  ASSERT_TRUE(controlled_.device().set_memory(GuestMemory::borrow({}).value()));

  EXPECT_THAT(say(R"({"execute": "vballoon-query"})"),
              HasSubstr(R"("state":"no-guest","ram-bytes":0)"));
}

// ---- vballoon-set-target -------------------------------------------------------------------

TEST_F(NativeCommandsTest, SetTargetSaysHowLargeTheBalloonIsNow) {
  controlled_.say_actual(256);

  EXPECT_EQ(set_target(R"("balloon-bytes": 2097152)"),
            "{\"return\": {\"actual-balloon-bytes\":1048576}}\r\n");

  EXPECT_EQ(target_bytes(controlled_.device()), 2097152u);
}

TEST_F(NativeCommandsTest, TargetBeyondGuestMemoryIsRefused) {
  EXPECT_THAT(set_target(R"("balloon-bytes": 8392704)"), HasSubstr(R"("class":"InvalidTarget")"));

  EXPECT_EQ(target_bytes(controlled_.device()), 0u);
}

TEST_F(NativeCommandsTest, TargetThatIsNoWholePageIsRefused) {
  EXPECT_THAT(set_target(R"("balloon-bytes": 4097)"), HasSubstr(R"("class":"InvalidTarget")"));
}

TEST_F(NativeCommandsTest, NegativeTargetIsRefused) {
  EXPECT_THAT(set_target(R"("balloon-bytes": -4096)"), HasSubstr(R"("class":"InvalidTarget")"));
}

TEST_F(NativeCommandsTest, TimeoutWithoutAWaitIsAnErrorBeforeAnyEffect) {
  EXPECT_THAT(set_target(R"("balloon-bytes": 4096, "timeout-ms": 5)"),
              HasSubstr(R"("GenericError","desc":"Parameter 'timeout-ms' needs 'wait'")"));

  EXPECT_EQ(target_bytes(controlled_.device()), 0u);
}

TEST_F(NativeCommandsTest, TimeoutOfMoreThanADayIsAnError) {
  EXPECT_THAT(set_target(R"("balloon-bytes": 4096, "wait": true, "timeout-ms": 86400001)"),
              HasSubstr("Parameter 'timeout-ms' expects 0 to 86400000"));
}

TEST_F(NativeCommandsTest, TargetWithoutADriverIsRefused) {
  controlled_.rig().reset();

  EXPECT_EQ(set_target(R"("balloon-bytes": 4096)"), kNoDriver);
}

TEST_F(NativeCommandsTest, WaitIsAnsweredWhenTheGuestHasGotThere) {
  EXPECT_EQ(set_target(R"("balloon-bytes": 1048576, "wait": true)"), "");

  controlled_.say_actual(255);
  EXPECT_EQ(answer(client_), "");
  controlled_.say_actual(256);

  EXPECT_EQ(answer(client_), "{\"return\": {\"actual-balloon-bytes\":1048576}}\r\n");
}

TEST_F(NativeCommandsTest, WaitForTheSizeThatItHasIsAnsweredAtOnce) {
  EXPECT_EQ(set_target(R"("balloon-bytes": 0, "wait": true)"),
            "{\"return\": {\"actual-balloon-bytes\":0}}\r\n");
}

TEST_F(NativeCommandsTest, WaitThatIsOverBeforeTheGuestGetsThereFails) {
  set_target(R"("balloon-bytes": 1048576, "wait": true, "timeout-ms": 5000)");
  EXPECT_EQ(controlled_.control().next_time(), controlled_.now + 5s);
  controlled_.say_actual(16);

  controlled_.wait(5s - 1ms);
  EXPECT_EQ(answer(client_), "");
  controlled_.wait(1ms);

  EXPECT_EQ(answer(client_),
            R"({"error": {"class":"TargetNotReached","desc":"The balloon has 65536 of 1048576 )"
            R"(bytes"}})"
            "\r\n");
}

TEST_F(NativeCommandsTest, NewerWaitSupersedesTheOlderOne) {
  QmpSession& other = controlled_.connect_ready();
  set_target(R"("balloon-bytes": 1048576, "wait": true)");

  say(other, R"({"execute": "vballoon-set-target",
                 "arguments": {"balloon-bytes": 1048576, "wait": true}})");

  EXPECT_THAT(answer(client_), HasSubstr(R"("class":"Superseded")"));
  controlled_.say_actual(256);
  EXPECT_THAT(answer(other), HasSubstr(R"({"return")"));
}

TEST_F(NativeCommandsTest, OtherTargetSupersedesAWait) {
  QmpSession& other = controlled_.connect_ready();
  set_target(R"("balloon-bytes": 1048576, "wait": true)");

  say(other, R"({"execute": "balloon", "arguments": {"value": 4194304}})");

  EXPECT_THAT(answer(client_), HasSubstr(R"("class":"Superseded")"));
}

TEST_F(NativeCommandsTest, TargetThatIsRefusedSupersedesNothing) {
  QmpSession& other = controlled_.connect_ready();
  set_target(R"("balloon-bytes": 1048576, "wait": true)");

  say(other, R"({"execute": "vballoon-set-target",
                 "arguments": {"balloon-bytes": 1, "wait": true}})");

  EXPECT_TRUE(client_.waiting());
}

TEST_F(NativeCommandsTest, WaitEndsWithItsGuest) {
  set_target(R"("balloon-bytes": 1048576, "wait": true)");

  controlled_.rig().reset();

  EXPECT_THAT(answer(client_), HasSubstr(R"("class":"DeviceNotActive")"));
}

TEST_F(NativeCommandsTest, ClientThatGoesWhileItWaitsLeavesTheTargetToTheOthers) {
  QmpSession& other = controlled_.connect_ready();
  set_target(R"("balloon-bytes": 1048576, "wait": true)");
  controlled_.disconnect(client_);

  controlled_.say_actual(256);

  EXPECT_THAT(say(other, R"({"execute": "vballoon-query"})"),
              HasSubstr(R"("target-balloon-bytes":1048576,"actual-balloon-bytes":1048576)"));
}

TEST_F(NativeCommandsTest, OtherClientsAreServedWhileOneWaits) {
  QmpSession& other = controlled_.connect_ready();
  set_target(R"("balloon-bytes": 1048576, "wait": true)");

  EXPECT_THAT(say(other, R"({"execute": "query-balloon"})"), HasSubstr(R"("actual":8388608)"));
}

// ---- vballoon-stats ------------------------------------------------------------------------

TEST_F(NativeCommandsTest, StatisticsThatAreNotKnownAreLeftOut) {
  controlled_.send_stats({{4, 844943360}, {2, 235}});
  controlled_.device().set_stats_interval(2s);
  controlled_.now += 812ms;

  EXPECT_EQ(say(R"({"execute": "vballoon-stats"})"),
            R"({"return": {"age-ms":812,"polling-interval-s":2,)"
            R"("stats":{"major-faults":235,"free-memory-bytes":844943360}}})"
            "\r\n");
}

TEST_F(NativeCommandsTest, StatisticsThatNeverCameHaveNoAge) {
  EXPECT_EQ(say(R"({"execute": "vballoon-stats"})"),
            "{\"return\": {\"polling-interval-s\":0,\"stats\":{}}}\r\n");
}

TEST_F(NativeCommandsTest, StatisticsWithoutADriverAreRefused) {
  controlled_.rig().reset();

  EXPECT_EQ(say(R"({"execute": "vballoon-stats"})"), kNoDriver);
}

// ---- hinting -------------------------------------------------------------------------------

TEST_F(NativeCommandsTest, RoundIsFollowedFromItsStartToItsEnd) {
  EXPECT_EQ(say(R"({"execute": "vballoon-hinting-start",
                    "arguments": {"acknowledge-on-stop": false}})"),
            "{\"return\": {\"host-cmd\":2}}\r\n");
  const auto status = [this] { return say(R"({"execute": "vballoon-hinting-status"})"); };
  EXPECT_EQ(status(),
            R"({"return": {"state":"requested","host-cmd":2,"guest-cmd":null,"hinted-bytes":0}})"
            "\r\n");

  Rig& rig = controlled_.rig();
  rig.send(testing::kHintQueue, {{vballoon::testing::le32({2})}});
  rig.send(testing::kHintQueue, {{}, {GuestBuffer{0, 3 * kPageSize}}});
  rig.serve(testing::kHintQueue);
  EXPECT_EQ(status(),
            R"({"return": {"state":"active","host-cmd":2,"guest-cmd":2,"hinted-bytes":12288}})"
            "\r\n");

  rig.send(testing::kHintQueue, {{vballoon::testing::le32({0})}});
  rig.serve(testing::kHintQueue);
  EXPECT_EQ(status(),
            R"({"return": {"state":"exhausted","host-cmd":2,"guest-cmd":0,"hinted-bytes":12288}})"
            "\r\n");

  EXPECT_EQ(say(R"({"execute": "vballoon-hinting-stop"})"), "{\"return\": {}}\r\n");
  EXPECT_EQ(status(),
            R"({"return": {"state":"done","host-cmd":1,"guest-cmd":0,"hinted-bytes":12288}})"
            "\r\n");
}

TEST_F(NativeCommandsTest, EndOfARoundIsAcknowledgedUnlessOtherwiseAsked) {
  say(R"({"execute": "vballoon-hinting-start"})");
  Rig& rig = controlled_.rig();
  rig.send(testing::kHintQueue, {{vballoon::testing::le32({2})}});
  rig.send(testing::kHintQueue, {{vballoon::testing::le32({0})}});
  rig.serve(testing::kHintQueue);

  controlled_.settle();

  EXPECT_EQ(controlled_.device().hint_status().state, HintState::kDone);
}

TEST_F(NativeCommandsTest, HintingWithoutADriverIsRefused) {
  controlled_.rig().reset();

  EXPECT_EQ(say(R"({"execute": "vballoon-hinting-start"})"), kNoDriver);
  EXPECT_EQ(say(R"({"execute": "vballoon-hinting-stop"})"), kNoDriver);
}

// ---- vballoon-metrics ----------------------------------------------------------------------

TEST_F(NativeCommandsTest, MetricsAreATextForPrometheus) {
  const auto answer =
      json::parse(say(R"({"execute": "vballoon-metrics", "arguments": {"format": "prometheus"}})"));

  EXPECT_THAT(answer["return"]["text"].get<std::string>(),
              HasSubstr("# TYPE vballoon_ram_bytes gauge\nvballoon_ram_bytes 8388608\n"));
}

TEST_F(NativeCommandsTest, MetricsInAnotherFormatAreRefused) {
  EXPECT_THAT(say(R"({"execute": "vballoon-metrics", "arguments": {"format": "xml"}})"),
              HasSubstr("Parameter 'format' does not accept value 'xml'"));
}

class PlainDeviceCommandsTest : public NativeCommandsTest {
 protected:
  PlainDeviceCommandsTest() : NativeCommandsTest(BalloonOptions{}) {}
};

TEST_F(PlainDeviceCommandsTest, StatisticsThatWereNotNegotiatedAreRefused) {
  EXPECT_THAT(say(R"({"execute": "vballoon-stats"})"),
              HasSubstr(R"("class":"FeatureNotNegotiated")"));
}

TEST_F(PlainDeviceCommandsTest, HintsThatWereNotNegotiatedAreRefused) {
  EXPECT_THAT(say(R"({"execute": "vballoon-hinting-start"})"),
              HasSubstr(R"("class":"FeatureNotNegotiated")"));
}

}  // namespace
}  // namespace vballoon::tool
