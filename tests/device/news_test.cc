// SPDX-License-Identifier: MIT
// Who shows the device is told when the guest has brought something new (BalloonOptions::news).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <span>
#include <utility>

#include "device/device_fixture.h"

namespace vballoon {
namespace {

using testing::Rig;
using testing::stats_entries;

constexpr std::uint16_t kStatsQueue = 2;
constexpr std::uint16_t kHintQueue = 3;

class NewsTest : public ::testing::Test {
 protected:
  // How often there were news since the last call.
  int news() { return std::exchange(news_, 0); }

  void send_stats() {
    rig_.send(kStatsQueue, {{stats_entries({{4, 1}})}});
    rig_.serve(kStatsQueue);
  }
  void send_hint_command(std::uint32_t id) {
    rig_.send(kHintQueue, {{testing::le32({id})}});
    rig_.serve(kHintQueue);
  }

  int news_ = 0;
  Rig rig_{{.device = {.features = Features{Feature::kMustTellHost, Feature::kStatsVq,
                                            Feature::kFreePageHint},
                       .news = [this] { ++news_; },
                       .on_free_page_hints = [](std::span<const PageRange>) {},
                       .clock = [] { return std::chrono::nanoseconds(0); }}}};
};

TEST_F(NewsTest, ActualIsNews) {
  rig_.start();
  (void)news();

  rig_.write_config32(kActualOffset, 5);

  EXPECT_EQ(news(), 1);
}

TEST_F(NewsTest, StatusIsNews) {
  rig_.negotiate().set_queues();
  (void)news();

  rig_.write_status(Rig::kRunning);

  EXPECT_EQ(news(), 1);
}

TEST_F(NewsTest, ResetIsNews) {
  rig_.start();
  (void)news();

  rig_.reset();

  EXPECT_EQ(news(), 1);
}

TEST_F(NewsTest, StatisticsAreNews) {
  rig_.start();
  (void)news();

  send_stats();

  EXPECT_EQ(news(), 1);
}

TEST_F(NewsTest, RequestForStatisticsIsNone) {
  rig_.start();
  send_stats();
  ASSERT_TRUE(rig_.device().request_stats(std::chrono::seconds(1)));
  (void)news();

  rig_.serve(kStatsQueue);

  EXPECT_EQ(rig_.completed(kStatsQueue).size(), 1u);
  EXPECT_EQ(news(), 0);
}

TEST_F(NewsTest, RoundOfHintsThatBeginsAndEndsIsNews) {
  const std::uint32_t id = rig_.start().device().start_hints().value();
  (void)news();

  send_hint_command(id);
  EXPECT_EQ(news(), 1);
  send_hint_command(kHintStop);
  EXPECT_EQ(news(), 1);
}

TEST_F(NewsTest, PagesAreNone) {
  rig_.start();
  (void)news();

  rig_.inflate({5});
  rig_.deflate({5});

  EXPECT_EQ(news(), 0);
}

TEST_F(NewsTest, TargetIsNone) {
  rig_.start();
  (void)news();

  ASSERT_TRUE(rig_.device().set_target_pages(5));

  EXPECT_EQ(news(), 0);
}

TEST_F(NewsTest, QueueThatBreaksIsNews) {
  Rig rig({.device = {.news = [this] { ++news_; }}, .packed = false});
  rig.start();
  rig.raw_split(kInflateQueue).set_avail_index(0x1000);
  (void)news();

  rig.serve(kInflateQueue);

  EXPECT_NE(rig.device().read_status() & kStatusNeedsReset, 0);
  EXPECT_EQ(news(), 1);
}

TEST_F(NewsTest, QueueWithoutAPlaceInAnotherMemoryIsNews) {
  rig_.start();
  (void)news();

  ASSERT_TRUE(
      rig_.device().set_memory(testing::part_of(rig_.shared_memory(), {{0, testing::kLowPages}})));

  EXPECT_EQ(news(), 1);
}

// Whoever is told may look at what is new.
TEST_F(NewsTest, DeviceMayBeAskedFromThere) {
  std::uint32_t seen = 0;
  Rig* rig = nullptr;
  Rig shown({.device = {.news = [&] {
               if (rig != nullptr) seen = rig->device().actual_pages();
             }}});
  rig = &shown;
  shown.start();

  shown.write_config32(kActualOffset, 5);

  EXPECT_EQ(seen, 5u);
}

TEST_F(NewsTest, MessageThatIsWrongIsNewsOnce) {
  rig_.start();
  (void)news();

  rig_.inflate({0xFFFF});
  EXPECT_EQ(news(), 1);

  rig_.inflate({1});
  EXPECT_EQ(news(), 0);
}

}  // namespace
}  // namespace vballoon
