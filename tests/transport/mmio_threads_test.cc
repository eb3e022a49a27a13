// SPDX-License-Identifier: MIT
// The registers of virtio-mmio (src/transport/mmio.cc) while other virtual processors write to
// them and a thread serves the queues.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "busy_threads.h"
#include "device/device_fixture.h"
#include "ring/ring_kind.h"
#include "transport/mmio_registers.h"
#include "vballoon/transport/mmio.h"
#include "vm/mmio_access.h"

namespace vballoon {
namespace {

using testing::BlockingDiscarder;
using testing::Rig;
using testing::RingKind;

class MmioThreadsTest : public ::testing::Test {
 protected:
  MmioThreadsTest() {
    auto discarder =
        std::make_unique<BlockingDiscarder>(std::make_unique<testing::RecordingDiscarder>());
    discarder_ = discarder.get();
    mmio_ =
        MmioTransport::create(memory_, std::move(discarder),
                              {.features = Features{Feature::kMustTellHost, Feature::kRingReset}})
            .value();
    BalloonDevice& device = mmio_->device();
    device.write_status(kStatusAcknowledge | kStatusDriver);
    device.write_features(device.offered_features());
    device.write_status(Rig::kNegotiated);
    write(MmioRegister::kQueueSel, kInflateQueue);
    write(MmioRegister::kQueueSize, config_.size);
    write(MmioRegister::kQueueDescLow, static_cast<std::uint32_t>(config_.descriptor_table));
    write(MmioRegister::kQueueDriverLow, static_cast<std::uint32_t>(config_.available_ring));
    write(MmioRegister::kQueueDeviceLow, static_cast<std::uint32_t>(config_.used_ring));
    write(MmioRegister::kQueueReady, 1);
    device.write_status(Rig::kRunning);
  }

  std::uint64_t read(MmioRegister which) {
    return mmio_->read(static_cast<std::uint64_t>(which), 4);
  }
  void write(MmioRegister which, std::uint32_t value) {
    mmio_->write(static_cast<std::uint64_t>(which), 4, value);
  }
  void send_inflate() {
    const GuestBuffer buffer{testing::kPayloads, 4};
    ASSERT_TRUE(memory_->write(buffer.address, testing::le32({5})));
    ASSERT_TRUE(driver_->add(std::span(&buffer, 1), {}, 0));
    (void)driver_->publish();
  }

  std::shared_ptr<const GuestMemory> memory_ = testing::memory_with_hole();
  const QueueConfig config_ = lay_out_ring(16, testing::kRings).config;
  BlockingDiscarder* discarder_ = nullptr;
  std::unique_ptr<MmioTransport> mmio_;
  std::unique_ptr<DriverQueue> driver_ = DriverQueue::create(memory_, config_).value();
};

// A queue's reset waits for the discard that the queue is in the middle of.
TEST_F(MmioThreadsTest, MMI_D_11_QueueResetReadsOneUntilTheDiscardInFlightIsOver) {
  send_inflate();
  discarder_->block();
  std::thread server([this] { mmio_->device().process(kInflateQueue); });
  discarder_->wait_until_blocked();

  std::thread processor([this] { write(MmioRegister::kQueueReset, 1); });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (read(MmioRegister::kQueueReset) == 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_EQ(read(MmioRegister::kQueueReset), 1u);
  discarder_->release();
  server.join();
  processor.join();

  EXPECT_EQ(read(MmioRegister::kQueueReset), 0u);
  EXPECT_EQ(read(MmioRegister::kQueueReady), 0u);
}

// ---- everything at once -------------------------------------------------------------------------

// A kernel that lets others get on while it works.
class SlowDiscarder final : public Discarder {
 public:
  void discard(std::span<const HostRun> runs, DiscardReport& report) override {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    kernel_->discard(runs, report);
  }

 private:
  const std::unique_ptr<Discarder> kernel_ = make_kernel_discarder();
};

// A guest that gives pages away, takes them back and boots again now and then, on memory that the
// kernel really takes. What it is told is discarded behind the answer.
class MmioGuestThreadsTest : public ::testing::TestWithParam<RingKind>,
                             protected testing::BusyThreads {
 protected:
  static constexpr std::uint16_t kStatsQueue = 2;
  static constexpr std::array<Pfn, 4> kPages{5, 6, 7, 100};

  MmioGuestThreadsTest() {
    Features features{Feature::kMustTellHost, Feature::kStatsVq};
    if (GetParam() == RingKind::kPacked) features = features.with(Feature::kRingPacked);
    mmio_ = MmioTransport::create(memory_, std::make_unique<SlowDiscarder>(),
                                  {.features = features, .write_behind = true})
                .value();
    access_ = sim::MmioAccess::probe(sim::window_of(*mmio_)).value();
    place(pages_, testing::le32({5, 6, 7, 100}));
    place(stats_, testing::stats_entries({{4, 0x1234}}));
    boot();
  }
  ~MmioGuestThreadsTest() override { finish(); }

  // ---- the guest's thread

  void boot() {
    access_->write_status(0);
    while (access_->read_status() != 0) std::this_thread::yield();
    access_->write_status(kStatusAcknowledge | kStatusDriver);
    access_->write_features(access_->read_features());
    access_->write_status(Rig::kNegotiated);
    for (std::uint16_t index = 0; index < queues_.size(); ++index) {
      const QueueConfig config = lay_out_ring(16, testing::kRings + index * testing::kRingStride,
                                              GetParam() == RingKind::kPacked)
                                     .config;
      queues_.at(index) = DriverQueue::create(memory_, config).value();
      const std::lock_guard lock(queue_sel_);
      EXPECT_TRUE(access_->set_queue(index, config));
    }
    access_->write_status(Rig::kRunning);
    send(kStatsQueue, stats_);
  }
  void send(std::uint16_t queue, const GuestBuffer& buffer) {
    EXPECT_TRUE(queues_.at(queue)->add(std::span(&buffer, 1), {}, 0));
    if (queues_.at(queue)->publish()) access_->notify(queue);
  }
  void exchange(std::uint16_t queue) {
    send(queue, pages_);
    while (!queues_.at(queue)->take_used()) std::this_thread::yield();
  }
  void answer_a_request_for_statistics() {
    if (queues_.at(kStatsQueue)->take_used()) send(kStatsQueue, stats_);
  }
  // Uses the pages; how many of them do not hold what was written.
  int use_pages(std::byte value) {
    for (const Pfn page : kPages) std::memset(host(page), std::to_integer<int>(value), kPageSize);
    std::this_thread::yield();
    int lost = 0;
    for (const Pfn page : kPages) lost += host(page)[100] == value ? 0 : 1;
    return lost;
  }

  // ---- the others

  void serve_queues() {
    for (std::uint16_t index = 0; index < queues_.size(); ++index) {
      (void)mmio_->device().process(index);
    }
  }
  // What another processor of the guest does, and the host's control. What is saved while a guest
  // runs is of no use, but saving does no harm.
  void use_registers(std::uint32_t number) {
    (void)mmio_->read(kMmioConfig + kNumPagesOffset, 4);
    mmio_->write(kMmioConfig + kActualOffset, 4, number);
    (void)read(MmioRegister::kConfigGeneration);
    write(MmioRegister::kInterruptAck, read(MmioRegister::kInterruptStatus));
    // Of whichever queue it is: nothing else orders these and what a boot selects.
    for (int i = 0; i < 50; ++i) (void)read(MmioRegister::kQueueReady);
    {
      const std::lock_guard lock(queue_sel_);
      write(MmioRegister::kQueueSel, number % 4);
      (void)read(MmioRegister::kQueueReady);
      (void)read(MmioRegister::kQueueSizeMax);
    }
    BalloonDevice& device = mmio_->device();
    (void)device.set_target_pages(number % 100);
    (void)device.request_stats(std::chrono::seconds(1));
    (void)device.stats();
    (void)device.save();
    unbalanced_ += testing::balanced(device.metrics()) ? 0 : 1;
  }

  std::shared_ptr<const GuestMemory> memory_ = testing::memory_with_hole();
  std::unique_ptr<MmioTransport> mmio_;
  std::atomic<int> unbalanced_{0};

 private:
  std::byte* host(Pfn page) const { return memory_->host(page << kPageShift, kPageSize); }
  void place(const GuestBuffer& buffer, std::span<const std::byte> bytes) const {
    ASSERT_EQ(bytes.size(), buffer.length);
    ASSERT_TRUE(memory_->write(buffer.address, bytes));
  }
  std::uint32_t read(MmioRegister which) const {
    return static_cast<std::uint32_t>(mmio_->read(static_cast<std::uint64_t>(which), 4));
  }
  void write(MmioRegister which, std::uint32_t value) {
    mmio_->write(static_cast<std::uint64_t>(which), 4, value);
  }

  const GuestBuffer pages_{testing::kPayloads, 16};
  const GuestBuffer stats_{testing::kPayloads + 64, 10};
  std::mutex queue_sel_;  // of the guest: what follows QueueSel is about that queue
  std::unique_ptr<sim::MmioAccess> access_;
  std::array<std::unique_ptr<DriverQueue>, 3> queues_;
};

INSTANTIATE_TEST_SUITE_P(Rings, MmioGuestThreadsTest,
                         ::testing::Values(RingKind::kSplit, RingKind::kPacked),
                         testing::ring_name);

TEST_P(MmioGuestThreadsTest, GuestDeviceWorkerAndRegistersOnFourThreads) {
  keep_doing([this] { serve_queues(); });
  keep_doing([this] { (void)mmio_->device().run_owed_discards(); });
  keep_doing([this, number = 0U]() mutable { use_registers(++number); });

  int lost = 0;
  for (int round = 1; round <= 200; ++round) {
    exchange(kInflateQueue);
    if (round % 20 == 0) {
      boot();
    } else {
      exchange(kDeflateQueue);
    }
    lost += use_pages(static_cast<std::byte>(round));
    answer_a_request_for_statistics();
  }
  finish();

  EXPECT_EQ(lost, 0);
  EXPECT_EQ(unbalanced_, 0);
  EXPECT_EQ(mmio_->device().ballooned_pages(), 0u);
  EXPECT_EQ(mmio_->device().metrics().inflate_messages, 200u);
  EXPECT_GE(mmio_->device().metrics().stats_messages, 10u) << "one a boot, but for the last";
}

}  // namespace
}  // namespace vballoon
