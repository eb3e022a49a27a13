// SPDX-License-Identifier: MIT
// Discards that wait, done by a worker while the guest goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "device/device_fixture.h"

namespace vballoon {
namespace {

using testing::balanced;
using testing::BlockingDiscarder;
using ::testing::ElementsAre;
using testing::pfn_message;
using testing::RecordingDiscarder;
using testing::Rig;

// A worker whose call to the kernel is held up, with pages 5 and 6 in it.
class OwedDiscardInFlightThreadsTest : public ::testing::Test {
 protected:
  OwedDiscardInFlightThreadsTest() {
    rig_.start().inflate({5, 6});
    blocking_->block();
    worker_ = std::thread([this] {
      while (rig_.device().run_owed_discards()) {
      }
    });
    blocking_->wait_until_blocked();
  }
  ~OwedDiscardInFlightThreadsTest() override { finish(); }

  void finish() {
    blocking_->release();
    if (worker_.joinable()) worker_.join();
  }
  // Does something that must wait for the kernel; true when it was not done before it may be.
  template <typename Action>
  bool waits(Action action) {
    std::atomic<bool> done{false};
    std::thread other([&] {
      action();
      done = true;
    });
    // It cannot be proved that it would have gone on; what can be seen is that it did.
    for (int i = 0; i < 1000 && !done; ++i) std::this_thread::yield();
    const bool waited = !done;
    finish();
    other.join();
    return waited;
  }

  BlockingDiscarder* blocking_ = nullptr;
  Rig rig_{{.device = {.write_behind = true}, .discarder = make_discarder()}};
  std::thread worker_;

 private:
  std::unique_ptr<Discarder> make_discarder() {
    auto blocking = std::make_unique<BlockingDiscarder>(std::make_unique<RecordingDiscarder>());
    blocking_ = blocking.get();
    return blocking;
  }
};

TEST_F(OwedDiscardInFlightThreadsTest, PagesInTheKernelAreOwed) {
  const BalloonMetrics metrics = rig_.device().metrics();

  EXPECT_EQ(metrics.owed_bytes, 2 * kPageSize);
  EXPECT_TRUE(balanced(metrics));
}

TEST_F(OwedDiscardInFlightThreadsTest, OtherPagesAreInflatedAndDeflatedMeanwhile) {
  rig_.inflate({9});
  rig_.deflate({9});

  EXPECT_THAT(rig_.completed(kDeflateQueue), ElementsAre(0u));
  EXPECT_EQ(rig_.device().metrics().cancelled_bytes, kPageSize);
}

TEST_F(OwedDiscardInFlightThreadsTest, BAL_D_05_DeflateOfAPageInTheKernelWaits) {
  rig_.send(kDeflateQueue, pfn_message({6}));

  EXPECT_TRUE(waits([this] { rig_.serve(kDeflateQueue); }));

  EXPECT_FALSE(rig_.device().is_ballooned(6));
  EXPECT_EQ(rig_.device().metrics().freed_bytes, 2 * kPageSize);
}

TEST_F(OwedDiscardInFlightThreadsTest, ResetWaits) {
  EXPECT_TRUE(waits([this] { rig_.reset(); }));

  EXPECT_EQ(rig_.device().metrics().freed_bytes, 2 * kPageSize);
}

TEST_F(OwedDiscardInFlightThreadsTest, StatusReadsZeroOnlyAfterTheDiscard) {
  std::thread resetter([this] { rig_.reset(); });

  EXPECT_TRUE(waits([this] {
    while (rig_.device().read_status() != 0) std::this_thread::yield();
  }));

  resetter.join();
}

TEST_F(OwedDiscardInFlightThreadsTest, PageNamedOnceMoreIsBookedOnceWhateverBecomesOfIt) {
  rig_.inflate({6});

  finish();

  EXPECT_EQ(rig_.device().metrics().freed_bytes, 2 * kPageSize);
  EXPECT_EQ(rig_.device().metrics().cancelled_bytes, kPageSize);
  EXPECT_TRUE(testing::balanced(rig_.device().metrics()));
}

TEST_F(OwedDiscardInFlightThreadsTest, InhibitWaits) {
  EXPECT_TRUE(waits([this] { rig_.device().inhibit_discards(); }));
}

TEST_F(OwedDiscardInFlightThreadsTest, NewMemoryWaitsAndWhatTheKernelTookIsFreed) {
  const auto high = testing::part_of(rig_.shared_memory(), {{0x800, 0x400}});

  EXPECT_TRUE(waits([&] { ASSERT_TRUE(rig_.device().set_memory(high)); }));

  EXPECT_EQ(rig_.device().metrics().freed_bytes, 2 * kPageSize);
  EXPECT_EQ(rig_.device().metrics().forgone_bytes, 0u);
}

TEST_F(OwedDiscardInFlightThreadsTest, SavingWaitsAndWhatTheKernelTookIsNotOwed) {
  std::vector<std::byte> state;

  EXPECT_TRUE(waits([&] { state = rig_.device().save(); }));

  Rig other({.device = {.write_behind = true}, .memory = rig_.shared_memory()});
  ASSERT_TRUE(other.device().restore(state));
  EXPECT_TRUE(other.device().is_ballooned(6));
  EXPECT_EQ(other.device().metrics().owed_bytes, 0u);
}

// Guest, device, worker and registers on four threads, with memory that the kernel really takes
// back: no byte that the guest writes after a deflate may be lost.
TEST(WriteBehindThreadsTest, NoByteOfADeflatedPageIsLost) {
  Rig rig({.device = {.write_behind = true}, .discarder = make_kernel_discarder()});
  rig.start();
  std::atomic<bool> stop{false};
  std::thread device([&] {
    while (!stop) {
      rig.device().process(kInflateQueue);
      rig.device().process(kDeflateQueue);
      std::this_thread::yield();
    }
  });
  std::thread worker([&] {
    while (!stop) {
      rig.device().run_owed_discards();
      std::this_thread::yield();
    }
  });
  std::thread registers([&] {
    while (!stop) {
      (void)rig.device().metrics();
      rig.device().inhibit_discards();
      (void)rig.config32(kNumPagesOffset);
      rig.device().resume_discards();
      std::this_thread::yield();
    }
  });
  const auto exchange = [&](std::uint16_t queue) {
    rig.send(queue, pfn_message({5, 6, 7, 100}));
    while (!rig.queue(queue).take_used()) std::this_thread::yield();
  };

  int lost = 0;
  for (int round = 0; round < 300; ++round) {
    exchange(kInflateQueue);
    exchange(kDeflateQueue);
    for (const Pfn page : {5, 6, 7, 100}) std::memset(rig.host(page), round, kPageSize);
    std::this_thread::yield();
    for (const Pfn page : {5, 6, 7, 100}) {
      lost += rig.host(page)[100] == static_cast<std::byte>(round) ? 0 : 1;
    }
  }
  stop = true;
  device.join();
  worker.join();
  registers.join();

  EXPECT_EQ(lost, 0);
  EXPECT_TRUE(balanced(rig.device().metrics()));
}

}  // namespace
}  // namespace vballoon
