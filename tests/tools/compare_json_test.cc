// SPDX-License-Identifier: MIT
// The document of --json: every key, in order, of the right type.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "compare_report.h"
#include "comparisons.h"

namespace vballoon::tool {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::ElementsAre;
using testing::made_up_comparison;
using testing::made_up_run;
using ::testing::SizeIs;

// "name: type" of each member.
std::vector<std::string> shape_of(const Json& object) {
  std::vector<std::string> members;
  for (const auto& [key, value] : object.items()) members.push_back(key + ": " + value.type_name());
  return members;
}

Json document_of(const Comparison& comparison) { return Json::parse(json_of(comparison)); }

Json first_result(const Comparison& comparison) { return document_of(comparison)["results"][0]; }

TEST(CompareJsonTest, DocumentNamesItsSchemaAndHoldsAllParts) {
  const Json document = document_of(made_up_comparison());

  EXPECT_EQ(document["schema"], "vballoon.compare/1");
  EXPECT_THAT(shape_of(document),
              ElementsAre("schema: string", "machine: object", "options: object",
                          "limit_ms: number", "results: array"));
}

TEST(CompareJsonTest, MachineIsDescribed) {
  EXPECT_THAT(shape_of(document_of(made_up_comparison())["machine"]),
              ElementsAre("kernel: string", "processor: string", "processors: number",
                          "memory_bytes: number", "available_bytes: number",
                          "transparent_huge_pages: string", "huge_pages_free: number",
                          "vectored_discard: boolean"));
}

TEST(CompareJsonTest, OptionsAreThoseThatWereUsed) {
  Comparison comparison = made_up_comparison();
  comparison.options.modes = {Dialect::kPageBitmap, Dialect::kStandard};
  comparison.options.host = DiscardStrategy::kMerged;
  comparison.options.guest = sim::GuestAge::kAged;
  comparison.options.compaction = false;
  comparison.options.notify = sim::NotifyMode::kDirect;
  comparison.options.backing = Backing::kMemfd;
  comparison.options.thp = ThpMode::kOn;
  comparison.options.busy_vcpu = true;
  comparison.options.queue_size = 64;
  comparison.options.pfn_order = sim::PfnOrder::kAllocation;
  comparison.options.write_behind = true;
  comparison.options.poll_us = 200;
  comparison.options.chunk_order_zero = true;
  comparison.options.faithful = true;
  comparison.options.repeat = 3;
  comparison.options.seed = 99;

  const Json options = document_of(comparison)["options"];

  EXPECT_EQ(options, Json::parse(R"({"guest_memory_bytes": 2147483648,
      "inflate_bytes": 1073741824, "modes": ["bitmap", "pfn"], "host": "merged", "guest": "aged",
      "compaction": false, "notify": "direct", "backing": "memfd", "thp": "on", "busy_vcpu": true,
      "queue_size": 64, "pfn_order": "allocation", "write_behind": true, "poll_us": 200,
      "chunk_order": 0, "faithful": true, "repeat": 3, "seed": 99})"));
}

TEST(CompareJsonTest, ResultHoldsAllParts) {
  EXPECT_THAT(shape_of(first_result(made_up_comparison())),
              ElementsAre("name: string", "mode: string", "host: string", "pages: number",
                          "free_blocks_by_order: array", "allocations_by_order: array",
                          "inflate: object", "deflate: object", "vcpu_loss_percent: null",
                          "verified: boolean", "runs: array"));
}

TEST(CompareJsonTest, ResultIsNamedByModeAndHost) {
  const Json result = document_of(made_up_comparison())["results"][1];

  EXPECT_EQ(result["name"], "chunk/vectored");
  EXPECT_EQ(result["mode"], "chunk");
  EXPECT_EQ(result["host"], "vectored");
}

TEST(CompareJsonTest, BlocksAreCountedForEachOrder) {
  const Json result = first_result(made_up_comparison());

  EXPECT_THAT(result["free_blocks_by_order"], SizeIs(sim::kMaxOrder + 1));
  EXPECT_THAT(result["allocations_by_order"], SizeIs(sim::kMaxOrder + 1));
  EXPECT_EQ(result["free_blocks_by_order"][10], 512);
  EXPECT_EQ(result["allocations_by_order"][0], 262144);
}

TEST(CompareJsonTest, EveryFigureOfAnInflationIsANumber) {
  const Json inflate = first_result(made_up_comparison())["inflate"];

  EXPECT_THAT(
      shape_of(inflate),
      ElementsAre("wall_ms: number", "guest_ms: number", "stages_ms: object", "overlap_ms: number",
                  "kernel_ms: number", "messages: number", "kicks: number", "queue_bytes: number",
                  "discard_calls: number", "freed_bytes: number", "owed_bytes: number",
                  "forgone_bytes: number", "moved_pages: number"));
  EXPECT_THAT(shape_of(inflate["stages_ms"]), ElementsAre("allocate: number", "send: number",
                                                          "translate: number", "discard: number"));
}

TEST(CompareJsonTest, DiscardsOfADeflationAreNull) {
  const Json deflate = first_result(made_up_comparison())["deflate"];

  EXPECT_THAT(
      shape_of(deflate),
      ElementsAre("wall_ms: number", "guest_ms: number", "stages_ms: object", "overlap_ms: number",
                  "kernel_ms: number", "messages: number", "kicks: number", "queue_bytes: number",
                  "discard_calls: null", "freed_bytes: null", "owed_bytes: null",
                  "forgone_bytes: null", "moved_pages: null"));
  EXPECT_THAT(shape_of(deflate["stages_ms"]), ElementsAre("allocate: number", "send: number",
                                                          "translate: number", "discard: null"));
}

TEST(CompareJsonTest, FiguresAreInTheFieldsOfTheirNames) {
  const Json inflate = first_result(made_up_comparison())["inflate"];

  EXPECT_EQ(inflate, Json::parse(R"({"wall_ms": 2000, "guest_ms": 2001, "stages_ms": {
      "allocate": 200, "send": 400, "translate": 600, "discard": 800}, "overlap_ms": 7,
      "kernel_ms": 1000,
      "messages": 1024, "kicks": 512, "queue_bytes": 1048576, "discard_calls": 77,
      "freed_bytes": 1073741824, "owed_bytes": 0, "forgone_bytes": 0, "moved_pages": 0})"));
}

TEST(CompareJsonTest, CountsAreWrittenWithoutAFraction) {
  const Json inflate = first_result(made_up_comparison())["inflate"];

  EXPECT_TRUE(inflate["messages"].is_number_integer());
  EXPECT_TRUE(inflate["freed_bytes"].is_number_integer());
}

TEST(CompareJsonTest, RepeatedRowIsOneEntryOfMediansThatHoldsEachRun) {
  Comparison comparison = made_up_comparison();
  comparison.rows[0].runs = {made_up_run(400), made_up_run(200), made_up_run(300)};

  const Json document = document_of(comparison);

  ASSERT_THAT(document["results"], SizeIs(2));
  const Json& result = document["results"][0];
  EXPECT_EQ(result["inflate"]["wall_ms"], 300);
  ASSERT_THAT(result["runs"], SizeIs(3));
  EXPECT_EQ(result["runs"][0]["inflate"]["wall_ms"], 400);
  EXPECT_EQ(result["runs"][1]["inflate"]["wall_ms"], 200);
  EXPECT_EQ(result["runs"][2]["inflate"]["wall_ms"], 300);
}

TEST(CompareJsonTest, RunHoldsWhatItsRowDoes) {
  EXPECT_THAT(shape_of(first_result(made_up_comparison())["runs"][0]),
              ElementsAre("pages: number", "free_blocks_by_order: array",
                          "allocations_by_order: array", "inflate: object", "deflate: object",
                          "vcpu_loss_percent: null", "verified: boolean"));
}

TEST(CompareJsonTest, FailureOfACheckIsSaid) {
  Comparison comparison = made_up_comparison();
  comparison.rows[0].runs[0].verified = false;
  comparison.rows[0].runs[0].failure = "page 0x7 is gone";

  const Json result = first_result(comparison);

  EXPECT_EQ(result["verified"], false);
  EXPECT_EQ(result["failure"], "page 0x7 is gone");
  EXPECT_EQ(result["runs"][0]["failure"], "page 0x7 is gone");
}

TEST(CompareJsonTest, LossOfABusyProcessorIsANumber) {
  Comparison comparison = made_up_comparison();
  comparison.rows[0].runs[0].vcpu_loss_percent = 12.5;

  EXPECT_EQ(first_result(comparison)["vcpu_loss_percent"], 12.5);
}

}  // namespace
}  // namespace vballoon::tool
