// SPDX-License-Identifier: MIT
// The order in which the other side sees what a driver does to a ring (virtio 1.3, sections
// 2.7.13 and 2.8.21), on two threads with the real code. Names bear the ids of checklist.tsv.
//
// docs/decisions/0003-kick-suppression.md has the argument for the order; a weaker one fails here.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <ostream>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "ring/driver_queue.h"
#include "vballoon/device_queue.h"
#include "vballoon/guest_memory.h"

namespace vballoon {
namespace {

using Clock = std::chrono::steady_clock;

// As long as this both sides go on, and so get as far as a busy machine lets them.
constexpr auto kDuration = std::chrono::seconds(2);
// Longer than this nobody waits for a machine on which one side is always the first.
constexpr auto kPatience = std::chrono::seconds(30);

struct Ring {
  const char* name;
  bool packed;
  bool event_index;

  friend std::ostream& operator<<(std::ostream& out, const Ring& ring) { return out << ring.name; }
};

// Two threads that meet at the same moment, again and again. Who comes first waits and does not
// sleep, or the other would be far ahead.
class Meeting {
 public:
  void attend() {
    const std::uint32_t round = arrived_.fetch_add(1) / 2;
    for (std::uint32_t turn = 1; arrived_.load() / 2 == round; ++turn) {
      if (turn % 1024 == 0) std::this_thread::yield();
    }
  }
  void linger(std::uint32_t turns) const {
    while (turns-- != 0) (void)arrived_.load();
  }

 private:
  std::atomic<std::uint32_t> arrived_{0};
};

class MemoryOrderRaceThreadsConformance : public ::testing::TestWithParam<Ring> {
 protected:
  static constexpr std::uint64_t kPayload = 0x20000;

  MemoryOrderRaceThreadsConformance() {
    QueueConfig config = lay_out_ring(64, 0, GetParam().packed).config;
    config.event_index = GetParam().event_index;
    driver_ = DriverQueue::create(memory_, config).value();
    if (!device_.start(memory_, config)) throw std::runtime_error("queue does not start");
  }
  void add() {
    const GuestBuffer buffer{kPayload, sizeof(std::uint64_t)};
    if (!driver_->add(std::array{buffer}, {}, 0)) throw std::runtime_error("ring is full");
  }
  // What the payload is made of, as a processor of either side accesses it: plainly.
  std::uint64_t& payload() const {
    return *reinterpret_cast<std::uint64_t*>(memory_->host(kPayload, sizeof(std::uint64_t)));
  }

  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, 1 << 20}}).value();
  std::unique_ptr<DriverQueue> driver_;
  DeviceQueue device_;
};

INSTANTIATE_TEST_SUITE_P(Rings, MemoryOrderRaceThreadsConformance,
                         ::testing::Values(Ring{"SplitEventIndex", false, true},
                                           Ring{"SplitFlags", false, false},
                                           Ring{"PackedEventIndex", true, true},
                                           Ring{"PackedFlags", true, false}),
                         [](const auto& suite) { return suite.param.name; });

// Where processors keep stores in order by themselves, the thread sanitizer is the one that sees
// that nothing asks for it.
TEST_P(MemoryOrderRaceThreadsConformance, SPL_G_29_PKD_G_17_WhatIsInABufferIsSeenWithTheBuffer) {
  constexpr std::uint64_t kLast = 0;
  std::uint64_t wrong = 0;
  std::thread device([&] {
    std::uint64_t last = 1;
    for (std::uint64_t awaited = 1; last != kLast;) {
      auto popped = device_.pop();
      if (!popped) throw std::runtime_error(popped.error().message());
      if (!*popped) {
        std::this_thread::yield();
        continue;
      }
      last = payload();
      wrong += last == awaited++ || last == kLast ? 0 : 1;
      (*popped)->complete();
      (void)device_.publish();
    }
  });
  const auto send = [this](std::uint64_t value) {
    payload() = value;
    add();
    (void)driver_->publish();
    while (!driver_->take_used()) std::this_thread::yield();
  };
  const auto end = Clock::now() + kDuration;
  for (std::uint64_t value = 1; Clock::now() < end; ++value) send(value);
  send(kLast);
  device.join();

  EXPECT_EQ(wrong, 0u);
}

// The driver publishes and looks whether the device wants a kick, while the device asks for kicks
// and looks whether there is something: at least one of them sees the other. They meet until each
// was too late for the other once, and linger by turns, as under a sanitizer one is the slower.
TEST_P(MemoryOrderRaceThreadsConformance, SPL_G_30_PKD_G_18_DriverKicksOrTheDeviceSeesTheBuffer) {
  if (std::thread::hardware_concurrency() < 2) GTEST_SKIP() << "one processor sees its own order";
  constexpr std::uint32_t kLingers = 64;
  Meeting meeting;
  bool last = false;
  bool seen = false;
  std::uint64_t unseen = 0;
  std::uint64_t unkicked = 0;
  std::uint64_t lost = 0;
  std::thread device([&] {
    for (std::uint32_t round = 0;; ++round) {
      device_.disable_kicks();
      meeting.attend();
      if (last) return;
      meeting.attend();
      if (round / kLingers % 2 == 0) meeting.linger(round % kLingers);
      seen = device_.enable_kicks();
      meeting.attend();
      device_.pop().value()->complete();
      (void)device_.publish();
    }
  });
  const auto start = Clock::now();
  for (std::uint32_t round = 0;; ++round) {
    const auto passed = Clock::now() - start;
    last = (passed >= kDuration && unseen != 0 && unkicked != 0) || passed >= kPatience;
    meeting.attend();
    if (last) break;
    add();
    meeting.attend();
    if (round / kLingers % 2 == 1) meeting.linger(round % kLingers);
    const bool kick = driver_->publish();
    meeting.attend();
    unseen += seen ? 0 : 1;
    unkicked += kick ? 0 : 1;
    lost += seen || kick ? 0 : 1;
    while (!driver_->take_used()) std::this_thread::yield();
  }
  device.join();

  EXPECT_EQ(lost, 0u);
  if (unseen == 0 || unkicked == 0) GTEST_SKIP() << "here one side was always the first";
}

}  // namespace
}  // namespace vballoon
