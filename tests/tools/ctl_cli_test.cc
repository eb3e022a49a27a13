// SPDX-License-Identifier: MIT
// `vballoon ctl` as its user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "command_process.h"
#include "served_device.h"

namespace vballoon::tool {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::RefusesWith;
using testing::run_command;
using testing::ServedDevice;

// What comes before a verb, on a socket that is not there.
testing::Finished ctl(const std::vector<std::string>& more) {
  std::vector<std::string> arguments{"ctl", "--control", "/nowhere/control"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_command(arguments);
}

TEST(CtlCliTest, HelpNamesEveryVerbAndTheExitCodes) {
  const auto finished = run_command({"ctl", "--help"});

  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_THAT(finished.out,
              AllOf(HasSubstr("\n  status "), HasSubstr("\n  set "), HasSubstr("\n  stats "),
                    HasSubstr("\n  period "), HasSubstr("\n  hinting "), HasSubstr("\n  events "),
                    HasSubstr("\n  metrics "), HasSubstr("\n  qmp "), HasSubstr("\n  balloon "),
                    HasSubstr("\n  query-balloon "), HasSubstr("--control PATH "),
                    HasSubstr("--json "), HasSubstr("3 nobody answers, 4 target not reached")));
}

TEST(CtlCliTest, NobodyAtTheSocketIsThree) {
  const auto finished = ctl({"status"});

  EXPECT_EQ(finished.exit_code, 3);
  EXPECT_EQ(finished.err, "error: cannot connect to /nowhere/control: No such file or directory\n");
}

TEST(CtlCliTest, NoSocketIsUsage) {
  EXPECT_THAT(run_command({"ctl", "status"}), RefusesWith("--control is required"));
}

TEST(CtlCliTest, NoVerbIsUsage) { EXPECT_THAT(ctl({}), RefusesWith("A verb of ctl is required")); }

TEST(CtlCliTest, SetWithoutASizeIsUsage) { EXPECT_THAT(ctl({"set"}), RefusesWith("error: ")); }

TEST(CtlCliTest, SetWithTwoSizesIsUsage) {
  EXPECT_THAT(ctl({"set", "--balloon", "1MiB", "--guest-memory", "1MiB"}), RefusesWith("error: "));
}

TEST(CtlCliTest, BareNumberWithoutANameIsUsage) {
  EXPECT_THAT(ctl({"set", "1048576"}), RefusesWith("error: "));
}

TEST(CtlCliTest, TimeoutWithoutAWaitIsUsage) {
  EXPECT_THAT(ctl({"set", "--balloon", "1MiB", "--timeout", "5s"}), RefusesWith("--wait"));
}

TEST(CtlCliTest, TimeWithoutAUnitIsUsage) {
  EXPECT_THAT(ctl({"set", "--balloon", "1MiB", "--wait", "--timeout", "5"}),
              RefusesWith("--timeout: '5' is no time; write 500ms, 2s or 1min"));
}

TEST(CtlCliTest, TimeoutBeyondADayIsUsage) {
  EXPECT_THAT(ctl({"set", "--balloon", "1MiB", "--wait", "--timeout", "1441min"}),
              RefusesWith("a day is the longest time"));
}

TEST(CtlCliTest, PeriodThatIsNoWholeSecondIsUsage) {
  EXPECT_THAT(ctl({"period", "1500ms"}),
              RefusesWith("'1500ms' is no number of seconds; write 2s or 0s"));
}

TEST(CtlCliTest, HintingWithoutAWordIsUsage) {
  EXPECT_THAT(ctl({"hinting"}), RefusesWith("error: "));
}

TEST(CtlCliTest, RequestThatIsNoObjectIsUsage) {
  EXPECT_THAT(ctl({"qmp", "query-balloon"}), RefusesWith("'query-balloon' is no JSON object"));
}

TEST(CtlCliTest, OptionsReachTheServerAlsoBehindTheVerb) {
  ServedDevice served;

  const auto finished = run_command({"ctl", "set", "--control", served.path(), "--guest-memory",
                                     "6MiB", "--wait", "--timeout", "1min", "--json"});

  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(nlohmann::json::parse(finished.out),
            nlohmann::json::parse(R"({"actual-balloon-bytes": 2097152})"));
}

TEST(CtlCliTest, EveryVerbReachesTheServer) {
  ServedDevice served;
  const auto run = [&served](std::vector<std::string> words) {
    std::vector<std::string> arguments{"ctl", "--control", served.path()};
    arguments.insert(arguments.end(), words.begin(), words.end());
    const auto finished = run_command(arguments);
    return std::to_string(finished.exit_code) + finished.err;
  };

  EXPECT_EQ(run({"status"}), "0");
  EXPECT_EQ(run({"stats"}), "0");
  EXPECT_EQ(run({"period", "2s"}), "0");
  EXPECT_EQ(run({"hinting", "start"}), "0");
  EXPECT_EQ(run({"hinting", "status"}), "0");
  EXPECT_EQ(run({"hinting", "stop"}), "0");
  EXPECT_EQ(run({"metrics"}), "0");
  EXPECT_EQ(run({"balloon", "6MiB"}), "0");
  EXPECT_EQ(run({"query-balloon"}), "0");
  EXPECT_EQ(run({"qmp", R"({"execute": "query-version"})"}), "0");
}

TEST(CtlCliTest, InterruptEndsEventsWith130) {
  ServedDevice served;
  const testing::Capture out;
  const testing::Capture err;
  testing::CommandProcess process({"ctl", "--control", served.path(), "events"}, out.fd(),
                                  err.fd());

  process.interrupt();

  EXPECT_EQ(process.wait(), 130);
  EXPECT_EQ(err.text(), "interrupted\n");
}

}  // namespace
}  // namespace vballoon::tool
