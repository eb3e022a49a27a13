// SPDX-License-Identifier: MIT
// Migrations of small guests that write all the while, to a process of their own.
#include "migrate_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tools/migrations.h"

namespace vballoon::tool {
namespace {

using ::testing::HasSubstr;
using testing::small_migration;

const Tick kGoOn = [](double) { return true; };

MigrateRun run(const MigrateOptions& options) {
  const MigratePlan plan{*options.guest_memory, *options.free, {}};
  return run_migration(options, plan, options.helps.front(), kGoOn).value().value();
}

std::function<void(const RoundView&)> kills_destination_in_round(unsigned number) {
  return [number](const RoundView& round) {
    if (round.number == number) ::kill(round.destination, SIGKILL);
  };
}

std::uint64_t all_pages(const MigrateOptions& options) {
  return *options.guest_memory >> kPageShift;
}

auto every_help() {
  std::vector<std::string> names;
  for (const Help& help : kHelps) names.emplace_back(help.name);
  return ::testing::ValuesIn(names);
}

// The name of a help without what a name of a test cannot have.
std::string word_of(std::string name) {
  std::erase(name, '-');
  return name;
}

// ---- every help, by each kind of tracking -------------------------------------------------------

class MigrateHelpTest
    : public ::testing::TestWithParam<std::tuple<std::string, std::string, std::uint64_t>> {
 protected:
  MigrateHelpTest() : options_(small_migration(std::get<0>(GetParam()))) {
    options_.seed = std::get<2>(GetParam());
    if (std::get<1>(GetParam()) == "protection") options_.make_tracker = make_protection_tracker;
  }
  MigrateOptions options_;
};

INSTANTIATE_TEST_SUITE_P(HelpsTrackersSeeds, MigrateHelpTest,
                         ::testing::Combine(every_help(), ::testing::Values("kernel", "protection"),
                                            ::testing::Values(1, 2, 3)),
                         [](const auto& test) {
                           return word_of(std::get<0>(test.param)) + "_" + std::get<1>(test.param) +
                                  "_" + std::to_string(std::get<2>(test.param));
                         });

TEST_P(MigrateHelpTest, BothSidesAreEqualAtTheEnd) { EXPECT_EQ(run(options_).failure, ""); }

TEST_P(MigrateHelpTest, BothSidesAreEqualWhenTheGuestWritesAsFastAsItCan) {
  options_.write_rate = kGiB;

  EXPECT_EQ(run(options_).failure, "");
}

// ---- what is sent
// --------------------------------------------------------------------------------

TEST(MigrateRunTest, PlainSendsEveryPageInRoundOne) {
  const MigrateOptions options = small_migration();

  const MigrateRun done = run(options);

  EXPECT_EQ(done.rounds.front().pages, all_pages(options));
  EXPECT_GT(done.rounds.front().bytes, *options.guest_memory);
  EXPECT_EQ(done.skipped_pages, 0u);
}

TEST(MigrateRunTest, QuietGuestIsDoneInTheSecondRound) {
  MigrateOptions options = small_migration();
  options.write_rate = 0;

  const MigrateRun done = run(options);

  ASSERT_EQ(done.rounds.size(), 2u);
  EXPECT_LT(done.rounds.back().pages, 64u) << "but for what the driver does";
}

class FreePagesTest : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Helps, FreePagesTest,
                         ::testing::Values("hints", "control-queue", "request-queue", "ledger",
                                           "drop-cache"),
                         [](const auto& test) { return word_of(test.param); });

TEST_P(FreePagesTest, FreePagesAreNotSentInRoundOne) {
  const MigrateOptions options = small_migration(GetParam());

  const MigrateRun done = run(options);

  EXPECT_EQ(done.failure, "");
  EXPECT_LT(done.rounds.front().pages, all_pages(options) * 3 / 4);
  EXPECT_GT(done.skipped_pages, 0u);
}

// Of 12 MiB that are in use the page cache has 6, an eighth of them dirty.
TEST(MigrateRunTest, CleanPageCacheThatWasDroppedIsNotSent) {
  MigrateOptions options = small_migration("request-queue");
  options.write_rate = 0;
  const MigrateRun kept = run(options);
  options.helps = {testing::help_named("drop-cache")};

  const MigrateRun dropped = run(options);

  EXPECT_EQ(dropped.failure, "");
  EXPECT_LT(dropped.rounds.front().pages + 4 * kMiB / kPageSize, kept.rounds.front().pages);
}

TEST(MigrateRunTest, SlowLinkIsNotSentMoreThanItTakes) {
  MigrateOptions options = small_migration("hints");
  options.bandwidth = 200 * kMiB;

  const MigrateRun done = run(options);

  EXPECT_EQ(done.failure, "");
  EXPECT_LE(static_cast<double>(done.rounds.front().bytes) / done.rounds.front().ms * 1000,
            static_cast<double>(*options.bandwidth) * 1.2);
}

TEST(MigrateRunTest, ReportSaysHowWritesWereTracked) {
  MigrateOptions options = small_migration();
  options.make_tracker = make_protection_tracker;

  EXPECT_EQ(run(options).tracking, "page protection, in pieces of 4 KiB");
}

// ---- a balloon that moves meanwhile
// --------------------------------------------------------------

class MovingBalloonTest : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Helps, MovingBalloonTest, every_help(),
                         [](const auto& test) { return word_of(test.param); });

TEST_P(MovingBalloonTest, PagesThatLeaveItAreFoundWhenTheyAreWritten) {
  MigrateOptions options = small_migration(GetParam());
  options.before_round = [](const RoundView& round) {
    const std::uint64_t pages = round.machine.device().ballooned_pages();
    EXPECT_TRUE(round.machine.device().set_target_pages(pages / 2));
  };
  options.bandwidth = 400 * kMiB;

  EXPECT_EQ(run(options).failure, "");
}

TEST_P(MovingBalloonTest, PagesThatEnterItAreEqualOnBothSidesOrNobodys) {
  MigrateOptions options = small_migration(GetParam());
  options.before_round = [](const RoundView& round) {
    const std::uint64_t pages = round.machine.device().ballooned_pages();
    EXPECT_TRUE(round.machine.device().set_target_pages(pages + 500));
  };
  options.bandwidth = 400 * kMiB;

  EXPECT_EQ(run(options).failure, "");
}

// ---- what is broken is seen
// ----------------------------------------------------------------------

// One that this guest, in which nothing happens, has used since it booted.
TEST(BrokenMigrationTest, LinkThatLosesAPageIsNoticed) {
  MigrateOptions options = small_migration();
  options.write_rate = 0;
  options.before_round = [](const RoundView& round) { round.to_send.remove(PageRange{5120, 1}); };

  EXPECT_EQ(run(options).failure,
            "pages of the guest that differ at the destination: 1, the first is 0x100400");
}

class ForgetfulTracker final : public WriteTracker {
 public:
  explicit ForgetfulTracker(std::unique_ptr<WriteTracker> tracker) : tracker_(std::move(tracker)) {}

  Result<void> harvest(PageSet& written) override {
    PageSet found(written.size());
    auto harvested = tracker_->harvest(found);
    for (Pfn page = 0; page < found.size(); ++page) {
      if (found.contains(page) && forgotten_++ % 2 == 0) written.add(page);
    }
    return harvested;
  }
  std::string name() const override { return "every other page"; }

 private:
  const std::unique_ptr<WriteTracker> tracker_;
  std::uint64_t forgotten_ = 0;
};

TEST(BrokenMigrationTest, TrackerThatForgetsPagesIsNoticed) {
  MigrateOptions options = small_migration();
  options.make_tracker =
      [](std::shared_ptr<const GuestMemory> memory) -> Result<std::unique_ptr<WriteTracker>> {
    return std::make_unique<ForgetfulTracker>(make_write_tracker(std::move(memory)).value());
  };

  EXPECT_THAT(run(options).failure,
              HasSubstr("pages of the guest that differ at the destination: "));
}

TEST(BrokenMigrationTest, LastRoundThatIsNotSentIsNoticed) {
  MigrateOptions options = small_migration();
  options.before_round = [](const RoundView& round) {
    round.to_send.remove(PageRange{0, round.number == 1 ? 0 : round.to_send.size()});
  };

  EXPECT_THAT(run(options).failure,
              HasSubstr("pages of the guest that differ at the destination: "));
}

TEST(BrokenMigrationTest, DestinationThatDiesBeforeTheFirstRoundIsAFailure) {
  MigrateOptions options = small_migration();
  options.before_round = kills_destination_in_round(1);

  EXPECT_THAT(run(options).failure, HasSubstr("the destination is gone: "));
}

TEST(BrokenMigrationTest, DestinationThatDiesBeforeTheLastRoundIsAFailure) {
  MigrateOptions options = small_migration("hints");
  options.before_round = kills_destination_in_round(2);

  EXPECT_THAT(run(options).failure, HasSubstr("the destination is gone: "));
}

TEST(BrokenMigrationTest, CommandFailsWhenARowIsNotVerified) {
  MigrateOptions options = small_migration();
  options.before_round = kills_destination_in_round(1);

  const auto outcome = testing::run(options);

  EXPECT_EQ(outcome.exit_code, kExitFailed);
  EXPECT_EQ(outcome.document()["results"][0]["verified"], false);
  EXPECT_THAT(outcome.document()["results"][0]["failure"].get<std::string>(),
              HasSubstr("the destination is gone"));
}

// ---- stopping
// ------------------------------------------------------------------------------------

// How far a run gets.
class MigrateStopTest : public ::testing::TestWithParam<double> {};

INSTANTIATE_TEST_SUITE_P(WhileItBootsAndSends, MigrateStopTest, ::testing::Values(0.1, 0.5, 0.95));

TEST_P(MigrateStopTest, RunThatIsStoppedGivesNothing) {
  const MigrateOptions options = small_migration();
  const MigratePlan plan{*options.guest_memory, *options.free, {}};

  const auto stopped = run_migration(options, plan, options.helps.front(),
                                     [](double done) { return done < GetParam(); });

  ASSERT_TRUE(stopped);
  EXPECT_FALSE(stopped->has_value());
}

TEST(MigrateRunTest, NoProcessIsLeftBehind) {
  MigrateOptions options = small_migration();
  pid_t destination = -1;
  options.before_round = [&](const RoundView& round) { destination = round.destination; };

  run(options);

  EXPECT_EQ(::kill(destination, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

}  // namespace
}  // namespace vballoon::tool
