// SPDX-License-Identifier: MIT
#include "device/limited_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

namespace vballoon {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::SizeIs;

class LimitedLogTest : public ::testing::Test {
 protected:
  void warn(int times) {
    for (int i = 0; i < times; ++i) log_.warn("descriptor loop");
  }

  nanoseconds now_{milliseconds(5)};
  std::vector<std::string> lines_;
  std::vector<LogLevel> levels_;
  LimitedLog log_{[this](LogLevel level, std::string_view text) {
                    levels_.push_back(level);
                    lines_.emplace_back(text);
                  },
                  [this] { return now_; }};
};

TEST_F(LimitedLogTest, ReasonIsSaidAsAWarning) {
  log_.warn("descriptor loop");

  EXPECT_THAT(lines_, ElementsAre("balloon: descriptor loop"));
  EXPECT_THAT(levels_, ElementsAre(LogLevel::kWarning));
}

TEST_F(LimitedLogTest, FloodWithinASecondIsCutAtTheLimit) {
  warn(10'000);

  EXPECT_THAT(lines_, SizeIs(LimitedLog::kLinesPerSecond));
  EXPECT_THAT(lines_, Each("balloon: descriptor loop"));
}

TEST_F(LimitedLogTest, NothingMoreIsSaidUntilAWholeSecondHasPassed) {
  warn(4);
  now_ += milliseconds(999);

  warn(1);

  EXPECT_THAT(lines_, SizeIs(4));
}

TEST_F(LimitedLogTest, NextSecondSaysHowManyWereLeftOut) {
  warn(7);
  now_ += milliseconds(1000);

  warn(2);

  ASSERT_THAT(lines_, SizeIs(6));
  EXPECT_EQ(lines_[4], "balloon: descriptor loop (3 more messages left out)");
  EXPECT_EQ(lines_[5], "balloon: descriptor loop");
}

TEST_F(LimitedLogTest, EverySecondHasALimitOfItsOwn) {
  warn(5);
  now_ += milliseconds(1000);
  warn(5);
  now_ += milliseconds(1500);

  warn(5);

  EXPECT_THAT(lines_, SizeIs(12));
}

TEST(LimitedLogWithoutSinkTest, WarningGoesNowhere) {
  int asked = 0;
  LimitedLog log(nullptr, [&asked] {
    ++asked;
    return nanoseconds(0);
  });
  const int asked_before = asked;

  log.warn("descriptor loop");

  EXPECT_EQ(asked, asked_before) << "a log without a sink costs no look at the clock";
}

}  // namespace
}  // namespace vballoon
