// SPDX-License-Identifier: MIT
// Comparisons that really run, on the smallest guest: whatever is asked for, the figures add up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "comparisons.h"
#include "machine_facts.h"

namespace vballoon::tool {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::run;
using ::testing::SizeIs;
using testing::small_options;

constexpr std::uint64_t kInflated = 16 * kMiB;

// Every row is verified, and the bytes of its balloon are accounted for.
MATCHER(IsSound, "is done, with all rows verified and all bytes accounted for") {
  if (arg.exit_code != kExitDone) return false;
  const Json document = arg.document();  // a temporary would be gone within the loop
  for (const Json& result : document["results"]) {
    const Json& inflate = result["inflate"];
    const auto bytes = [&](const char* name) {
      return inflate[name].template get<std::uint64_t>();
    };
    if (result["verified"] != true || result["pages"] != kInflated / kPageSize ||
        bytes("freed_bytes") + bytes("owed_bytes") + bytes("forgone_bytes") != kInflated) {
      *result_listener << result["name"] << " is not";
      return false;
    }
  }
  return true;
}

std::vector<std::string> names_of(const Json& document) {
  std::vector<std::string> names;
  for (const Json& result : document["results"]) names.push_back(result["name"]);
  return names;
}

std::vector<std::uint64_t> inflation_of_each_row(const Json& document, const char* figure) {
  std::vector<std::uint64_t> figures;
  for (const Json& result : document["results"]) figures.push_back(result["inflate"][figure]);
  return figures;
}

// The last result: the mode beside the baseline.
Json last_result(const testing::Outcome& outcome) { return outcome.document()["results"].back(); }

TEST(CompareRunTest, DefaultRowsAreTheBaselineAndEveryModeVectored) {
  CompareOptions options = small_options();
  options.modes = CompareOptions{}.modes;

  const auto outcome = run(options);

  EXPECT_THAT(outcome, IsSound());
  EXPECT_THAT(names_of(outcome.document()),
              ElementsAre("pfn/per-page", "pfn/vectored", "bitmap/vectored", "chunk/vectored"));
}

TEST(CompareRunTest, StagesAreParts) {
  const Json inflate = last_result(run(small_options()))["inflate"];

  EXPECT_GT(inflate["stages_ms"]["allocate"], 0);
  EXPECT_GT(inflate["stages_ms"]["send"], 0);
  EXPECT_GT(inflate["stages_ms"]["translate"], 0);
  EXPECT_GT(inflate["stages_ms"]["discard"], 0);
  EXPECT_LE(inflate["wall_ms"], inflate["guest_ms"]);
}

TEST(CompareRunTest, LimitIsMeasured) { EXPECT_GT(run(small_options()).document()["limit_ms"], 0); }

TEST(CompareRunTest, RepeatedRowsHoldEachRun) {
  CompareOptions options = small_options();
  options.repeat = 3;

  const auto outcome = run(options);

  EXPECT_THAT(outcome, IsSound());
  EXPECT_THAT(outcome.document()["results"], SizeIs(2));
  EXPECT_THAT(last_result(outcome)["runs"], SizeIs(3));
}

TEST(CompareRunTest, FileMemoryIsVerified) {
  CompareOptions options = small_options();
  options.backing = Backing::kMemfd;

  EXPECT_THAT(run(options), IsSound());
}

TEST(CompareRunTest, HugePagesAreVerifiedAndOnlyWholeOnesFreed) {
  if (read_machine_facts().huge_pages_free * kHugePageBytes < 64 * kMiB) {
    GTEST_SKIP() << "needs 64 MiB of free huge pages: /proc/sys/vm/nr_hugepages";
  }
  CompareOptions options = small_options();
  options.backing = Backing::kHugetlb;

  const auto outcome = run(options);

  EXPECT_THAT(outcome, IsSound());
  EXPECT_EQ(last_result(outcome)["inflate"]["freed_bytes"], kInflated);
}

TEST(CompareRunTest, TransparentHugePagesAreVerified) {
  if (read_machine_facts().transparent_huge_pages == "none") {
    GTEST_SKIP() << "this kernel has no transparent huge pages";
  }
  CompareOptions options = small_options();
  options.thp = ThpMode::kOn;

  EXPECT_THAT(run(options), IsSound());
}

TEST(CompareRunTest, FragmentedGuestHasNothingButSinglePages) {
  CompareOptions options = small_options();
  options.guest = sim::GuestAge::kFragmented;

  const auto outcome = run(options);

  EXPECT_THAT(outcome, IsSound());
  EXPECT_EQ(last_result(outcome)["allocations_by_order"][0], kInflated / kPageSize);
}

TEST(CompareRunTest, AgedGuestIsTheSameForTheSameSeed) {
  CompareOptions options = small_options();
  options.guest = sim::GuestAge::kAged;
  options.seed = 7;

  const auto first = run(options);
  const auto second = run(options);

  EXPECT_THAT(first, IsSound());
  EXPECT_EQ(last_result(first)["free_blocks_by_order"],
            last_result(second)["free_blocks_by_order"]);
}

// ---- compaction ---------------------------------------------------------------------------------

// Continuous pages from a guest that was used before.
CompareOptions used_guest_with_cont(sim::GuestAge age) {
  CompareOptions options = small_options();
  options.modes = {Dialect::kContPages};
  options.guest = age;
  return options;
}

std::uint64_t allocations_of_order(const testing::Outcome& outcome, unsigned order) {
  return last_result(outcome)["allocations_by_order"][order];
}

TEST(CompareRunTest, HolesOfAFragmentedGuestAreMovedTogether) {
  const auto outcome = run(used_guest_with_cont(sim::GuestAge::kFragmented));

  EXPECT_THAT(outcome, IsSound());
  EXPECT_GT(last_result(outcome)["inflate"]["moved_pages"], 0);
  EXPECT_EQ(allocations_of_order(outcome, sim::kMaxOrder), 4U);
}

TEST(CompareRunTest, AgedGuestMovesPagesForLargerBlocks) {
  CompareOptions options = used_guest_with_cont(sim::GuestAge::kAged);
  const auto with = run(options);
  options.compaction = false;
  const auto without = run(options);

  EXPECT_THAT(with, IsSound());
  EXPECT_GT(last_result(with)["inflate"]["moved_pages"], 0);
  EXPECT_GT(allocations_of_order(with, sim::kMaxOrder),
            allocations_of_order(without, sim::kMaxOrder));
}

TEST(CompareRunTest, WithoutCompactionNothingMovesAndTheHolesAreTaken) {
  CompareOptions options = used_guest_with_cont(sim::GuestAge::kFragmented);
  options.compaction = false;

  const auto outcome = run(options);

  EXPECT_THAT(outcome, IsSound());
  EXPECT_EQ(last_result(outcome)["inflate"]["moved_pages"], 0);
  EXPECT_EQ(allocations_of_order(outcome, 0), kInflated / kPageSize);
}

TEST(CompareRunTest, OtherModesMoveNothing) {
  CompareOptions options = used_guest_with_cont(sim::GuestAge::kFragmented);
  options.modes = {Dialect::kPageBitmap, Dialect::kScatterGather};

  const auto outcome = run(options);

  EXPECT_THAT(outcome, IsSound());
  EXPECT_THAT(inflation_of_each_row(outcome.document(), "moved_pages"), Each(0U));
}

// The busy processor's own pages are not moved: it would go on with the old ones.
TEST(CompareRunTest, PagesMoveBesideABusyProcessor) {
  CompareOptions options = used_guest_with_cont(sim::GuestAge::kFragmented);
  options.busy_vcpu = true;

  const auto outcome = run(options);

  EXPECT_THAT(outcome, IsSound());
  EXPECT_GT(last_result(outcome)["inflate"]["moved_pages"], 0);
}

// ---- other ways ---------------------------------------------------------------------------------

TEST(CompareRunTest, KicksByCallAreVerified) {
  CompareOptions options = small_options();
  options.notify = sim::NotifyMode::kDirect;

  EXPECT_THAT(run(options), IsSound());
}

TEST(CompareRunTest, BusyProcessorHasALoss) {
  CompareOptions options = small_options();
  options.busy_vcpu = true;

  const auto outcome = run(options);

  EXPECT_THAT(outcome, IsSound());
  EXPECT_TRUE(last_result(outcome)["vcpu_loss_percent"].is_number());
}

TEST(CompareRunTest, ChunkTakesTheLargestBlocks) {
  const Json result = last_result(run(small_options()));

  EXPECT_EQ(result["allocations_by_order"][sim::kMaxOrder], 4);
}

TEST(CompareRunTest, ChunkOfOrderZeroTakesSinglePages) {
  CompareOptions options = small_options();
  options.chunk_order_zero = true;

  const auto outcome = run(options);

  EXPECT_THAT(outcome, IsSound());
  EXPECT_EQ(last_result(outcome)["allocations_by_order"][0], kInflated / kPageSize);
}

TEST(CompareRunTest, PfnsInAllocationOrderAreVerified) {
  CompareOptions options = small_options();
  options.modes = {Dialect::kStandard};
  options.pfn_order = sim::PfnOrder::kAllocation;

  EXPECT_THAT(run(options), IsSound());
}

TEST(CompareRunTest, PublishedDriversAreVerifiedAndTakeSinglePages) {
  CompareOptions options = small_options();
  options.modes = {Dialect::kStandard, Dialect::kPageBitmap, Dialect::kSingleHeaderBitmap,
                   Dialect::kScatterGather};
  options.faithful = true;

  const auto outcome = run(options);

  EXPECT_THAT(outcome, IsSound());
  EXPECT_EQ(allocations_of_order(outcome, 0), kInflated / kPageSize);
}

TEST(CompareRunTest, SmallQueueIsVerified) {
  CompareOptions options = small_options();
  options.queue_size = 2;

  EXPECT_THAT(run(options), IsSound());
}

TEST(CompareRunTest, RowsWrittenBehindAreVerified) {
  CompareOptions options = small_options();
  options.modes = CompareOptions{}.modes;
  options.notify = sim::NotifyMode::kEventfd;
  options.write_behind = true;

  const auto outcome = run(options);

  EXPECT_THAT(outcome, IsSound());
  EXPECT_THAT(names_of(outcome.document()),
              ElementsAre("pfn/per-page", "pfn/vectored", "pfn/write-behind", "bitmap/vectored",
                          "bitmap/write-behind", "chunk/vectored", "chunk/write-behind"));
  EXPECT_THAT(inflation_of_each_row(outcome.document(), "freed_bytes"), Each(kInflated));
}

// Only the first messages can find the device's thread asleep.
TEST(CompareRunTest, WatchedRingsAreVerifiedAndNeedFewerKicks) {
  CompareOptions options = small_options();
  options.modes = {Dialect::kStandard};
  options.poll_us = 1'000'000;

  const auto outcome = run(options);

  EXPECT_THAT(outcome, IsSound());
  const Json inflate = last_result(outcome)["inflate"];
  EXPECT_LT(inflate["kicks"], inflate["messages"]);
}

// Refuses everything, as a kernel does that will not take memory back.
class RefusingDiscarder final : public Discarder {
 public:
  void discard(std::span<const HostRun> runs, DiscardReport& report) override {
    for (const HostRun& run : runs) report.failures.push_back({run, EINVAL});
  }
};

TEST(CompareRunTest, RefusedDiscardIsSaidInTheLog) {
  CompareOptions options = small_options();
  std::mutex lock;
  std::string said;
  options.log = [&](LogLevel, std::string_view text) {
    const std::lock_guard guard(lock);
    said += text;
  };
  options.make_discarder = [](DiscardStrategy, const std::shared_ptr<const GuestMemory>&) {
    return std::make_unique<RefusingDiscarder>();
  };

  static_cast<void>(run(options));

  EXPECT_THAT(said, HasSubstr(std::string(to_string(Errc::kDiscardFailed))));
  EXPECT_THAT(said, HasSubstr(std::generic_category().message(EINVAL)));
}

TEST(CompareRunTest, TableIsPrintedUnlessJsonIsAskedFor) {
  CompareOptions options = small_options();
  options.json = false;

  EXPECT_THAT(run(options).out, HasSubstr("idle guest of 64 MiB gives 16 MiB back"));
}

TEST(CompareRunTest, TooMuchPrintsNothingAndIsUsage) {
  CompareOptions options = small_options();
  options.inflate = 64 * kMiB;

  const auto outcome = run(options);

  EXPECT_EQ(outcome.exit_code, kExitUsage);
  EXPECT_EQ(outcome.out, "");
}

TEST(CompareRunTest, ResultsThatCannotBeWrittenAreAFailure) {
  std::FILE* const full = std::fopen("/dev/full", "w");

  const int exit_code = run_compare(small_options(), full);
  std::fclose(full);

  EXPECT_EQ(exit_code, kExitFailed);
}

}  // namespace
}  // namespace vballoon::tool
