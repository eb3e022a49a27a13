// SPDX-License-Identifier: MIT
// In which queue the guest did something wrong (BalloonMetrics::queue_errors).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>

#include "device/suspend_fixture.h"
#include "vballoon/balloon_registers.h"

namespace vballoon {
namespace {

using testing::kHole;
using testing::pfn_message;
using testing::Rig;
using testing::stats_entries;
using testing::SuspendQueueTest;

std::uint64_t errors_in(Rig& rig, QueueUse use) {
  const BalloonMetrics metrics = rig.device().metrics();
  const auto& errors = metrics.queue_errors[static_cast<std::size_t>(use)];
  return std::accumulate(errors.begin(), errors.end(), std::uint64_t{0});
}

class QueueErrorsTest : public SuspendQueueTest {};

TEST_F(QueueErrorsTest, AreCountedForTheQueueWhoseMessageIsWrong) {
  rig_.start().inflate({kHole});
  rig_.deflate({7});
  rig_.deflate({8});

  const BalloonMetrics metrics = rig_.device().metrics();
  const auto inflate = static_cast<std::size_t>(QueueUse::kInflate);
  const auto deflate = static_cast<std::size_t>(QueueUse::kDeflate);
  EXPECT_EQ(metrics.queue_errors[inflate][static_cast<std::size_t>(Errc::kPageOutOfRange)], 1u);
  EXPECT_EQ(metrics.queue_errors[deflate][static_cast<std::size_t>(Errc::kPageNotInflated)], 2u);
  EXPECT_EQ(errors_in(rig_, QueueUse::kInflate), 1u);
  EXPECT_EQ(errors_in(rig_, QueueUse::kDeflate), 2u);
}

TEST_F(QueueErrorsTest, AreOfStatisticsToo) {
  rig_.start().send(2, {{stats_entries({{4, 1}})}});
  rig_.send(2, {{stats_entries({{4, 1}})}});
  rig_.serve(2);

  EXPECT_EQ(errors_in(rig_, QueueUse::kStats), 1u) << "a buffer while one is held";
}

TEST_F(QueueErrorsTest, RegistersAreNoQueue) {
  rig_.start().inflate({5});
  const std::array<std::byte, 4> bytes{};
  rig_.device().write_config(kNumPagesOffset, bytes);

  EXPECT_EQ(rig_.device().metrics().count(Errc::kConfigReadOnly), 1u);
  EXPECT_EQ(errors_in(rig_, QueueUse::kInflate), 0u);
}

TEST_F(QueueErrorsTest, WhatASuspendedQueueStillHadToDealWithIsItsOwn) {
  Rig rig({.device = options({.pages = 2})});
  rig.start().send(kInflateQueue, pfn_message({1, 2, kHole}));
  EXPECT_TRUE(rig.device().process(kInflateQueue));

  ASSERT_TRUE(rig.device().suspend_queue(kInflateQueue));

  EXPECT_EQ(errors_in(rig, QueueUse::kInflate), 1u);
}

}  // namespace
}  // namespace vballoon
