// SPDX-License-Identifier: MIT
// Traces that are played into a device (tools/replay.cc).
#include "replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "device/test_messages.h"
#include "replay_command.h"

namespace vballoon::tool {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using vballoon::testing::le32;

constexpr std::uint64_t kGuestBytes = std::uint64_t{8} << 20;
constexpr Features kAccepted{Feature::kVersion1, Feature::kMustTellHost, Feature::kStatsVq,
                             Feature::kPageReporting};
constexpr std::uint16_t kStatsQueue = 2;
constexpr std::uint16_t kReportingQueue = 3;

TracedMessage message(std::uint16_t queue, std::vector<std::byte> payload) {
  const GuestBuffer buffer{0x1000, static_cast<std::uint32_t>(payload.size())};
  return {.queue = queue, .readable = {buffer}, .writable = {}, .payload = std::move(payload)};
}

// A driver that has begun.
std::vector<TraceEvent> begun(Features accepted = kAccepted) {
  std::vector<TraceEvent> trace{TracedMemory{{{0, kGuestBytes}}}, TracedFeatures{accepted}};
  for (std::uint16_t index = 0; index <= kReportingQueue; ++index) {
    trace.emplace_back(TracedQueue{index, 64});
  }
  return trace;
}
std::vector<TraceEvent> begun_and(std::vector<TraceEvent> more, Features accepted = kAccepted) {
  std::vector<TraceEvent> trace = begun(accepted);
  trace.insert(trace.end(), more.begin(), more.end());
  return trace;
}

class ReplayOnEachRing : public ::testing::TestWithParam<Features> {};

TEST_P(ReplayOnEachRing, MessagesReachTheDeviceAndAreAnswered) {
  const auto report = replay(begun_and({message(kInflateQueue, le32({5, 6, 7})),
                                        TracedConfigWrite{kActualOffset, le32({3})},
                                        message(kDeflateQueue, le32({5}))},
                                       GetParam()))
                          .value();

  EXPECT_EQ(report.device.inflated_bytes, 3 * kPageSize);
  EXPECT_EQ(report.device.freed_bytes, 3 * kPageSize);
  EXPECT_EQ(report.device.deflated_bytes, kPageSize);
  EXPECT_EQ(report.ballooned_pages, 2u);
  EXPECT_THAT(report.actual, ElementsAre(3u));
  EXPECT_TRUE(report.clean());
}

TEST_P(ReplayOnEachRing, MoreMessagesThanItsRingHoldsGoThroughIt) {
  std::vector<TraceEvent> many;
  for (std::uint32_t pfn = 0; pfn < 200; ++pfn)
    many.emplace_back(message(kInflateQueue, le32({pfn})));

  const auto report = replay(begun_and(many, GetParam())).value();

  EXPECT_EQ(report.queues[kInflateQueue].messages, 200u);
  EXPECT_EQ(report.device.freed_bytes, 200 * kPageSize);
  EXPECT_TRUE(report.clean());
}

INSTANTIATE_TEST_SUITE_P(Replay, ReplayOnEachRing,
                         ::testing::Values(kAccepted, kAccepted.with(Feature::kRingPacked)),
                         [](const auto& of) {
                           return of.param.has(Feature::kRingPacked) ? "Packed" : "Split";
                         });

TEST(ReplayTest, BufferForStatisticsIsHeldUntilTheNextOne) {
  const auto stats = vballoon::testing::stats_entries({{4, 1}});

  const auto report =
      replay(begun_and({message(kStatsQueue, stats), message(kStatsQueue, stats)})).value();

  EXPECT_EQ(report.device.stats_messages, 2u);
  EXPECT_TRUE(report.clean());
}

TEST(ReplayTest, ReportsNameTheirPagesByTheirBuffers) {
  const auto report =
      replay(
          begun_and({TracedMessage{.queue = kReportingQueue, .writable = {{0x200000, 0x200000}}}}))
          .value();

  EXPECT_EQ(report.device.reported_freed_bytes, 0x200000u);
}

TEST(ReplayTest, SecondDriverFindsTheDeviceReset) {
  auto trace = begun_and({message(kInflateQueue, le32({5})), TracedReset{}});
  const auto again = begun_and({message(kInflateQueue, le32({5}))});
  trace.insert(trace.end(), again.begin() + 1, again.end());

  const auto report = replay(trace).value();

  EXPECT_EQ(report.drivers, 2u);
  EXPECT_EQ(report.device.inflate_messages, 2u);
  EXPECT_TRUE(report.clean());
}

TEST(ReplayTest, WhatTheDriverDidWrongIsSaid) {
  const auto report = replay(begun_and({message(kDeflateQueue, le32({5}))})).value();

  EXPECT_FALSE(report.clean());
  EXPECT_THAT(replay_table(report), HasSubstr("NOT CLEAN"));
  EXPECT_EQ(nlohmann::json::parse(replay_json(report))["clean"], false);
}

TEST(ReplayTest, QueuesHaveTheNamesOfTheirPurpose) {
  const auto report = replay(begun()).value();

  EXPECT_EQ(report.queues[kInflateQueue].role, "inflate");
  EXPECT_EQ(report.queues[kStatsQueue].role, "statistics");
  EXPECT_EQ(report.queues[kReportingQueue].role, "reporting");
}

// ---- what is no trace ---------------------------------------------------------------------------

std::string refusal(const std::vector<TraceEvent>& trace) {
  const auto report = replay(trace);
  return report ? "taken" : report.error().message();
}

TEST(ReplayTest, TraceWithoutMemoryIsRefused) {
  EXPECT_THAT(refusal({TracedReset{}}), HasSubstr("no guest memory"));
}

TEST(ReplayTest, MessageForAQueueThatWasNotSetUpIsRefused) {
  EXPECT_THAT(refusal(begun_and({message(6, le32({1}))})), HasSubstr("queue 6"));
}

TEST(ReplayTest, QueueThatTheFeaturesDoNotBringIsRefused) {
  EXPECT_THAT(refusal(begun_and({TracedQueue{4, 64}})), HasSubstr("queue 4"));
}

TEST(ReplayTest, MessageThatWasRecordedInPartIsRefused) {
  TracedMessage part = message(kInflateQueue, le32({1}));
  part.readable[0].length = 1024;

  EXPECT_THAT(refusal(begun_and({part})), HasSubstr("only in part"));
}

TEST(ReplayTest, OtherMemoryInTheMiddleIsRefused) {
  EXPECT_THAT(refusal(begun_and({TracedMemory{{{0, kGuestBytes / 2}}}})),
              HasSubstr("guest memory changes"));
}

TEST(ReplayTest, RingThatCannotBeIsRefused) {
  EXPECT_NE(refusal(begun_and({TracedQueue{kInflateQueue, 3}})), "taken");
}

}  // namespace
}  // namespace vballoon::tool
