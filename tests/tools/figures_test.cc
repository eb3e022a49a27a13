// SPDX-License-Identifier: MIT
#include "figures.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "comparisons.h"

namespace vballoon::tool {
namespace {

using std::chrono::milliseconds;
using ::testing::IsNan;
using testing::made_up_run;
using ::testing::Optional;

TEST(FiguresTest, MedianOfAnOddNumberIsTheMiddleOne) {
  EXPECT_EQ(median_of(std::vector{9.0, 1.0, 5.0}), 5.0);
}

TEST(FiguresTest, MedianOfAnEvenNumberLiesBetweenTheTwoInTheMiddle) {
  EXPECT_EQ(median_of(std::vector{9.0, 1.0, 5.0, 4.0}), 4.5);
}

TEST(FiguresTest, MedianOfWhatDoesNotApplyDoesNotApply) {
  EXPECT_THAT(median_of(std::vector{kDoesNotApply, 1.0, 2.0}), IsNan());
}

TEST(FiguresTest, EachNumberOfARowIsItsOwnMedian) {
  std::vector<RowRun> runs{made_up_run(100), made_up_run(300), made_up_run(200)};
  runs[0].inflate.kicks = 7;
  runs[1].inflate.kicks = 3;
  runs[2].inflate.kicks = 5;

  const RowRun median = median_of(runs);

  EXPECT_EQ(median.inflate.wall_ms, 200);
  EXPECT_EQ(median.inflate.kicks, 5);
  EXPECT_EQ(median.deflate.wall_ms, 20);
  EXPECT_THAT(median.deflate.discard_ms, IsNan());
}

TEST(FiguresTest, RowIsVerifiedWhenAllRunsAre) {
  const RowRun median = median_of({made_up_run(1), made_up_run(2)});

  EXPECT_TRUE(median.verified);
  EXPECT_EQ(median.failure, "");
}

TEST(FiguresTest, RunThatIsNotVerifiedSpoilsItsRow) {
  std::vector<RowRun> runs{made_up_run(1), made_up_run(2), made_up_run(3)};
  runs[1].verified = false;
  runs[1].failure = "page 3 is gone";

  const RowRun median = median_of(runs);

  EXPECT_FALSE(median.verified);
  EXPECT_EQ(median.failure, "page 3 is gone");
}

TEST(FiguresTest, RefusalInAnyRunIsOneOfTheRow) {
  std::vector<RowRun> runs{made_up_run(1), made_up_run(2), made_up_run(3)};
  runs[2].refused = "1 pieces: no";

  EXPECT_EQ(median_of(runs).refused, "1 pieces: no");
}

TEST(FiguresTest, LossOfABusyProcessorIsAMedianToo) {
  std::vector<RowRun> runs{made_up_run(1), made_up_run(2), made_up_run(3)};
  runs[0].vcpu_loss_percent = 30;
  runs[1].vcpu_loss_percent = 10;
  runs[2].vcpu_loss_percent = 20;

  EXPECT_THAT(median_of(runs).vcpu_loss_percent, Optional(20.0));
}

TEST(FiguresTest, LossWithoutABusyProcessorStaysUnset) {
  EXPECT_EQ(median_of({made_up_run(1)}).vcpu_loss_percent, std::nullopt);
}

sim::ResizeReport made_up_report() {
  sim::ResizeReport report;
  report.wall = milliseconds(10);
  report.guest = milliseconds(10);
  report.stages = {milliseconds(1), milliseconds(2), milliseconds(3), milliseconds(4)};
  report.kernel = milliseconds(5);
  report.overlap = milliseconds(13);
  report.driver.messages = 6;
  report.driver.kicks = 7;
  report.device.queue_bytes = 8;
  report.device.discard_calls = 9;
  report.device.freed_bytes = 10;
  report.device.owed_bytes = 11;
  report.device.forgone_bytes = 12;
  return report;
}

// All fields of a phase, in the order in which it declares them.
std::vector<double> values_of(const Phase& phase) {
  std::vector<double> values;
  const auto take = [&](const auto& fields) {
    for (const PhaseField& field : fields) values.push_back(phase.*field.value);
  };
  take(kHeadFields);
  take(kStageFields);
  take(kTailFields);
  return values;
}

// The pages that the guest moved are no part of that.
TEST(FiguresTest, InflationHasEveryFigureOfItsReport) {
  EXPECT_THAT(values_of(inflation_of(made_up_report())),
              ::testing::ElementsAre(10, 10, 1, 2, 3, 4, 13, 5, 6, 7, 8, 9, 10, 11, 12, 0));
}

TEST(FiguresTest, WaitForTheLastAnswerIsNoPartOfTheWallTime) {
  sim::ResizeReport report = made_up_report();
  report.stages.send = milliseconds(5);
  report.guest = report.wall + milliseconds(3);

  EXPECT_EQ(inflation_of(report).send_ms, 2);
}

TEST(FiguresTest, MessagesThatFreeNothingAtTheEndAreNoPartOfTheWallTime) {
  sim::ResizeReport report = made_up_report();
  report.stages = {milliseconds(3), milliseconds(2), milliseconds(5), milliseconds(4)};
  report.guest = report.wall + milliseconds(4);

  const Phase phase = inflation_of(report);

  EXPECT_EQ(phase.send_ms, 0);
  EXPECT_EQ(phase.allocate_ms, 1);
  EXPECT_EQ(phase.allocate_ms + phase.send_ms + phase.translate_ms + phase.discard_ms, 10);
}

TEST(FiguresTest, DeflationHasNoFiguresOfDiscards) {
  EXPECT_THAT(values_of(deflation_of(made_up_report())),
              ::testing::ElementsAre(10, 10, 1, 2, 3, IsNan(), 13, 5, 6, 7, 8, IsNan(), IsNan(),
                                     IsNan(), IsNan(), IsNan()));
}

}  // namespace
}  // namespace vballoon::tool
