// SPDX-License-Identifier: MIT
// One thread serves the queues; others read and write registers, set targets and reset meanwhile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "busy_threads.h"
#include "device/device_fixture.h"

namespace vballoon {
namespace {

using ::testing::AnyOf;
using testing::balanced;
using testing::BlockingDiscarder;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::kPayloads;
using testing::le32;
using testing::part_of;
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
  EXPECT_THAT(rig_.completed(kInflateQueue), ::testing::IsEmpty());
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

class SetMemoryThreadsTest : public DiscardInFlightThreadsTest {};

TEST_F(SetMemoryThreadsTest, DeviceWaitsForTheDiscardInFlight) {
  const auto same = part_of(rig_.shared_memory(), {{0, 0x400}, {0x800, 0x400}});
  std::thread setter(
      [&] { diary_.note(rig_.device().set_memory(same) ? "memory is set" : "memory is refused"); });

  finish();
  setter.join();

  EXPECT_THAT(diary_.notes(), ElementsAre("discard returned", "memory is set"));
}

class SuspendQueueThreadsTest : public DiscardInFlightThreadsTest {};

TEST_F(SuspendQueueThreadsTest, QueueStandsAfterTheDiscardInFlight) {
  std::thread suspender([this] {
    const auto position = rig_.device().suspend_queue(kInflateQueue);
    diary_.note(position && position->next_available == 1 ? "queue stands behind its message"
                                                          : "queue stands elsewhere");
  });

  finish();
  suspender.join();

  EXPECT_THAT(diary_.notes(), ElementsAre("discard returned", "queue stands behind its message"));
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
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

// One chain of 4 GiB: the same 4 MiB of zeros over and over, so one page named 2^30 times.
void offer_4_gib(Rig& rig) {
  rig.offer(kInflateQueue, std::vector<GuestBuffer>(1024, {0, 4 << 20}));
}

// Without that the reset would wait for all of it, which takes minutes.
TEST(LongMessageThreadsTest, ResetEndsAMessageOf4Gib) {
  auto recording = std::make_unique<RecordingDiscarder>();
  RecordingDiscarder& recorded = *recording;
  auto owned = std::make_unique<BlockingDiscarder>(std::move(recording));
  BlockingDiscarder& blocking = *owned;
  Rig rig({.queue_size = 1024, .discarder = std::move(owned)});
  offer_4_gib(rig.start());
  blocking.block();
  std::thread server([&rig] { rig.serve(kInflateQueue); });
  blocking.wait_until_blocked();

  std::thread resetter([&rig] { rig.reset(); });
  blocking.release();
  resetter.join();
  server.join();

  EXPECT_EQ(rig.device().read_status(), 0);
  EXPECT_LT(recorded.calls(), 4000u) << "of about 4700 for all of the message";
}

// Pages in order: each window is one range, and the batch never full. The copy of what the guest
// wrote takes a second or more; a reset must not wait for it.
TEST(LongMessageThreadsTest, ResetEndsAMessageThatNeverFillsTheBatch) {
  std::atomic<int> looks{0};
  BalloonOptions options;
  options.clock = [&looks] { return std::chrono::nanoseconds(++looks); };
  Rig rig({.device = options, .queue_size = 1024});
  std::vector<std::uint32_t> pfns(1 << 20);
  std::iota(pfns.begin(), pfns.end(), 0);
  std::memcpy(rig.host(0), pfns.data(), 4 << 20);
  offer_4_gib(rig.start());
  const int before = looks;
  std::thread server([&rig] { rig.serve(kInflateQueue); });
  while (looks == before) std::this_thread::yield();  // until it serves

  rig.reset();
  server.join();

  EXPECT_LT(rig.errors(Errc::kPageRepeated), (1023ULL << 20))
      << "of all of the message: 2^20 pages, 1024 times";
}

// ---- everything at once -------------------------------------------------------------------------

class BusyDeviceThreadsTest : public ::testing::Test, protected testing::BusyThreads {
 protected:
  ~BusyDeviceThreadsTest() override { finish(); }

  void keep_serving() {
    keep_doing([this] {
      rig_.device().process(kInflateQueue);
      rig_.device().process(kDeflateQueue);
    });
  }

  template <typename Action>
  static void times(std::uint32_t count, Action action) {
    for (std::uint32_t i = 0; i < count; ++i) action(i);
  }
  // Sends a message and waits for its buffer.
  void exchange(std::uint16_t queue, std::initializer_list<std::uint32_t> pfns) {
    rig_.send(queue, pfn_message(pfns));
    while (!rig_.queue(queue).take_used()) std::this_thread::yield();
  }

  Rig rig_;
};

TEST_F(BusyDeviceThreadsTest, RegistersOfEveryKindAreUsedWhileMessagesGoByAndAllAddsUp) {
  std::atomic<int> unbalanced{0};
  rig_.start();
  keep_serving();
  keep_doing([this, &unbalanced, target = 0u]() mutable {
    (void)rig_.device().set_target_pages(++target % 100);
    (void)rig_.device().target_pages();
    (void)rig_.device().actual_pages();
    (void)rig_.device().is_ballooned(5);
    unbalanced += balanced(rig_.device().metrics()) ? 0 : 1;
  });
  keep_doing([this, actual = 0u]() mutable {
    rig_.write_config32(kActualOffset, ++actual);
    (void)rig_.config32(kNumPagesOffset);
    (void)rig_.device().read_status();
    rig_.write_features(Features(actual));
  });

  times(100, [this](std::uint32_t) {
    exchange(kInflateQueue, {5, 6, 5, 0xFFFF});
    exchange(kDeflateQueue, {5, 6, 7});
  });
  finish();

  EXPECT_EQ(unbalanced, 0);
  EXPECT_EQ(rig_.device().ballooned_pages(), 0u);
  EXPECT_EQ(rig_.device().metrics().inflated_bytes, 200 * kPageSize);
}

TEST_F(BusyDeviceThreadsTest, DeviceIsResetAndStartedAgainWhileItIsServed) {
  keep_serving();

  times(100, [this](std::uint32_t i) {
    rig_.start();
    exchange(kInflateQueue, {i});
    rig_.send(kInflateQueue, pfn_message({i + 200}));  // may be in flight when the reset comes
    rig_.reset();
  });
  finish();

  EXPECT_EQ(rig_.device().read_status(), 0);
  EXPECT_EQ(rig_.device().ballooned_pages(), 0u);
  EXPECT_GE(rig_.device().metrics().inflate_messages, 100u);
}

TEST_F(BusyDeviceThreadsTest, MemoryIsReplacedWhileMessagesGoBy) {
  const PageRange high{0x800, 0x400};
  const auto whole = part_of(rig_.shared_memory(), {{0, 0x400}, high});
  const auto cut = part_of(rig_.shared_memory(), {{0, 0x100}, {0x100, 0x300}, high});
  std::atomic<int> unbalanced{0};
  rig_.start();
  keep_serving();
  keep_doing([this] { (void)rig_.device().run_owed_discards(); });
  keep_doing([this, &unbalanced] {
    (void)rig_.device().set_target_pages(7);
    (void)rig_.device().is_ballooned(0x801);
    unbalanced += balanced(rig_.device().metrics()) ? 0 : 1;
  });
  keep_doing([this, &whole, &cut] {
    (void)rig_.device().set_memory(cut);
    (void)rig_.device().set_memory(whole);
  });

  times(100, [this](std::uint32_t) {
    exchange(kInflateQueue, {5, 0x105, 0x801});
    exchange(kDeflateQueue, {5, 0x105, 0x801});
  });
  finish();

  EXPECT_EQ(unbalanced, 0);
  EXPECT_EQ(rig_.device().ballooned_pages(), 0u);
  EXPECT_EQ(rig_.device().metrics().inflated_bytes, 300 * kPageSize);
  EXPECT_EQ(rig_.device().metrics().deflated_bytes, 300 * kPageSize);
}

TEST_F(BusyDeviceThreadsTest, QueueStopsAndGoesOnWhileMessagesGoBy) {
  rig_.start();
  keep_serving();
  keep_doing([this] {
    const auto position = rig_.device().suspend_queue(kInflateQueue);
    if (position) {
      (void)rig_.device().resume_queue(kInflateQueue, rig_.ring_config(kInflateQueue), *position);
    }
  });

  times(100, [this](std::uint32_t i) { exchange(kInflateQueue, {i, i + 0x800}); });
  finish();

  EXPECT_EQ(rig_.device().ballooned_pages(), 200u);
  EXPECT_EQ(rig_.device().metrics().inflated_bytes, 200 * kPageSize);
  EXPECT_EQ(rig_.queue(kInflateQueue).bogus_used(), 0u);
}

// A reset that waits ends a turn early, but not what a suspended queue still has to do.
TEST_F(BusyDeviceThreadsTest, MessageIsAnsweredOnlyWhenAllOfItWasDoneThoughAResetWaits) {
  BalloonOptions options;
  options.budget = {.pages = 1};
  Rig rig({.device = options});
  keep_doing([&rig] { rig.device().process(kInflateQueue); });

  times(100, [&rig](std::uint32_t) {
    const std::uint64_t before = rig.device().metrics().inflated_bytes;
    rig.start().send(kInflateQueue, pfn_message({1, 3, 5, 7, 9}));
    std::thread suspender([&rig] { (void)rig.device().suspend_queue(kInflateQueue); });
    rig.reset();
    suspender.join();
    const bool answered = !rig.completed(kInflateQueue).empty();
    const bool done = rig.device().metrics().inflated_bytes == before + 5 * kPageSize;
    EXPECT_EQ(answered, done);
    EXPECT_EQ(rig.device().ballooned_pages(), 0u);
  });
  finish();

  EXPECT_TRUE(balanced(rig.device().metrics()));
}

// Trap 3 of hostile_driver_test.cc again, by chance: a PFN read twice.
TEST_F(BusyDeviceThreadsTest, PfnsThatChangeAtAnyTimeAreTakenAsOneOfTheTwoAndNothingElse) {
  // Numbers that differ in one byte: there is no mixture of them.
  const auto fives = le32(std::vector<std::uint32_t>(256, 5));
  const auto others = le32(std::vector<std::uint32_t>(256, 0x205));
  const GuestBuffer payload = rig_.start().place(fives);
  keep_doing([this, &fives, &others] {
    (void)rig_.memory().write(kPayloads, others);
    (void)rig_.memory().write(kPayloads, fives);
  });

  times(100, [this, &payload](std::uint32_t) {
    (void)rig_.queue(kInflateQueue).add(std::span(&payload, 1), {}, 0);
    (void)rig_.queue(kInflateQueue).publish();
    rig_.serve(kInflateQueue);
    (void)rig_.completed(kInflateQueue);
  });
  finish();

  EXPECT_EQ(rig_.device().metrics().inflate_messages, 100u);
  EXPECT_THAT(rig_.discarded(), Each(AnyOf(PageRange{5, 1}, PageRange{0x205, 1})));
  EXPECT_TRUE(balanced(rig_.device().metrics()));
}

}  // namespace
}  // namespace vballoon
