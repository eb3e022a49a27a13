// SPDX-License-Identifier: MIT
// The command as its user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "command_process.h"

namespace vballoon::tool {
namespace {

using ::testing::AllOf;
using testing::Finished;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::RefusesWith;
using testing::run_command;
using testing::run_on_terminal;
using ::testing::StartsWith;

// The smallest comparison: one row of 4 MiB.
Finished compare(const std::vector<std::string>& more) {
  std::vector<std::string> arguments{"compare",   "--guest-memory", "64MiB",
                                     "--inflate", "4MiB",           "--modes",
                                     "pfn",       "--host",         "per-page"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_command(arguments);
}

TEST(CliTest, HelpNamesTheSubcommandsAndExitCodes) {
  const auto finished = run_command({"--help"});

  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_THAT(finished.out, AllOf(HasSubstr("compare"), HasSubstr("info"),
                                  HasSubstr("0 done, 1 failed or not verified, 2 usage, 130")));
}

TEST(CliTest, HelpOfCompareNamesEveryOption) {
  const auto finished = run_command({"compare", "--help"});

  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_THAT(
      finished.out,
      AllOf(HasSubstr("--guest-memory SIZE "), HasSubstr("--inflate SIZE "),
            HasSubstr("--modes pfn,bitmap,chunk,single-header,range,page-chunks,cont\n"),
            HasSubstr("--host per-page|merged|vectored\n"),
            HasSubstr("--guest idle|fragmented|aged\n"), HasSubstr("--compaction off|on "),
            HasSubstr("--notify eventfd|direct "), HasSubstr("--backing anonymous|memfd|hugetlb\n"),
            HasSubstr("--thp off|on "), HasSubstr("--busy-vcpu "), HasSubstr("--queue-size N "),
            HasSubstr("--faithful "), HasSubstr("--repeat N "), HasSubstr("--seed N "),
            HasSubstr("--json "), HasSubstr("--plot FILE "), HasSubstr("--quiet ")));
}

TEST(CliTest, HelpOfThpNamesEveryOption) {
  const auto finished = run_command({"thp", "--help"});

  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_THAT(finished.out,
              AllOf(HasSubstr("[pfn,cont,chunk,bitmap]"), HasSubstr("--compaction off|on "),
                    HasSubstr("--policies split,keep-whole,heal,collapse\n"), HasSubstr("--json "),
                    HasSubstr("--quiet ")));
}

TEST(CliTest, CompactionThatIsNeitherOnNorOffIsUsage) {
  EXPECT_THAT(run_command({"thp", "--compaction", "maybe"}),
              RefusesWith("--compaction: 'maybe' is none of off, on"));
}

TEST(CliTest, VersionIsThatOfTheProject) {
  const auto finished = run_command({"--version"});

  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(finished.out, "vballoon " VBALLOON_VERSION "\n");
}

TEST(CliTest, NoSubcommandIsUsage) {
  EXPECT_THAT(run_command({}), RefusesWith("error: A subcommand is required\n"));
}

TEST(CliTest, UnknownSubcommandIsUsage) {
  EXPECT_THAT(run_command({"inflate"}), RefusesWith("inflate"));
}

TEST(CliTest, UnknownOptionIsUsage) {
  EXPECT_THAT(compare({"--json", "--fast"}), RefusesWith("--fast"));
}

TEST(CliTest, MissingValueIsUsage) {
  EXPECT_THAT(run_command({"compare", "--guest-memory"}),
              RefusesWith("error: --guest-memory: 1 required SIZE missing\n"));
}

TEST(CliTest, WordThatIsNoSizeIsUsage) {
  EXPECT_THAT(run_command({"compare", "--json", "--guest-memory", "lots"}),
              RefusesWith("error: --guest-memory: 'lots' is no size; write 512MiB or 7.5GiB"));
}

TEST(CliTest, UnknownModeIsUsage) {
  EXPECT_THAT(run_command({"compare", "--json", "--modes", "pfn,runs"}),
              RefusesWith("error: --modes: 'runs' is none of pfn, bitmap, chunk"));
}

TEST(CliTest, UnknownHostIsUsage) {
  EXPECT_THAT(run_command({"compare", "--host", "fast"}),
              RefusesWith("error: --host: 'fast' is none of per-page, merged, vectored"));
}

TEST(CliTest, NumberThatIsNoneIsUsage) {
  EXPECT_THAT(run_command({"compare", "--repeat", "0"}),
              RefusesWith("error: --repeat: '0' is no number from 1 to 1000"));
}

TEST(CliTest, QueueThatIsTooLongIsUsage) {
  EXPECT_THAT(run_command({"compare", "--queue-size", "2048"}),
              RefusesWith("error: --queue-size: '2048' is no number from 2 to 1024"));
}

TEST(CliTest, InflatingTooMuchNamesTheMaximum) {
  EXPECT_THAT(run_command({"compare", "--json", "--guest-memory", "64MiB", "--inflate", "64MiB"}),
              RefusesWith("the maximum is 65011712 bytes (62 MiB)"));
}

TEST(CliTest, PlotOfUnknownKindIsUsage) {
  EXPECT_THAT(compare({"--json", "--plot", "picture.pdf"}),
              RefusesWith("error: --plot picture.pdf: the file must end in .svg or .png"));
}

TEST(CliTest, ComparisonPrintsATableAndNothingOnStderr) {
  const auto finished = compare({});

  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_THAT(finished.out, StartsWith("idle guest of 64 MiB gives 4 MiB back\n"));
  EXPECT_EQ(finished.err, "");
}

TEST(CliTest, JsonIsTheOnlyThingOnStdout) {
  const auto finished = compare({"--json"});

  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(nlohmann::json::parse(finished.out)["schema"], "vballoon.compare/1");
}

TEST(CliTest, OptionsReachTheComparison) {
  const auto finished = compare({"--json",     "--guest",
                                 "fragmented", "--compaction",
                                 "off",        "--notify",
                                 "direct",     "--backing",
                                 "memfd",      "--thp",
                                 "off",        "--queue-size",
                                 "64",         "--pfn-order",
                                 "allocation", "--chunk-order-0",
                                 "--faithful", "--write-behind",
                                 "--repeat",   "2",
                                 "--seed",     "42"});

  EXPECT_EQ(nlohmann::json::parse(finished.out)["options"], nlohmann::json::parse(R"({
      "guest_memory_bytes": 67108864, "inflate_bytes": 4194304, "modes": ["pfn"],
      "host": "per-page", "guest": "fragmented", "compaction": false, "notify": "direct",
      "backing": "memfd", "thp": "off", "busy_vcpu": false, "queue_size": 64,
      "pfn_order": "allocation", "write_behind": true, "poll_us": 0, "chunk_order": 0,
      "faithful": true, "repeat": 2, "seed": 42})"));
}

TEST(CliTest, RingsAreWatchedForAsLongAsAsked) {
  const auto finished = compare({"--json", "--poll-us", "50"});

  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(nlohmann::json::parse(finished.out)["options"]["poll_us"], 50);
}

TEST(CliTest, RingsThatNobodyCouldWatchAreAUsageError) {
  const auto finished = compare({"--notify", "direct", "--poll-us", "50"});

  EXPECT_EQ(finished.exit_code, 2);
  EXPECT_THAT(finished.err, HasSubstr("--poll-us"));
}

TEST(CliTest, QuietIsSilentOnATerminal) {
  const auto finished = run_on_terminal(
      {"compare", "--guest-memory", "64MiB", "--modes", "pfn", "--quiet"}, {"TERM=xterm"});

  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(finished.err, "");
}

TEST(CliTest, ProgressIsDrawnInColourOnATerminalAndTakenAway) {
  const auto finished =
      run_on_terminal({"compare", "--guest-memory", "64MiB", "--modes", "pfn"}, {"TERM=xterm"});

  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_THAT(finished.err, AllOf(HasSubstr("\x1b[32m["), HasSubstr(" %  pfn/vectored"),
                                  ::testing::EndsWith("\r\x1b[K")));
}

TEST(CliTest, ProgressIsWithoutColourWhereNoneIsWanted) {
  const auto finished = run_on_terminal({"compare", "--guest-memory", "64MiB", "--modes", "pfn"},
                                        {"TERM=xterm", "NO_COLOR=1"});

  EXPECT_THAT(finished.err, AllOf(HasSubstr(" %  pfn/vectored"), Not(HasSubstr("\x1b[32m"))));
}

TEST(CliTest, InterruptEndsARunWith130) {
  const testing::Capture out;
  const testing::Capture err;
  testing::CommandProcess process(
      {"compare", "--json", "--guest-memory", "128MiB", "--repeat", "1000"}, out.fd(), err.fd());

  process.interrupt();

  EXPECT_EQ(process.wait(), 130);
  EXPECT_EQ(out.text(), "");
  EXPECT_EQ(err.text(), "interrupted\n");
}

TEST(CliTest, InfoSaysWhatTheMachineOffers) {
  const auto finished = run_command({"info"});

  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_THAT(finished.out,
              AllOf(HasSubstr("kernel "), HasSubstr("memory "), HasSubstr("pool of huge pages "),
                    HasSubstr("vectored discard "), HasSubstr("split huge pages heal "),
                    HasSubstr("scattered pages ")));
}

TEST(CliTest, InfoAsJsonIsOneDocument) {
  const auto finished = run_command({"info", "--json"});

  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(nlohmann::json::parse(finished.out)["schema"], "vballoon.info/1");
}

}  // namespace
}  // namespace vballoon::tool
