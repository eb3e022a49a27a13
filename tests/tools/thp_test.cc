// SPDX-License-Identifier: MIT
// The experiment with huge pages in a guest of an eighth of the published size (tools/thp_run.cc,
// thp_command.cc). Counts are the kernel's; what the kernel does with its huge pages by itself is
// left some room.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "compare_command.h"
#include "memory/residency.h"
#include "thp_command.h"
#include "thp_run.h"
#include "tools/command_process.h"
#include "vballoon/discarder.h"

namespace vballoon::tool {
namespace {

using testing::Capture;
using ::testing::HasSubstr;

// 4 huge pages are the guest kernel's, 48 the process has, 40 MiB are given back: 24 MiB that were
// never touched and 16 more.
constexpr ThpPlan kSmall{
    .guest_memory = 128 * kMiB, .kernel = 8 * kMiB, .process = 96 * kMiB, .inflate = 40 * kMiB};
constexpr std::uint64_t kTouched = 52;
constexpr std::uint64_t kKernels = 4;

class ThpTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (vballoon::testing::selected_word("/sys/kernel/mm/transparent_hugepage/enabled") ==
        "never") {
      GTEST_SKIP() << "the kernel gives no transparent huge pages";
    }
  }
  static ThpRun run(Dialect mode, bool compaction = true) {
    return run_thp(mode, {}, compaction, kSmall).value();
  }
  static ThpRun run_with(const ThpPolicy& policy, Dialect mode = Dialect::kStandard) {
    return run_thp(mode, policy, true, kSmall).value();
  }
  static constexpr ThpPolicy kKeepWhole = kThpPolicies[1];
  static constexpr ThpPolicy kHeal = kThpPolicies[2];
  static constexpr ThpPolicy kCollapse = kThpPolicies[3];
};

TEST_F(ThpTest, ArraysOfSinglePagesSplitTheHugePagesOfTheProcess) {
  const ThpRun done = run(Dialect::kStandard);

  EXPECT_EQ(done.failure, "");
  EXPECT_EQ(done.huge_before, kTouched);
  EXPECT_LE(done.huge_inflated, kKernels + 16);
  EXPECT_EQ(done.moved_pages, 0u);
}

TEST_F(ThpTest, BlocksThatCompactionMakesAreGivenBackAsWholeHugePages) {
  const ThpRun done = run(Dialect::kContPages);

  EXPECT_EQ(done.failure, "");
  EXPECT_GT(done.moved_pages, 0u);
  EXPECT_GE(done.huge_inflated, kTouched - 8 - 2) << "16 MiB are 8 of them";
  EXPECT_GE(done.huge_reused, kTouched - 2);
}

TEST_F(ThpTest, WithoutCompactionTheRestIsTakenFromTheHoles) {
  const ThpRun done = run(Dialect::kContPages, false);

  EXPECT_EQ(done.failure, "");
  EXPECT_EQ(done.moved_pages, 0u);
  EXPECT_LT(done.huge_inflated, kTouched - 8 - 2);
}

TEST_F(ThpTest, ChunksMoveNothing) {
  const ThpRun done = run(Dialect::kScatterGather);

  EXPECT_EQ(done.failure, "");
  EXPECT_EQ(done.moved_pages, 0u);
}

TEST_F(ThpTest, HugePagesThatAreKeptGoOnlyAsAWhole) {
  const ThpRun done = run_with(kKeepWhole);

  EXPECT_EQ(done.failure, "");
  EXPECT_GE(done.huge_inflated + done.huge_complete, kTouched);
  EXPECT_GE(done.owed_bytes, 32 * kMiB) << "of 48 MiB of holes";
  EXPECT_LE(done.resident_before, done.resident_inflated + done.huge_complete * 2 * kMiB);
}

TEST_F(ThpTest, HugePagesThatWereCompleteAreHealed) {
  if (!healing_available()) GTEST_SKIP() << "the kernel keeps empty page tables";
  const ThpRun done = run_with(kHeal, Dialect::kContPages);

  EXPECT_EQ(done.failure, "");
  EXPECT_GE(done.huge_complete, 8u);
  EXPECT_GE(done.complete_reused, done.huge_complete - 1) << "some memory is kept free";
  if (!done.complete_huge) GTEST_SKIP() << "the kernel does not say where huge pages are";
  EXPECT_EQ(*done.complete_huge, done.complete_reused);
}

TEST_F(ThpTest, SplitHugePagesAreCollapsedWhenTheyLeaveTheBalloon) {
  const ThpRun done = run_with(kCollapse);

  EXPECT_EQ(done.failure, "");
  if (done.collapsed_bytes == 0) GTEST_SKIP() << "the kernel has no MADV_COLLAPSE";
  EXPECT_GE(done.huge_reused, kTouched - 2);
  EXPECT_GT(done.resident_deflated, done.resident_inflated) << "what it costs";
}

TEST_F(ThpTest, GuestThatIsTooSmallForItsProcessIsAnError) {
  const auto done =
      run_thp(Dialect::kStandard, {}, true, {.guest_memory = 64 * kMiB, .process = 96 * kMiB});

  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::kInvalidArgument);
}

TEST_F(ThpTest, TableHasARowForEachModeAndPolicy) {
  Capture out;

  const int code = run_thp_command({.modes = {Dialect::kStandard, Dialect::kContPages},
                                    .policies = {kThpPolicies[0], kKeepWhole},
                                    .quiet = true,
                                    .plan = kSmall},
                                   out.file());

  EXPECT_EQ(code, kExitDone);
  const std::string text = out.text();
  EXPECT_THAT(text, HasSubstr("guest of 128 MiB with holes gives 40 MiB back"));
  EXPECT_THAT(text, HasSubstr("\npfn/split "));
  EXPECT_THAT(text, HasSubstr("\npfn/keep-whole "));
  EXPECT_THAT(text, HasSubstr("\ncont/keep-whole "));
  EXPECT_THAT(text, HasSubstr("verified: "));
}

TEST_F(ThpTest, DocumentHasTheCountsOfEachMode) {
  Capture out;

  const int code = run_thp_command({.modes = {Dialect::kContPages},
                                    .policies = {kKeepWhole},
                                    .json = true,
                                    .quiet = true,
                                    .plan = kSmall},
                                   out.file());

  EXPECT_EQ(code, kExitDone);
  const auto document = nlohmann::json::parse(out.text());
  EXPECT_EQ(document["schema"], "vballoon.thp/1");
  EXPECT_EQ(document["compaction"], true);
  ASSERT_EQ(document["results"].size(), 1u);
  EXPECT_EQ(document["results"][0]["mode"], "cont");
  EXPECT_EQ(document["results"][0]["policy"], "keep-whole");
  EXPECT_EQ(document["results"][0]["huge_pages_before"], kTouched);
  EXPECT_EQ(document["results"][0]["verified"], true);
}

}  // namespace
}  // namespace vballoon::tool
