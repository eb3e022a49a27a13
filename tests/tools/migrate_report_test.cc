// SPDX-License-Identifier: MIT
// Migrations as a table, as a document and as a picture.
#include "migrate_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tools/migrations.h"

namespace vballoon::tool {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::made_up_migrations;
using ::testing::Not;
using ::testing::StartsWith;

Json document_of(const Migrations& migrations) { return Json::parse(json_of(migrations)); }

TEST(MigrateReportTest, RoundsBehindTheThirdAreOnePartAndTheLastIsTheLast) {
  EXPECT_THAT(bytes_by_part(made_up_migrations().rows[0].run),
              ElementsAre(1024 * kMiB, 100 * kMiB, 50 * kMiB, 25 * kMiB, 5 * kMiB));
}

TEST(MigrateReportTest, SecondOfTwoRoundsIsTheLast) {
  EXPECT_THAT(bytes_by_part(made_up_migrations().rows[1].run),
              ElementsAre(256 * kMiB, 0, 0, 0, 5 * kMiB));
}

TEST(MigrateReportTest, RunWithoutARoundSentNothing) {
  EXPECT_THAT(bytes_by_part({}), ElementsAre(0, 0, 0, 0, 0));
}

TEST(MigrateReportTest, RoundOneIsComparedWithThePlainOne) {
  const Migrations migrations = made_up_migrations();

  EXPECT_EQ(percent_of_plain(migrations, migrations.rows[1].run), 25);
}

TEST(MigrateReportTest, NothingIsComparedWithoutAPlainRun) {
  Migrations migrations = made_up_migrations();
  migrations.rows.erase(migrations.rows.begin());

  EXPECT_TRUE(std::isnan(percent_of_plain(migrations, migrations.rows[0].run)));
  EXPECT_TRUE(document_of(migrations)["results"][0]["round_1_percent_of_plain"].is_null());
}

TEST(MigrateReportTest, TableHasALineForEachHelp) {
  const std::string table = table_of(made_up_migrations());

  EXPECT_THAT(table, StartsWith("guest of 1 GiB with 512 MiB free, all of it touched, writes "
                                "100 MiB/s; link 200 MiB/s\n\nMiB sent  round 1"));
  EXPECT_THAT(table, ::testing::ContainsRegex("\nplain +1024 +100 +50.0 +25.0 +5.00 +100.0 % +5 "
                                              "+0 +20.0 +6000 +30.0\n"));
  EXPECT_THAT(table, ::testing::ContainsRegex("\nhints +256 +0 +0 +0 +5.00 +25.0 % +2 +512 +40.0 "
                                              "+1500 +31.0\n"));
}

TEST(MigrateReportTest, TableSaysWhatIsNotVerified) {
  const std::string table = table_of(made_up_migrations());

  EXPECT_THAT(table, HasSubstr("hints: NOT VERIFIED: 1 page differs\n"));
  EXPECT_THAT(table, Not(HasSubstr("\nverified: ")));
}

TEST(MigrateReportTest, TableSaysThatAllIsVerified) {
  Migrations migrations = made_up_migrations();
  migrations.rows[1].run.failure.clear();

  EXPECT_THAT(table_of(migrations), HasSubstr("\nverified: every page of the guest"));
  EXPECT_THAT(table_of(migrations), HasSubstr("\nwrite tracking: userfaultfd\n"));
}

TEST(MigrateReportTest, DocumentHasWhatWasAskedFor) {
  const Json document = document_of(made_up_migrations());

  EXPECT_EQ(document["schema"], "vballoon.migrate/1");
  EXPECT_EQ(document["machine"]["processor"], "Z80");
  EXPECT_EQ(document["options"], Json::parse(R"({
      "guest_memory_bytes": 1073741824, "free_bytes": 536870912,
      "bandwidth_bytes_per_second": 209715200, "write_rate_bytes_per_second": 104857600,
      "seed": 1, "faithful": false})"));
}

TEST(MigrateReportTest, DocumentHasEveryRoundOfEveryRow) {
  const Json rows = document_of(made_up_migrations())["results"];

  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0]["rounds"].size(), 5u);
  EXPECT_EQ(rows[1], Json::parse(R"({
      "name": "hints", "bytes": 273678336, "round_1_percent_of_plain": 25.0, "help_ms": 40.0,
      "total_ms": 1500.0, "downtime_ms": 31.0, "skipped_pages": 131072,
      "write_tracking": "userfaultfd",
      "rounds": [{"pages": 65536, "bytes": 268435456, "ms": 1250.0},
                 {"pages": 1280, "bytes": 5242880, "ms": 25.0}],
      "verified": false, "failure": "1 page differs"})"));
}

TEST(MigrateReportTest, LinkWithoutALimitIsNullInTheDocument) {
  Migrations migrations = made_up_migrations();
  migrations.options.bandwidth.reset();

  EXPECT_TRUE(document_of(migrations)["options"]["bandwidth_bytes_per_second"].is_null());
}

TEST(MigrateReportTest, BarsStackTheRounds) {
  const StackedBars bars = bars_of(made_up_migrations());

  ASSERT_EQ(bars.bars.size(), 2u);
  EXPECT_EQ(bars.bars[0].name, "plain");
  EXPECT_THAT(bars.bars[0].parts, ElementsAre(1024, 100, 50, 25, 5));
  EXPECT_EQ(bars.bars[0].height, 1204);
  EXPECT_EQ(bars.bars[1].label, "261 MiB, 1.50 s");
  EXPECT_FALSE(bars.line);
}

TEST(MigrateReportTest, PictureWithoutALineHasNone) {
  EXPECT_THAT(gnuplot_script_of(bars_of(made_up_migrations()), "a.svg"),
              Not(HasSubstr("with lines")));
}

}  // namespace
}  // namespace vballoon::tool
