// SPDX-License-Identifier: MIT
// What does it cost to pass one buffer through a ring and back, split or packed?
//
// SameThread: the rings alone, without any notification. TwoThreads: with a kick and an interrupt
// that wake a sleeping thread through an eventfd, which is what a guest waits for.
#include <benchmark/benchmark.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ring/driver_queue.h"
#include "vballoon/device_queue.h"
#include "vballoon/guest_memory.h"

namespace vballoon {
namespace {

constexpr std::uint16_t kQueueSize = 128;
constexpr std::uint64_t kTable = 0x20000;
constexpr std::uint64_t kPayload = 0x30000;
constexpr std::uint32_t kPieceBytes = 64;

class Rings {
 public:
  // Arguments: pieces of a chain, whether it is indirect, whether the event index is on, whether
  // the ring is packed.
  explicit Rings(const benchmark::State& state) : indirect_(state.range(1) != 0) {
    QueueConfig config = lay_out_ring(kQueueSize, 0, state.range(3) != 0).config;
    config.indirect = indirect_;
    config.event_index = state.range(2) != 0;
    driver_ = DriverQueue::create(memory_, config).value();
    if (!device_.start(memory_, config)) std::abort();
    for (std::int64_t i = 0; i < state.range(0); ++i) {
      pieces_.push_back({kPayload + static_cast<std::uint64_t>(i) * kPieceBytes, kPieceBytes});
    }
  }

  bool add() {
    return indirect_ ? driver_->add_indirect(pieces_, {}, kTable, 0) : driver_->add(pieces_, {}, 0);
  }
  bool serve() {
    auto chain = device_.pop().value();
    if (!chain) return false;
    chain->complete();
    return true;
  }
  DriverQueue& driver() { return *driver_; }
  DeviceQueue& device() { return device_; }

 private:
  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, 1 << 20}}).value();
  const bool indirect_;
  std::vector<GuestBuffer> pieces_;
  std::unique_ptr<DriverQueue> driver_;
  DeviceQueue device_;
};

void SameThread(benchmark::State& state) {
  Rings rings(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(rings.add());
    benchmark::DoNotOptimize(rings.driver().publish());
    benchmark::DoNotOptimize(rings.serve());
    benchmark::DoNotOptimize(rings.device().publish());
    benchmark::DoNotOptimize(rings.driver().take_used());
  }
  state.SetItemsProcessed(state.iterations());
}

class Bell {
 public:
  Bell() : fd_(::eventfd(0, EFD_CLOEXEC)) {}
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;
  ~Bell() { ::close(fd_); }
  void ring() { (void)::eventfd_write(fd_, 1); }
  void wait() {
    eventfd_t count = 0;
    (void)::eventfd_read(fd_, &count);
  }

 private:
  const int fd_;
};

void serve_until(Rings& rings, Bell& kick, Bell& interrupt, const std::atomic<bool>& stop) {
  while (!stop) {
    while (rings.serve()) {
    }
    if (rings.device().publish()) interrupt.ring();
    if (!rings.device().enable_kicks()) kick.wait();
    rings.device().disable_kicks();
  }
}

void TwoThreads(benchmark::State& state) {
  Rings rings(state);
  Bell kick;
  Bell interrupt;
  std::atomic<bool> stop = false;
  std::thread device([&] { serve_until(rings, kick, interrupt, stop); });
  std::int64_t kicks = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(rings.add());
    if (rings.driver().publish()) {
      ++kicks;
      kick.ring();
    }
    while (!rings.driver().take_used()) {
      if (!rings.driver().enable_interrupts()) interrupt.wait();
    }
    rings.driver().disable_interrupts();
  }
  stop = true;
  kick.ring();
  device.join();
  state.SetItemsProcessed(state.iterations());
  state.counters["kicks"] =
      benchmark::Counter(static_cast<double>(kicks), benchmark::Counter::kAvgIterations);
}

const std::vector<std::string> kNames{"pieces", "indirect", "event_index", "packed"};
BENCHMARK(SameThread)->ArgNames(kNames)->ArgsProduct({{1, 2, 16}, {0, 1}, {0, 1}, {0, 1}});
BENCHMARK(TwoThreads)
    ->ArgNames(kNames)
    ->ArgsProduct({{1, 2, 16}, {0, 1}, {0, 1}, {0, 1}})
    ->UseRealTime();

}  // namespace
}  // namespace vballoon
