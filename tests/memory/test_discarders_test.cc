// SPDX-License-Identifier: MIT
// The discarders that other tests rely on (tests/memory/test_discarders.h).
#include "memory/test_discarders.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <thread>

namespace vballoon {
namespace {

using testing::BlockingDiscarder;
using ::testing::ElementsAre;
using testing::RecordingDiscarder;

class RecordingDiscarderTest : public ::testing::Test {
 protected:
  const MemoryRegion& region() const { return memory_->regions()[0]; }
  HostRun run(std::size_t first, std::size_t count) const {
    return {region().host + first * kPageSize, count * kPageSize, &region()};
  }

  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(std::array{RegionLayout{0x100000, 16 * kPageSize}}).value();
  RecordingDiscarder discarder_;
  DiscardReport report_;
};

TEST_F(RecordingDiscarderTest, RunsAreRecordedAndTheMemoryIsLeftAlone) {
  region().host[kPageSize] = std::byte{7};

  discarder_.discard(std::array{run(1, 2), run(5, 1)}, report_);

  EXPECT_THAT(discarder_.pages(), ElementsAre(PageRange{0x101, 2}, PageRange{0x105, 1}));
  EXPECT_EQ(report_.freed_bytes, 3 * kPageSize);
  EXPECT_EQ(region().host[kPageSize], std::byte{7});
}

TEST_F(RecordingDiscarderTest, RunsWithAFailingByteAreReported) {
  discarder_.fail_at(region().host + 2 * kPageSize, ENOMEM);

  discarder_.discard(std::array{run(1, 2), run(5, 1)}, report_);

  ASSERT_EQ(report_.failures.size(), 1u);
  EXPECT_EQ(report_.failures[0].run, run(1, 2));
  EXPECT_EQ(report_.failures[0].os_error, ENOMEM);
  EXPECT_EQ(report_.freed_bytes, kPageSize);
}

TEST_F(RecordingDiscarderTest, HealedDiscarderTakesEverything) {
  discarder_.fail_at(region().host, ENOMEM);
  discarder_.heal();

  discarder_.discard(std::array{run(0, 1)}, report_);

  EXPECT_EQ(report_.freed_bytes, kPageSize);
}

TEST(BlockingDiscarderThreadsTest, BlockedDiscardGoesOnWhenReleased) {
  auto recording = std::make_unique<RecordingDiscarder>();
  const RecordingDiscarder& inner = *recording;
  BlockingDiscarder discarder(std::move(recording));
  discarder.block();
  DiscardReport report;
  std::thread thread([&] { discarder.discard({}, report); });
  discarder.wait_until_blocked();
  const std::uint64_t calls_while_blocked = inner.calls();

  discarder.release();
  thread.join();

  EXPECT_EQ(calls_while_blocked, 0u);
  EXPECT_EQ(inner.calls(), 1u);
}

TEST(BlockingDiscarderThreadsTest, DiscarderThatWasNeverBlockedForwards) {
  auto recording = std::make_unique<RecordingDiscarder>();
  const RecordingDiscarder& inner = *recording;
  BlockingDiscarder discarder(std::move(recording));
  DiscardReport report;

  discarder.discard({}, report);

  EXPECT_EQ(inner.calls(), 1u);
}

}  // namespace
}  // namespace vballoon
