// SPDX-License-Identifier: MIT
// What a statistics message says, and when the guest is asked for one.
#include "device/stats_requests.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <initializer_list>
#include <optional>
#include <utility>

#include "device/test_messages.h"

namespace vballoon {

void PrintTo(const BalloonStats::Unknown& u, std::ostream* out) {
  *out << "tag " << u.tag << " = " << u.value;
}

namespace {

using std::chrono::nanoseconds;
using testing::Bytes;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Eq;
using testing::stats_entries;

TEST(ParseStatsTest, BAL_D_08_EntriesOfTenBytesGiveValuesByTag) {
  const BalloonStats stats = parse_stats(stats_entries({{4, 0x1122334455667788}, {0, 7}}));

  EXPECT_EQ(stats.value(StatTag::kFreeMemory), 0x1122334455667788u);
  EXPECT_EQ(stats.value(StatTag::kSwapIn), 7u);
}

TEST(ParseStatsTest, TagsThatAreNotSentHaveNoValue) {
  EXPECT_THAT(parse_stats({}).values, Each(Eq(std::nullopt)));
}

TEST(ParseStatsTest, ZeroIsAValue) {
  EXPECT_EQ(parse_stats(stats_entries({{2, 0}})).value(StatTag::kMajorFaults), 0u);
}

TEST(ParseStatsTest, BAL_D_07_LastKnownTagIsKnownAndTheNextIsNot) {
  const BalloonStats stats = parse_stats(stats_entries({{15, 1}, {16, 2}, {65535, 3}}));

  EXPECT_EQ(stats.value(StatTag::kDirectReclaims), 1u);
  EXPECT_THAT(stats.unknown,
              ElementsAre(BalloonStats::Unknown{16, 2}, BalloonStats::Unknown{65535, 3}));
}

TEST(ParseStatsTest, TagThatComesAgainCountsAsSaidLast) {
  const BalloonStats stats = parse_stats(stats_entries({{4, 1}, {99, 1}, {4, 2}, {99, 2}}));

  EXPECT_EQ(stats.value(StatTag::kFreeMemory), 2u);
  EXPECT_THAT(stats.unknown, ElementsAre(BalloonStats::Unknown{99, 2}));
}

TEST(ParseStatsTest, ShortTailEndsTheMessage) {
  Bytes message = stats_entries({{4, 1}, {5, 2}});
  message.pop_back();

  const BalloonStats stats = parse_stats(message);

  EXPECT_EQ(stats.value(StatTag::kFreeMemory), 1u);
  EXPECT_EQ(stats.value(StatTag::kTotalMemory), std::nullopt);
}

TEST(StatTagTest, TagsHaveNamesAndUnits) {
  EXPECT_EQ(to_string(StatTag::kFreeMemory), "free-memory");
  EXPECT_EQ(unit_of(StatTag::kFreeMemory), StatUnit::kBytes);
  EXPECT_EQ(to_string(StatTag::kOomKills), "oom-kills");
  EXPECT_EQ(unit_of(StatTag::kOomKills), StatUnit::kCount);
}

// Every tag: its name is its own, and those that count events are these.
TEST(StatTagTest, BAL_I_08_CountsAreFaultsHugePagesKillsAndStalls) {
  std::vector<int> counts;
  std::vector<std::string_view> names;
  for (int tag = 0; tag < static_cast<int>(kStatCount); ++tag) {
    names.push_back(to_string(static_cast<StatTag>(tag)));
    if (unit_of(static_cast<StatTag>(tag)) == StatUnit::kCount) counts.push_back(tag);
  }

  EXPECT_THAT(counts, ElementsAre(2, 3, 8, 9, 10, 11));
  std::ranges::sort(names);
  EXPECT_EQ(std::ranges::adjacent_find(names), names.end());
  EXPECT_EQ(std::ranges::find(names, "unknown"), names.end());
}

class StatsRequestsTest : public ::testing::Test {
 protected:
  static constexpr nanoseconds kSecond = std::chrono::seconds(1);

  void answer(std::uint64_t free_memory) {
    BalloonStats stats;
    stats.values[static_cast<std::size_t>(StatTag::kFreeMemory)] = free_memory;
    requests_.answered(stats, now_);
  }
  StatsReport report() const { return requests_.report(now_); }

  nanoseconds now_ = 100 * kSecond;
  StatsRequests requests_;
};

TEST_F(StatsRequestsTest, NothingIsDueAtFirst) {
  EXPECT_FALSE(requests_.due(now_));
  EXPECT_EQ(requests_.next_time(), std::nullopt);
  EXPECT_FALSE(report().latest);
  EXPECT_FALSE(report().requested);
}

TEST_F(StatsRequestsTest, RequestIsDueUntilTheGuestIsAsked) {
  requests_.request(now_, kSecond);
  EXPECT_TRUE(requests_.due(now_));

  requests_.asked(now_);

  EXPECT_FALSE(requests_.due(now_));
  EXPECT_TRUE(report().requested);
}

TEST_F(StatsRequestsTest, AnswerEndsTheRequest) {
  requests_.request(now_, kSecond);
  requests_.asked(now_);

  answer(5);

  EXPECT_FALSE(report().requested);
  EXPECT_EQ(report().latest->value(StatTag::kFreeMemory), 5u);
}

TEST_F(StatsRequestsTest, AnswerToNothingDoesNotEndARequestThatWaits) {
  requests_.request(now_, kSecond);

  answer(5);

  EXPECT_TRUE(report().requested) << "collected before the request";
  EXPECT_TRUE(requests_.due(now_));
}

TEST_F(StatsRequestsTest, AgeGrowsWithTheClock) {
  answer(5);

  now_ += 3 * kSecond;

  EXPECT_EQ(report().age, 3 * kSecond);
}

TEST_F(StatsRequestsTest, RequestWithoutAnAnswerTimesOutAndTheOldValueIsNotTakenForNew) {
  answer(5);
  requests_.request(now_, kSecond);
  requests_.asked(now_);

  now_ += kSecond;

  EXPECT_TRUE(report().timed_out);
  EXPECT_TRUE(report().requested);
  EXPECT_EQ(report().age, kSecond);
}

TEST_F(StatsRequestsTest, LateAnswerEndsTheTimeOut) {
  requests_.request(now_, kSecond);
  requests_.asked(now_);
  now_ += 2 * kSecond;

  answer(5);

  EXPECT_FALSE(report().timed_out);
}

TEST_F(StatsRequestsTest, SecondRequestDoesNotAskAGuestThatIsCollecting) {
  requests_.request(now_, kSecond);
  requests_.asked(now_);

  requests_.request(now_, kSecond);

  EXPECT_FALSE(requests_.due(now_));
}

TEST_F(StatsRequestsTest, IntervalAsksAgainAndAgain) {
  requests_.set_interval(kSecond, now_);
  EXPECT_FALSE(requests_.due(now_));
  EXPECT_EQ(requests_.next_time(), now_ + kSecond);

  now_ += kSecond;
  EXPECT_TRUE(requests_.due(now_));
  requests_.asked(now_);
  answer(1);

  EXPECT_FALSE(requests_.due(now_));
  EXPECT_EQ(requests_.next_time(), now_ + kSecond);
}

TEST_F(StatsRequestsTest, IntervalDoesNotAskAGuestThatIsCollecting) {
  requests_.set_interval(kSecond, now_);
  now_ += kSecond;
  requests_.asked(now_);

  now_ += 5 * kSecond;

  EXPECT_FALSE(requests_.due(now_));
  EXPECT_EQ(requests_.next_time(), std::nullopt);
}

TEST_F(StatsRequestsTest, IntervalOfZeroSwitchesOff) {
  requests_.set_interval(kSecond, now_);

  requests_.set_interval(nanoseconds(0), now_);

  EXPECT_FALSE(requests_.due(now_ + 10 * kSecond));
  EXPECT_EQ(requests_.next_time(), std::nullopt);
}

TEST_F(StatsRequestsTest, ResetForgetsValuesAndRequestsAndKeepsTheInterval) {
  requests_.set_interval(kSecond, now_);
  answer(5);
  requests_.request(now_, kSecond);

  requests_.reset(now_);

  EXPECT_FALSE(report().latest);
  EXPECT_FALSE(report().requested);
  EXPECT_FALSE(requests_.due(now_));
  EXPECT_EQ(requests_.next_time(), now_ + kSecond);
}

}  // namespace
}  // namespace vballoon
