// SPDX-License-Identifier: MIT
// The registers of virtio-mmio (src/transport/mmio.cc) while other virtual processors write to
// them and a thread serves the queues.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>

#include "device/device_fixture.h"
#include "transport/mmio_registers.h"
#include "vballoon/transport/mmio.h"

namespace vballoon {
namespace {

using testing::BlockingDiscarder;
using testing::Rig;

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

}  // namespace
}  // namespace vballoon
