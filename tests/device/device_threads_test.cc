// SPDX-License-Identifier: MIT
// One thread serves the queues; others read and write registers, set targets and reset meanwhile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "device/device_fixture.h"

namespace vballoon {
namespace {

using ::testing::AnyOf;
using testing::balanced;
using testing::BlockingDiscarder;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Ge;
using testing::kNext;
using testing::kPayloads;
using testing::le32;
using ::testing::Lt;
using testing::pfn_message;
using testing::RecordingDiscarder;
using testing::Rig;

// What happened, in order, on any thread.
class Diary {
 public:
  void note(std::string what) {
    const std::lock_guard lock(mutex_);
    notes_.push_back(std::move(what));
  }
  std::vector<std::string> notes() const {
    const std::lock_guard lock(mutex_);
    return notes_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> notes_;
};

class NotingDiscarder final : public Discarder {
 public:
  NotingDiscarder(Diary& diary, std::unique_ptr<Discarder> inner)
      : diary_(diary), inner_(std::move(inner)) {}
  void discard(std::span<const HostRun> runs, DiscardReport& report) override {
    inner_->discard(runs, report);
    diary_.note("discard returned");
  }

 private:
  Diary& diary_;
  const std::unique_ptr<Discarder> inner_;
};

// A device of which a discard is in flight and held up.
class DiscardInFlightThreadsTest : public ::testing::Test {
 protected:
  DiscardInFlightThreadsTest() {
    rig_.start().send(kInflateQueue, pfn_message({5, 6}));
    blocking_->block();
    server_ = std::thread([this] { rig_.serve(kInflateQueue); });
    blocking_->wait_until_blocked();
  }
  ~DiscardInFlightThreadsTest() override { finish(); }

  void finish() {
    blocking_->release();
    if (server_.joinable()) server_.join();
  }

  Diary diary_;
  BlockingDiscarder* blocking_ = nullptr;
  Rig rig_{{.discarder = make_discarder()}};
  std::thread server_;

 private:
  std::unique_ptr<Discarder> make_discarder() {
    auto blocking = std::make_unique<BlockingDiscarder>(
        std::make_unique<NotingDiscarder>(diary_, std::make_unique<RecordingDiscarder>()));
    blocking_ = blocking.get();
    return blocking;
  }
};

TEST_F(DiscardInFlightThreadsTest, RegistersAnswerMeanwhile) {
  rig_.write_config32(kActualOffset, 2);

  EXPECT_EQ(rig_.config32(kActualOffset), 2u);
  EXPECT_EQ(rig_.device().read_status(), Rig::kRunning);
  EXPECT_EQ(rig_.device().actual_pages(), 2u);
}

TEST_F(DiscardInFlightThreadsTest, TargetCanBeSetMeanwhile) {
  ASSERT_TRUE(rig_.device().set_target_pages(77));

  EXPECT_EQ(rig_.config32(kNumPagesOffset), 77u);
  EXPECT_EQ(rig_.config_interrupts(), 1);
}

TEST_F(DiscardInFlightThreadsTest, MetricsAddUpMeanwhile) {
  const BalloonMetrics metrics = rig_.device().metrics();

  EXPECT_TRUE(balanced(metrics));
  EXPECT_EQ(metrics.inflated_bytes, 2 * kPageSize);
  EXPECT_EQ(metrics.owed_bytes, 2 * kPageSize) << "the kernel has not taken them yet";
}

TEST_F(DiscardInFlightThreadsTest, MetricsAddUpAfterwards) {
  finish();

  const BalloonMetrics metrics = rig_.device().metrics();
  EXPECT_TRUE(balanced(metrics));
  EXPECT_EQ(metrics.freed_bytes, 2 * kPageSize);
}

TEST_F(DiscardInFlightThreadsTest, PagesAreInTheBalloonMeanwhile) {
  EXPECT_TRUE(rig_.device().is_ballooned(5));
  EXPECT_EQ(rig_.device().ballooned_pages(), 2u);
}

TEST_F(DiscardInFlightThreadsTest, BufferIsNotReturnedMeanwhile) {
  EXPECT_EQ(rig_.raw(kInflateQueue).used_index(), 0);
}

TEST_F(DiscardInFlightThreadsTest, ResetReturnsAfterTheDiscard) {
  std::thread resetter([this] {
    rig_.reset();
    diary_.note("reset returned");
  });

  finish();
  resetter.join();

  EXPECT_THAT(diary_.notes(), ElementsAre("discard returned", "reset returned"));
}

TEST_F(DiscardInFlightThreadsTest, StatusReadsZeroOnlyAfterTheDiscard) {
  std::thread resetter([this] { rig_.reset(); });
  std::thread reader([this] {
    while (rig_.device().read_status() != 0) std::this_thread::yield();
    diary_.note("status is 0");
  });

  finish();
  resetter.join();
  reader.join();

  EXPECT_THAT(diary_.notes(), ElementsAre("discard returned", "status is 0"));
}

TEST_F(DiscardInFlightThreadsTest, DeflateIsServedAfterTheDiscard) {
  rig_.send(kDeflateQueue, pfn_message({5}));
  std::thread deflater([this] {
    rig_.serve(kDeflateQueue);
    diary_.note("deflate returned");
  });

  finish();
  deflater.join();

  EXPECT_THAT(diary_.notes(), ElementsAre("discard returned", "deflate returned"));
  EXPECT_FALSE(rig_.device().is_ballooned(5));
}

// ---- a reset that wants in ----------------------------------------------------------------------

// Without that it would take all the 4 GiB, for minutes.
TEST(LongMessageThreadsTest, ResetEndsAMessageOf4Gib) {
  auto recording = std::make_unique<RecordingDiscarder>();
  RecordingDiscarder& recorded = *recording;
  auto owned = std::make_unique<BlockingDiscarder>(std::move(recording));
  BlockingDiscarder& blocking = *owned;
  Rig rig({.queue_size = 1024, .discarder = std::move(owned)});
  rig.start();
  testing::RawRing ring = rig.raw(kInflateQueue);
  // The same 4 MiB over and over, so one page named 2^30 times.
  for (std::uint16_t i = 0; i < 1023; ++i) {
    ring.describe(i, {0, 4 << 20, kNext, static_cast<std::uint16_t>(i + 1)});
  }
  ring.describe(1023, {0, 4 << 20, 0, 0});
  ring.offer(0);
  blocking.block();
  std::thread server([&rig] { rig.device().process(kInflateQueue); });
  blocking.wait_until_blocked();

  std::thread resetter([&rig] { rig.reset(); });
  blocking.release();
  resetter.join();
  server.join();

  EXPECT_EQ(rig.device().read_status(), 0);
  EXPECT_LT(recorded.calls(), 4000u) << "of about 4700 for all of the message";
}

// ---- everything at once -------------------------------------------------------------------------

class BusyDeviceThreadsTest : public ::testing::Test {
 protected:
  // Serves both queues on a thread of its own until told to stop.
  void serve_until(const std::atomic<bool>& stop) {
    server_ = std::thread([this, &stop] {
      while (!stop) {
        rig_.device().process(kInflateQueue);
        rig_.device().process(kDeflateQueue);
      }
    });
  }
  // Sends a message and waits for its buffer.
  void exchange(std::uint16_t queue, std::initializer_list<std::uint32_t> pfns) {
    rig_.send(queue, pfn_message(pfns));
    while (!rig_.queue(queue).take_used()) std::this_thread::yield();
  }

  Rig rig_;
  std::thread server_;
};

TEST_F(BusyDeviceThreadsTest, RegistersOfEveryKindAreUsedWhileMessagesGoByAndAllAddsUp) {
  std::atomic<bool> stop{false};
  std::atomic<int> unbalanced{0};
  rig_.start();
  serve_until(stop);
  std::thread embedder([&] {
    for (std::uint64_t i = 0; !stop; ++i) {
      if (!rig_.device().set_target_pages(i % 100) || !balanced(rig_.device().metrics())) {
        ++unbalanced;
      }
      (void)rig_.device().target_pages();
      (void)rig_.device().actual_pages();
      (void)rig_.device().is_ballooned(5);
    }
  });
  std::thread vcpu([&] {
    for (std::uint32_t i = 0; !stop; ++i) {
      rig_.write_config32(kActualOffset, i);
      (void)rig_.config32(kNumPagesOffset);
      (void)rig_.device().read_status();
      rig_.device().write_features(Features(i));
    }
  });

  for (int i = 0; i < 300; ++i) {
    exchange(kInflateQueue, {5, 6, 5, 0xFFFF});
    exchange(kDeflateQueue, {5, 6, 7});
  }
  stop = true;
  server_.join();
  embedder.join();
  vcpu.join();

  EXPECT_EQ(unbalanced, 0);
  EXPECT_EQ(rig_.device().ballooned_pages(), 0u);
  EXPECT_EQ(rig_.device().metrics().inflated_bytes, 600 * kPageSize);
}

TEST_F(BusyDeviceThreadsTest, DeviceIsResetAndStartedAgainWhileItIsServed) {
  std::atomic<bool> stop{false};
  serve_until(stop);

  for (std::uint32_t i = 0; i < 100; ++i) {
    rig_.start();
    exchange(kInflateQueue, {i});
    rig_.send(kInflateQueue, pfn_message({i + 200}));  // may be in flight when the reset comes
    rig_.reset();
  }
  stop = true;
  server_.join();

  EXPECT_EQ(rig_.device().read_status(), 0);
  EXPECT_EQ(rig_.device().ballooned_pages(), 0u);
  EXPECT_GE(rig_.device().metrics().inflate_messages, 100u);
}

// ---- trap 3 again: a PFN read twice, by chance --------------------------------------------------

TEST(HostilePayloadThreadsTest, PfnsThatChangeAtAnyTimeAreTakenAsOneOfTheTwoAndNothingElse) {
  // Numbers that differ in one byte: there is no mixture of them.
  const auto fives = le32(std::vector<std::uint32_t>(256, 5));
  const auto others = le32(std::vector<std::uint32_t>(256, 0x205));
  Rig rig;
  rig.start().place(fives);
  std::atomic<bool> stop{false};
  std::thread guest([&] {
    while (!stop) {
      (void)rig.memory().write(kPayloads, others);
      (void)rig.memory().write(kPayloads, fives);
    }
  });

  for (int i = 0; i < 300; ++i) {
    const std::array<GuestBuffer, 1> message{{{kPayloads, 1024}}};
    ASSERT_TRUE(rig.queue(kInflateQueue).add(message, {}, 0));
    (void)rig.queue(kInflateQueue).publish();
    rig.serve(kInflateQueue);
    (void)rig.completed(kInflateQueue);
  }
  stop = true;
  guest.join();

  EXPECT_THAT(rig.discarded(), Each(AnyOf(PageRange{5, 1}, PageRange{0x205, 1})));
  EXPECT_TRUE(balanced(rig.device().metrics()));
}

}  // namespace
}  // namespace vballoon
