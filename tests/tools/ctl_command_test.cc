// SPDX-License-Identifier: MIT
// `vballoon ctl` against a served device, and against servers that are dead, busy or lying.
#include "ctl_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "outcome.h"
#include "outcomes.h"
#include "served_device.h"

namespace vballoon::tool {
namespace {

using ::testing::AllOf;
using testing::GuestHabit;
using ::testing::HasSubstr;
using testing::ScriptedServer;
using testing::ServedDevice;
using namespace std::chrono_literals;

constexpr std::uint64_t kMiB = 1024 * 1024;
const std::string kGreeting = R"({"QMP": {"version": {}, "capabilities": []}})"
                              "\r\n";
const std::string kDone = "{\"return\": {}}\r\n";

struct Spoken {
  int exit_code;
  std::string out;
  std::string err;
};

Spoken ctl(const std::string& path, CtlOptions options = {}) {
  options.control = path;
  ::testing::internal::CaptureStderr();
  auto outcome = testing::outcome_of([&](std::FILE* out) { return run_ctl(options, out); });
  return {outcome.exit_code, outcome.out, ::testing::internal::GetCapturedStderr()};
}

MATCHER_P2(FailsWith, exit_code, text, "") {
  *result_listener << "exit code " << arg.exit_code << ", stdout: " << arg.out
                   << ", stderr: " << arg.err;
  return arg.exit_code == exit_code && arg.out.empty() && arg.err.find("error: ") == 0 &&
         arg.err.find(text) != std::string::npos;
}
MATCHER_P(Prints, text, "") {
  *result_listener << "exit code " << arg.exit_code << ", stdout: " << arg.out
                   << ", stderr: " << arg.err;
  return arg.exit_code == 0 && arg.out == text && arg.err.empty();
}

// ---- what it says ----------------------------------------------------------------------------

TEST(CtlTest, StatusIsATable) {
  ServedDevice served;
  ASSERT_TRUE(served.rig().device().set_target_bytes(2 * kMiB));

  const auto status = ctl(served.path());

  EXPECT_EQ(status.exit_code, 0);
  EXPECT_THAT(status.out, HasSubstr("state           ready\n"
                                    "guest memory    8 MiB\n"
                                    "target balloon  2 MiB, leaves 6 MiB to the guest\n"
                                    "actual balloon  2 MiB, leaves 6 MiB to the guest\n"
                                    "mode            pfn\n"
                                    "features        must-tell-host stats-vq free-page-hint "));
}

TEST(CtlTest, StatusForProgramsIsWhatTheServerSays) {
  ServedDevice served;

  const auto status = ctl(served.path(), {.json = true});

  const auto document = nlohmann::json::parse(status.out);
  EXPECT_EQ(document["state"], "ready");
  EXPECT_EQ(document["ram-bytes"], 8 * kMiB);
}

TEST(CtlTest, BalloonIsSetByItsSize) {
  ServedDevice served;

  EXPECT_THAT(ctl(served.path(), {.verb = CtlVerb::kSet, .balloon_bytes = kMiB}),
              Prints("actual balloon  1 MiB\n"));

  EXPECT_EQ(served.rig().device().target_pages(), 256u);
}

TEST(CtlTest, BalloonIsSetByWhatItLeaves) {
  ServedDevice served;

  EXPECT_THAT(ctl(served.path(), {.verb = CtlVerb::kSet, .guest_memory_bytes = kMiB}),
              Prints("actual balloon  7 MiB\n"));
}

TEST(CtlTest, MoreThanTheGuestHasCannotBeLeft) {
  ServedDevice served;

  EXPECT_THAT(ctl(served.path(), {.verb = CtlVerb::kSet, .guest_memory_bytes = 9 * kMiB}),
              FailsWith(kExitFailed, "the guest has 8388608 bytes and no more"));
}

TEST(CtlTest, TargetBeyondGuestMemoryFailsWithTheClassOfTheError) {
  ServedDevice served;

  EXPECT_THAT(ctl(served.path(), {.verb = CtlVerb::kSet, .balloon_bytes = 9 * kMiB}),
              FailsWith(kExitFailed, "InvalidTarget: target larger than guest memory"));
}

TEST(CtlTest, WaitEndsWhenTheGuestHasGotThere) {
  ServedDevice served;

  EXPECT_THAT(ctl(served.path(),
                  {.verb = CtlVerb::kSet, .json = true, .balloon_bytes = kMiB, .wait = true}),
              Prints("{\n  \"actual-balloon-bytes\": 1048576\n}\n"));
}

TEST(CtlTest, GuestThatDoesNotGetThereInTimeIsAnExitCodeOfItsOwn) {
  ServedDevice served(GuestHabit::kDoesNothing);

  EXPECT_THAT(
      ctl(served.path(),
          {.verb = CtlVerb::kSet, .balloon_bytes = kMiB, .wait = true, .timeout = 1ms}),
      FailsWith(kExitTargetNotReached, "TargetNotReached: The balloon has 0 of 1048576 bytes"));
}

TEST(CtlTest, BalloonOfQemuIsWhatIsLeft) {
  ServedDevice served;

  EXPECT_THAT(ctl(served.path(), {.verb = CtlVerb::kBalloon, .guest_memory_bytes = 6 * kMiB}),
              Prints(""));
  EXPECT_THAT(ctl(served.path(), {.verb = CtlVerb::kQueryBalloon}),
              Prints("guest memory left  6 MiB\n"));
}

TEST(CtlTest, StatisticsAreLinesWithUnits) {
  ServedDevice served;

  const auto stats = ctl(served.path(), {.verb = CtlVerb::kStats});

  EXPECT_EQ(stats.exit_code, 0);
  EXPECT_THAT(stats.out, AllOf(HasSubstr("major-faults  235\nfree-memory   805.8 MiB\nage    "),
                               HasSubstr(" ms\nasked for     no ")));
}

TEST(CtlTest, PeriodIsSet) {
  ServedDevice served;

  EXPECT_THAT(ctl(served.path(), {.verb = CtlVerb::kPeriod, .period = 7s}), Prints(""));

  EXPECT_EQ(served.rig().device().stats_interval(), 7s);
}

TEST(CtlTest, HintingIsStartedLookedAtAndStopped) {
  ServedDevice served;

  EXPECT_THAT(ctl(served.path(), {.verb = CtlVerb::kHintingStart}), Prints(""));
  EXPECT_THAT(ctl(served.path(), {.verb = CtlVerb::kHintingStatus}),
              Prints("state          requested\n"
                     "host command   2\n"
                     "guest command  none yet\n"
                     "hinted         0 bytes\n"));
  EXPECT_THAT(ctl(served.path(), {.verb = CtlVerb::kHintingStop}), Prints(""));

  EXPECT_EQ(served.rig().device().hint_status().state, HintState::kDone);
}

TEST(CtlTest, MetricsAreTheText) {
  ServedDevice served;

  EXPECT_THAT(ctl(served.path(), {.verb = CtlVerb::kMetrics}).out,
              HasSubstr("\nvballoon_ram_bytes 8388608\n"));
}

TEST(CtlTest, RequestIsSentAsItIs) {
  ServedDevice served;

  EXPECT_THAT(ctl(served.path(),
                  {.verb = CtlVerb::kQmp, .request = R"({"execute": "query-balloon", "id": [1]})"}),
              Prints("{\"return\":{\"actual\":8388608},\"id\":[1]}\n"));
}

TEST(CtlTest, RequestThatFailsPrintsTheAnswerAndFails) {
  ServedDevice served;

  const auto answer = ctl(served.path(), {.verb = CtlVerb::kQmp, .request = R"({"execute": "x"})"});

  EXPECT_EQ(answer.exit_code, kExitFailed);
  EXPECT_THAT(answer.out, HasSubstr("CommandNotFound"));
  EXPECT_EQ(answer.err, "");
}

TEST(CtlTest, RequestThatWaitsIsWaitedFor) {
  ServedDevice served(GuestHabit::kDoesNothing);

  const auto answer =
      ctl(served.path(), {.verb = CtlVerb::kQmp,
                          .request = R"({"execute": "vballoon-set-target", "arguments":
                      {"balloon-bytes": 4096, "wait": true, "timeout-ms": 50}})",
                          .reply_timeout = 20ms});

  EXPECT_EQ(answer.exit_code, kExitFailed);
  EXPECT_THAT(answer.out, HasSubstr("TargetNotReached"));
}

TEST(CtlTest, EventIsALineOfTimeNameAndData) {
  ScriptedServer server(
      {kGreeting, kDone + R"({"event": "BALLOON_CHANGE", "data": {"actual": 1048576}, )"
                          R"("timestamp": {"seconds": 86399, "microseconds": 0}})"
                          "\r\n"});

  const auto events = ctl(server.path(), {.verb = CtlVerb::kEvents});

  EXPECT_EQ(events.exit_code, kExitUnreachable);
  EXPECT_THAT(events.out, ::testing::MatchesRegex("[0-9:]+ BALLOON_CHANGE  actual: 1 MiB\n"));
  EXPECT_EQ(events.err, "error: the server has closed the connection\n");
}

TEST(CtlTest, EventForProgramsIsALineOfJson) {
  const std::string event = R"({"event":"E","timestamp":{"seconds":1,"microseconds":2}})";
  ScriptedServer server({kGreeting, kDone + event + "\r\n"});

  EXPECT_EQ(ctl(server.path(), {.verb = CtlVerb::kEvents, .json = true}).out, event + "\n");
}

TEST(CtlTest, EventsBetweenARequestAndItsAnswerAreLeftOut) {
  ScriptedServer server({kGreeting,
                         R"({"event":"E"})"
                         "\r\n" +
                             kDone,
                         R"({"event":"E"})"
                         "\r\n{\"return\": {\"actual\": 4096}}\r\n"});

  EXPECT_THAT(ctl(server.path(), {.verb = CtlVerb::kQueryBalloon}),
              Prints("guest memory left  4 KiB\n"));
}

// ---- dead servers ----------------------------------------------------------------------------

TEST(CtlDeadServerTest, PathThatIsNotThereIsUnreachable) {
  EXPECT_THAT(
      ctl("/nowhere/control"),
      FailsWith(kExitUnreachable, "cannot connect to /nowhere/control: No such file or directory"));
}

TEST(CtlDeadServerTest, SocketThatNobodyListensToIsUnreachable) {
  const testing::SocketFolder folder;
  testing::SocketFolder::leave_dead_socket(folder.path("dead"));

  EXPECT_THAT(ctl(folder.path("dead")), FailsWith(kExitUnreachable, "Connection refused"));
}

TEST(CtlDeadServerTest, ServerThatHangsUpAtOnceIsUnreachable) {
  ScriptedServer server({""});

  EXPECT_THAT(ctl(server.path()),
              FailsWith(kExitUnreachable, "the server has closed the connection"));
}

TEST(CtlDeadServerTest, ServerThatHangsUpInTheMiddleOfAnAnswerIsUnreachable) {
  ScriptedServer server({kGreeting, kDone, "{\"return\": {\"act"});

  EXPECT_THAT(ctl(server.path(), {.verb = CtlVerb::kQueryBalloon}),
              FailsWith(kExitUnreachable, "the server has closed the connection"));
}

// ---- busy servers ----------------------------------------------------------------------------

TEST(CtlBusyServerTest, ServerThatDoesNotGreetIsUnreachable) {
  ScriptedServer server({}, ScriptedServer::Ending::kSilence);

  EXPECT_THAT(ctl(server.path(), {.reply_timeout = 20ms}),
              FailsWith(kExitUnreachable, "the server does not answer within 20 ms"));
}

TEST(CtlBusyServerTest, ServerThatDoesNotAnswerIsUnreachable) {
  ScriptedServer server({kGreeting, kDone}, ScriptedServer::Ending::kSilence);

  EXPECT_THAT(ctl(server.path(), {.reply_timeout = 20ms}),
              FailsWith(kExitUnreachable, "the server does not answer within 20 ms"));
}

TEST(CtlBusyServerTest, ServerThatDoesNotAnswerARawRequestIsUnreachable) {
  ScriptedServer server({kGreeting, kDone}, ScriptedServer::Ending::kSilence);

  EXPECT_THAT(
      ctl(server.path(),
          {.verb = CtlVerb::kQmp, .request = R"({"execute": "stop"})", .reply_timeout = 20ms}),
      FailsWith(kExitUnreachable, "the server does not answer within 20 ms"));
}

TEST(CtlBusyServerTest, WaitThatTheServerDoesNotEndIsUnreachable) {
  ScriptedServer server({kGreeting, kDone}, ScriptedServer::Ending::kSilence);

  EXPECT_THAT(ctl(server.path(), {.verb = CtlVerb::kSet,
                                  .balloon_bytes = 4096,
                                  .wait = true,
                                  .timeout = 10ms,
                                  .reply_timeout = 20ms}),
              FailsWith(kExitUnreachable, "the server does not answer within 20 ms"));
}

TEST(CtlBusyServerTest, ServerThatHasTooManyClientsSaysSo) {
  ScriptedServer server({"{\"error\": {\"class\": \"GenericError\", \"desc\": \"Too many\"}}\r\n"});

  EXPECT_THAT(ctl(server.path()), FailsWith(kExitFailed, "GenericError: Too many"));
}

// ---- lying servers ---------------------------------------------------------------------------

struct Lie {
  const char* name;
  std::vector<std::string> lines;
  std::string error;
  CtlVerb verb = CtlVerb::kStatus;
};

class CtlLyingServerTest : public ::testing::TestWithParam<Lie> {};

TEST_P(CtlLyingServerTest, IsAFailureThatSaysWhatIsWrong) {
  ScriptedServer server(GetParam().lines, ScriptedServer::Ending::kSilence);

  EXPECT_THAT(ctl(server.path(), {.verb = GetParam().verb}),
              FailsWith(kExitFailed, GetParam().error));
}

constexpr const char* kWrongShape = "the server's answer is not as it should be";

INSTANTIATE_TEST_SUITE_P(
    All, CtlLyingServerTest,
    ::testing::Values(
        Lie{"NotJson", {"220 mail.example.com ESMTP\r\n"}, "this is no QMP server"},
        Lie{"NoObject", {"[]\n"}, "this is no QMP server"},
        Lie{"Binary", {std::string("\0\xFF\x01\n", 4)}, "this is no QMP server"},
        Lie{"NoGreeting", {"{\"hello\": 1}\n"}, "this is no QMP server: it does not greet"},
        Lie{"EndlessLine", {std::string(2 * kMiB, 'x')}, "the server's answer has no end"},
        Lie{"DeepNesting", {std::string(500'000, '[') + "\n"}, "this is no QMP server"},
        Lie{"AnswerOfAnotherProtocol",
            {kGreeting, "{\"jsonrpc\": \"2.0\"}\n"},
            "the server's answer is none of QMP's"},
        Lie{"CapabilitiesRefused",
            {kGreeting, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n"},
            "GenericError: no"},
        Lie{"ErrorWithoutAShape", {kGreeting, kDone, "{\"error\": 5}\n"}, "not as QMP has them"},
        Lie{"ControlCharactersInAnError",
            {kGreeting, kDone,
             R"({"error": {"class": "X", "desc": "\u001b[2J"}})"
             "\n"},
            "X: ?[2J"},
        Lie{"MissingFields", {kGreeting, kDone, kDone}, kWrongShape},
        Lie{"ReturnIsNoObject", {kGreeting, kDone, "{\"return\": [1]}\n"}, kWrongShape},
        Lie{"NumberIsNegative",
            {kGreeting, kDone, "{\"return\": {\"actual\": -4096}}\n"},
            kWrongShape,
            CtlVerb::kQueryBalloon},
        Lie{"NumberIsAString",
            {kGreeting, kDone, "{\"return\": {\"actual\": \"4096\"}}\n"},
            kWrongShape,
            CtlVerb::kQueryBalloon},
        Lie{"StatsAreNoObject",
            {kGreeting, kDone, "{\"return\": {\"polling-interval-s\": 1, \"stats\": 7}}\n"},
            kWrongShape,
            CtlVerb::kStats},
        Lie{"TextIsNoString",
            {kGreeting, kDone, "{\"return\": {\"text\": {}}}\n"},
            kWrongShape,
            CtlVerb::kMetrics},
        Lie{"EventWithoutATime",
            {kGreeting, kDone + "{\"event\": \"E\"}\n"},
            kWrongShape,
            CtlVerb::kEvents}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace vballoon::tool
