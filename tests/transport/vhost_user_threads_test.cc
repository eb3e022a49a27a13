// SPDX-License-Identifier: MIT
// A back end of vhost-user with a thread of its own, and others that use its device meanwhile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>

#include "busy_threads.h"
#include "memory/test_discarders.h"
#include "transport/vhost_user_rig.h"
#include "vballoon/balloon_registers.h"
#include "vballoon/sim/balloon_driver.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon {
namespace {

using testing::SharedGuestMemory;
using testing::VhostUserFrontEnd;
namespace vhost = testing::vhost;

class VhostUserThreadsTest : public ::testing::Test, protected testing::BusyThreads {
 protected:
  explicit VhostUserThreadsTest(BalloonOptions options = {}) {
    back_end_ = VhostUserBackend::create(listen_on_unix_socket(path_.str()).value(),
                                         make_kernel_discarder(), std::move(options))
                    .value();
    thread_ = std::thread([this] { back_end_->run(); });
  }
  ~VhostUserThreadsTest() override {
    finish();
    back_end_->stop();
    thread_.join();
  }

  std::unique_ptr<VhostUserFrontEnd> connect(
      std::uint64_t protocol_features = vhost::kPlainProtocolFeatures) {
    return std::make_unique<VhostUserFrontEnd>(
        path_.str(), memory_, testing::FrontEndOptions{.protocol_features = protocol_features});
  }
  BalloonDevice& device() { return back_end_->device(); }

  testing::SocketPath path_;
  SharedGuestMemory memory_;
  std::unique_ptr<VhostUserBackend> back_end_;
  std::thread thread_;
};

TEST_F(VhostUserThreadsTest, TargetFromAnotherThreadReachesTheDriver) {
  const auto front_end = connect();
  sim::PageAllocator allocator(PageRanges{{0, 0x400}, {0x800, 0x400}});
  auto driver =
      sim::BalloonDriver::probe(*front_end, memory_.guest(), allocator, {.reserve_pages = 64})
          .value();

  ASSERT_TRUE(device().set_target_pages(500));
  const auto said = front_end->take_messages(20'000);

  ASSERT_FALSE(said.empty());
  EXPECT_EQ(said.front().request, vhost::kConfigChange);
  while (driver->step(std::chrono::nanoseconds(0)).kind == sim::DriverWait::Kind::kUsedBuffer) {
    std::this_thread::yield();
  }
  EXPECT_EQ(driver->ballooned_pages(), 500u);
  EXPECT_EQ(device().ballooned_pages(), 500u);
}

TEST_F(VhostUserThreadsTest, DeviceIsUsedByOthersWhileAGuestInflatesAndDeflates) {
  const auto front_end = connect(vhost::kEveryProtocolFeature);
  sim::PageAllocator allocator(PageRanges{{0, 0x400}, {0x800, 0x400}});
  auto driver =
      sim::BalloonDriver::probe(*front_end, memory_.guest(), allocator, {.reserve_pages = 64})
          .value();
  std::atomic<int> unbalanced{0};
  keep_doing([this, target = 0u]() mutable { (void)device().set_target_pages(++target % 1000); });
  keep_doing([this, &unbalanced] {
    const BalloonMetrics m = device().metrics();
    const std::uint64_t sum = m.freed_bytes + m.owed_bytes + m.forgone_bytes + m.cancelled_bytes;
    unbalanced += sum == m.inflated_bytes ? 0 : 1;
    (void)device().actual_pages();
    (void)device().memory_bytes();
    (void)device().negotiated_features();
    device().set_stats_interval(std::chrono::milliseconds(1));
    (void)device().request_stats(std::chrono::seconds(1));
  });

  for (int i = 0; i < 300; ++i) {
    (void)driver->step(std::chrono::nanoseconds(0));
    (void)front_end->take_config_changes();
    std::this_thread::yield();
  }
  finish();

  EXPECT_EQ(unbalanced, 0);
}

TEST_F(VhostUserThreadsTest, DeviceIsUsedByOthersWhileFrontEndsComeAndGo) {
  keep_doing([this, target = 0u]() mutable {
    (void)device().set_target_pages(++target % 1000);
    (void)device().ballooned_pages();
    (void)device().stats();
    device().inhibit_discards();
    device().resume_discards();
  });

  for (int i = 0; i < 30; ++i) {
    const auto front_end = connect();
    sim::PageAllocator allocator(PageRanges{{0, 0x400}, {0x800, 0x400}});
    auto driver =
        sim::BalloonDriver::probe(*front_end, memory_.guest(), allocator, {.reserve_pages = 64})
            .value();
    (void)driver->step(std::chrono::nanoseconds(0));
    front_end->die();
  }
  finish();
  const auto last = connect();

  EXPECT_TRUE(last->read_features().has(Feature::kVersion1));
}

// An embedder's thread gives back what is owed.
class VhostUserWriteBehindThreadsTest : public VhostUserThreadsTest {
 protected:
  VhostUserWriteBehindThreadsTest()
      : VhostUserThreadsTest({.write_behind = true, .discards_owed = [] {}}) {}
};

TEST_F(VhostUserWriteBehindThreadsTest, WhatIsOwedIsGivenBackWhileFrontEndsComeAndGo) {
  keep_doing([this] { (void)device().run_owed_discards(); });

  for (int i = 0; i < 20; ++i) {
    const auto front_end = connect();
    sim::PageAllocator allocator(PageRanges{{0, 0x400}, {0x800, 0x400}});
    auto driver =
        sim::BalloonDriver::probe(*front_end, memory_.guest(), allocator, {.reserve_pages = 64})
            .value();
    ASSERT_TRUE(device().set_target_pages(500));
    while (driver->ballooned_pages() != 500) {
      (void)driver->step(std::chrono::nanoseconds(0));
      std::this_thread::yield();
    }
    front_end->die();
  }
  finish();

  const BalloonMetrics m = device().metrics();
  EXPECT_EQ(m.inflated_bytes, m.freed_bytes + m.owed_bytes + m.forgone_bytes + m.cancelled_bytes);
}

TEST(VhostUserRunThreads, StopBeforeRunEndsIt) {
  const testing::SocketPath path;
  const auto back_end =
      VhostUserBackend::create(listen_on_unix_socket(path.str()).value(), make_kernel_discarder())
          .value();

  back_end->stop();

  back_end->run();
  SUCCEED() << "it came back";
}

TEST(VhostUserRunThreads, RunCanBeCalledAgain) {
  const testing::SocketPath path;
  const auto back_end =
      VhostUserBackend::create(listen_on_unix_socket(path.str()).value(), make_kernel_discarder())
          .value();
  for (int i = 0; i < 2; ++i) {
    std::thread thread([&back_end] { back_end->run(); });
    const SharedGuestMemory memory;
    const VhostUserFrontEnd front_end(path.str(), memory);

    back_end->stop();
    thread.join();
  }
}

}  // namespace
}  // namespace vballoon
