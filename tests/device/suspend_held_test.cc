// SPDX-License-Identifier: MIT
// Buffers that are held when their queue stops, and free page hints that come over it
// (src/device/suspend_queue.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "device/suspend_fixture.h"
#include "wire/guest_request.h"
#include "wire/page_bitmap.h"

namespace vballoon {
namespace {

using testing::behind;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Optional;
using testing::Rig;
using testing::stats_entries;
using testing::SuspendQueueTest;

constexpr std::uint16_t kStatsQueue = 2;

// ---- statistics --------------------------------------------------------------------------------

class SuspendStatsQueueTest : public SuspendQueueTest {
 protected:
  SuspendStatsQueueTest() { rig_.start(); }

  void send_stats(std::uint64_t free_bytes) {
    rig_.send(kStatsQueue, {{stats_entries({{4, free_bytes}})}});
    rig_.serve(kStatsQueue);
  }
  std::uint64_t free_bytes() {
    return rig_.device().stats().latest.value().value(StatTag::kFreeMemory).value();
  }
};

TEST_F(SuspendStatsQueueTest, HeldBufferGoesBackAndIsTakenAgain) {
  send_stats(7);

  const auto position = rig_.device().suspend_queue(kStatsQueue);

  EXPECT_THAT(position, Optional(behind(0)));
  EXPECT_THAT(rig_.completed(kStatsQueue), IsEmpty());
  ASSERT_TRUE(resume(rig_, kStatsQueue, *position));
  rig_.serve(kStatsQueue);
  EXPECT_EQ(free_bytes(), 7u);
  EXPECT_THAT(rig_.completed(kStatsQueue), IsEmpty()) << "nobody has asked";
}

TEST_F(SuspendStatsQueueTest, GuestIsAskedAfterwards) {
  send_stats(7);
  pause(rig_, kStatsQueue);

  ASSERT_TRUE(rig_.device().request_stats(std::chrono::seconds(1)));
  rig_.serve(kStatsQueue);

  EXPECT_THAT(rig_.completed(kStatsQueue), ElementsAre(0u));
}

// Otherwise an answer on its way would never be one, and the one who waits for it would not know.
TEST_F(SuspendStatsQueueTest, RequestThatIsUnderWayIsAnsweredAfterwards) {
  send_stats(7);
  ASSERT_TRUE(rig_.device().request_stats(std::chrono::seconds(1)));
  rig_.serve(kStatsQueue);
  ASSERT_THAT(rig_.completed(kStatsQueue), ElementsAre(0u));

  pause(rig_, kStatsQueue);

  EXPECT_TRUE(rig_.device().stats().requested);
  send_stats(8);
  EXPECT_FALSE(rig_.device().stats().requested);
  EXPECT_EQ(free_bytes(), 8u);
}

TEST_F(SuspendStatsQueueTest, RequestThatWaitsForABufferIsSentAfterwards) {
  ASSERT_TRUE(rig_.device().request_stats(std::chrono::seconds(1)));
  pause(rig_, kStatsQueue);

  send_stats(7);

  EXPECT_THAT(rig_.completed(kStatsQueue), ElementsAre(0u));
  EXPECT_TRUE(rig_.device().stats().requested) << "what came was collected before";
}

TEST_F(SuspendStatsQueueTest, LatestStatisticsAreKept) {
  send_stats(7);

  ASSERT_TRUE(rig_.device().suspend_queue(kStatsQueue));

  EXPECT_EQ(free_bytes(), 7u);
}

TEST_F(SuspendStatsQueueTest, BufferThatOthersWereReturnedBehindIsReturnedToo) {
  send_stats(7);
  send_stats(8);
  ASSERT_THAT(rig_.completed(kStatsQueue), ElementsAre(0u));

  const auto position = rig_.device().suspend_queue(kStatsQueue);

  EXPECT_THAT(position, Optional(behind(2)));
  EXPECT_THAT(rig_.completed(kStatsQueue), ElementsAre(0u));
}

TEST_F(SuspendStatsQueueTest, TickOfASuspendedQueueDoesNothing) {
  send_stats(7);
  rig_.device().set_stats_interval(std::chrono::seconds(1));
  ASSERT_TRUE(rig_.device().suspend_queue(kStatsQueue));

  EXPECT_EQ(rig_.device().tick(), std::nullopt);
}

// ---- free page hints, and buffers for requests
// ---------------------------------------------------

class SuspendHintsTest : public SuspendQueueTest {
 protected:
  static constexpr std::uint16_t kHintQueue = 2;
  static constexpr std::uint16_t kRequestQueue = 3;
  static constexpr std::uint64_t kBuffer = testing::kPayloads - 0x10000;

  BalloonOptions hinting(WorkBudget budget = {}) {
    return {.features = Features{Feature::kMustTellHost, Feature::kFreePageHint},
            .budget = budget,
            .on_free_page_hints = take_hints()};
  }
  BalloonOptions asking(Dialect dialect, Features features, WorkBudget budget = {}) {
    return {.dialect = dialect,
            .guest_requests = true,
            .features = features,
            .budget = budget,
            .on_free_page_hints = take_hints()};
  }
  static void post_buffer(Rig& rig, std::uint16_t queue, std::uint32_t bytes) {
    const GuestBuffer buffer{kBuffer, bytes};
    rig.offer(queue, {}, std::span(&buffer, 1));
    rig.serve(queue);
  }

  PageRanges hinted_;

 private:
  std::function<void(std::span<const PageRange>)> take_hints() {
    return [this](std::span<const PageRange> pages) {
      hinted_.insert(hinted_.end(), pages.begin(), pages.end());
    };
  }
};

TEST_F(SuspendHintsTest, HintsThatWereReadAreHandedOverAndTheRoundGoesOn) {
  Rig rig({.device = hinting({.pages = 100})});
  const std::uint32_t id = rig.start().device().start_hints().value();
  rig.send(kHintQueue, {{testing::le32({id})}});
  rig.serve(kHintQueue);
  ASSERT_THAT(rig.completed(kHintQueue), ElementsAre(0u));
  rig.send(kHintQueue, testing::message_of(Dialect::kScatterGather, {{0, 300}}));
  ASSERT_TRUE(rig.device().process(kHintQueue));

  pause(rig, kHintQueue);

  EXPECT_THAT(hinted_, ElementsAre(PageRange{0, 100}, PageRange{100, 200}));
  EXPECT_THAT(rig.completed(kHintQueue), ElementsAre(0u));
  EXPECT_EQ(rig.device().hint_status().state, HintState::kActive);
}

TEST_F(SuspendHintsTest, BufferForRequestsGoesBackAndIsTakenAgain) {
  Rig rig({.device =
               asking(Dialect::kPageBitmap, Features{Feature::kMustTellHost, Feature::kStatsVq})});
  rig.start();
  post_buffer(rig, kRequestQueue, 16);

  const auto position = rig.device().suspend_queue(kRequestQueue);

  EXPECT_THAT(position, Optional(behind(0)));
  ASSERT_TRUE(resume(rig, kRequestQueue, *position));
  ASSERT_TRUE(rig.device().request_cache_drop(CacheKinds::kBoth));
  rig.serve(kRequestQueue);
  EXPECT_THAT(rig.completed(kRequestQueue), ElementsAre(16u));
}

TEST_F(SuspendHintsTest, BufferBehindWhichAMessageWasReturnedIsReturnedEmpty) {
  Rig rig({.device =
               asking(Dialect::kPageBitmap, Features{Feature::kMustTellHost, Feature::kStatsVq})});
  rig.start();
  post_buffer(rig, kRequestQueue, 16);
  rig.send(kRequestQueue, {{std::vector<std::byte>(8)}});
  rig.serve(kRequestQueue);
  ASSERT_THAT(rig.completed(kRequestQueue), ElementsAre(0u));

  const auto position = rig.device().suspend_queue(kRequestQueue);

  EXPECT_THAT(position, Optional(behind(2)));
  EXPECT_THAT(rig.completed(kRequestQueue), ElementsAre(0u));
}

// The guest answers in one message, which says that it is the last.
TEST_F(SuspendHintsTest, LastAnswerReadInPartIsReadAgainBeforeTheRoundEnds) {
  Rig rig({.device = asking(Dialect::kPageBitmap,
                            Features{Feature::kMustTellHost, Feature::kStatsVq}, {.bytes = 1})});
  const std::uint32_t id = rig.start().device().start_hints().value();
  post_buffer(rig, kRequestQueue, 16);
  ASSERT_THAT(rig.completed(kRequestQueue), ElementsAre(16u));
  std::vector<std::uint64_t> blocks(9000, block_record(0, 1));  // more than one window
  blocks.back() = block_record(0x800, 1);
  testing::Bytes header(kAnswerHeaderBytes);
  write_answer_header(std::span(header).first<kAnswerHeaderBytes>(),
                      {.command = static_cast<std::uint8_t>(RequestCommand::kUnusedPages),
                       .last = true,
                       .id = static_cast<std::uint16_t>(id),
                       .data_bytes = static_cast<std::uint32_t>(blocks.size() * 8)});
  rig.send(kRequestQueue, {{header, testing::le64(blocks)}});
  ASSERT_TRUE(rig.device().process(kRequestQueue));

  const auto position = rig.device().suspend_queue(kRequestQueue);
  EXPECT_EQ(rig.device().hint_status().state, HintState::kActive);
  ASSERT_TRUE(resume(rig, kRequestQueue, *position));
  rig.serve(kRequestQueue);

  EXPECT_THAT(hinted_, ::testing::Contains(::testing::Field(&PageRange::first, 0x800)));
  EXPECT_EQ(rig.device().hint_status().state, HintState::kExhausted);
}

TEST_F(SuspendHintsTest, BufferOfTheControlQueueGoesBackAndIsTakenAgain) {
  constexpr std::uint16_t kControlQueue = 2;
  Rig rig({.device = asking(Dialect::kScatterGather, Features{Feature::kMustTellHost})});
  rig.start();
  post_buffer(rig, kControlQueue, 8);

  const auto position = rig.device().suspend_queue(kControlQueue);

  EXPECT_THAT(position, Optional(behind(0)));
  ASSERT_TRUE(resume(rig, kControlQueue, *position));
  ASSERT_TRUE(rig.device().start_hints());
  rig.serve(kControlQueue);
  EXPECT_THAT(rig.completed(kControlQueue), ElementsAre(8u));
}

// The control queue's turn serves that one as well.
TEST_F(SuspendHintsTest, ControlQueueGoesOnWithoutItsQueueForFreePages) {
  constexpr std::uint16_t kControlQueue = 2;
  constexpr std::uint16_t kFreePageQueue = 3;
  Rig rig({.device = asking(Dialect::kScatterGather, Features{Feature::kMustTellHost})});
  rig.start();
  ASSERT_TRUE(rig.device().suspend_queue(kFreePageQueue));
  post_buffer(rig, kControlQueue, 8);

  ASSERT_TRUE(rig.device().start_hints());
  rig.serve(kControlQueue);

  EXPECT_THAT(rig.completed(kControlQueue), ElementsAre(8u));
}

}  // namespace
}  // namespace vballoon
