// SPDX-License-Identifier: MIT
// `vballoon migrate` as its user runs it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "command_process.h"
#include "stacked_bars.h"

namespace vballoon::tool {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::RefusesWith;
using testing::run_command;

TEST(MigrateCliTest, HelpOfMigrateNamesEveryOption) {
  const auto finished = run_command({"migrate", "--help"});

  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_THAT(
      finished.out,
      AllOf(HasSubstr("--guest-memory SIZE "), HasSubstr("--free SIZE "),
            HasSubstr("--helps plain,hints,control-queue,request-queue,ledger,drop-cache"),
            HasSubstr("--bandwidth SIZE "), HasSubstr("--write-rate SIZE "), HasSubstr("--seed N "),
            HasSubstr("--json "), HasSubstr("--plot FILE "), HasSubstr("--quiet ")));
}

TEST(MigrateCliTest, UnknownHelpIsUsage) {
  EXPECT_THAT(run_command({"migrate", "--helps", "plain,luck"}),
              RefusesWith("error: --helps: 'luck' is none of plain, hints, control-queue"));
}

TEST(MigrateCliTest, GuestThatDoesNotFitTwiceIsUsageAndIsToldWhatIsAvailable) {
  EXPECT_THAT(run_command({"migrate", "--guest-memory", "4TiB"}),
              AllOf(RefusesWith("error: --guest-memory 4 TiB: both sides need 8.25 TiB; this"),
                    RefusesWith(" available\n")));
}

TEST(MigrateCliTest, OptionsReachTheMigration) {
  const auto finished = run_command({"migrate", "--json", "--quiet", "--guest-memory", "32MiB",
                                     "--free", "16MiB", "--helps", "ledger", "--bandwidth", "1GiB",
                                     "--write-rate", "10MiB", "--seed", "42"});

  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(finished.err, "");
  const auto document = nlohmann::json::parse(finished.out);
  EXPECT_EQ(document["options"], nlohmann::json::parse(R"({
      "guest_memory_bytes": 33554432, "free_bytes": 16777216,
      "bandwidth_bytes_per_second": 1073741824, "write_rate_bytes_per_second": 10485760,
      "seed": 42, "faithful": false})"));
  EXPECT_EQ(document["results"].size(), 1u);
  EXPECT_EQ(document["results"][0]["name"], "ledger");
}

TEST(MigrateCliTest, MigrationIsDrawn) {
  if (!check_plot("a.svg")) GTEST_SKIP() << "needs gnuplot";
  const std::string file = ::testing::TempDir() + "vballoon-migrate.svg";

  const auto finished = run_command(
      {"migrate", "--quiet", "--guest-memory", "32MiB", "--helps", "plain", "--plot", file});

  EXPECT_EQ(finished.exit_code, 0);
  std::ifstream picture(file);
  const std::string text{std::istreambuf_iterator<char>(picture), {}};
  EXPECT_THAT(text, AllOf(HasSubstr("<svg"), HasSubstr("round 1"), HasSubstr("plain")));
  std::filesystem::remove(file);
}

// The other process has stdout too: the pipe has no writer left only when it is gone.
TEST(MigrateCliTest, InterruptEndsBothProcessesOfAMigration) {
  std::array<int, 2> out{};
  ASSERT_EQ(::pipe2(out.data(), O_CLOEXEC), 0);
  const testing::Capture err;
  testing::CommandProcess process(
      {"migrate", "--guest-memory", "256MiB", "--bandwidth", "1MiB", "--helps", "plain"}, out[1],
      err.fd());
  ::close(out[1]);

  process.interrupt();

  EXPECT_EQ(process.wait(), 130);
  EXPECT_EQ(err.text(), "interrupted\n");
  char byte = 0;
  ::fcntl(out[0], F_SETFL, O_NONBLOCK);
  EXPECT_EQ(::read(out[0], &byte, 1), 0) << "nobody has it open";
  ::close(out[0]);
}

}  // namespace
}  // namespace vballoon::tool
