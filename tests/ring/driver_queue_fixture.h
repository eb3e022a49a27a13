// SPDX-License-Identifier: MIT
// A driver queue in 1 MiB of guest memory, for tests that write the device's side by hand.
#ifndef VBALLOON_TESTS_RING_DRIVER_QUEUE_FIXTURE_H_
#define VBALLOON_TESTS_RING_DRIVER_QUEUE_FIXTURE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "ring/driver_queue.h"
#include "test_memory.h"
#include "vballoon/device_queue.h"
#include "vballoon/guest_buffer.h"
#include "vballoon/guest_memory.h"

namespace vballoon::testing {

// What fixtures have in common, whatever the ring.
class DriverUnderTest {
 protected:
  static constexpr std::uint64_t kTable = 0x20000;  // for an indirect table
  static constexpr GuestBuffer kBuffer{0x30000, 16};

  explicit DriverUnderTest(const QueueConfig& config) : config_(config) { create(); }

  void create() { driver_ = DriverQueue::create(memory_, config_).value(); }
  void create_with_indirect() {
    config_.indirect = true;
    create();
  }
  void create_with_event_index() {
    config_.event_index = true;
    create();
  }
  // Adds a buffer of so many pieces.
  bool add(std::size_t readable, std::size_t writable = 0, std::uint64_t token = 1) {
    return driver_->add(std::vector<GuestBuffer>(readable, kBuffer),
                        std::vector<GuestBuffer>(writable, kBuffer), token);
  }
  bool add_indirect(std::size_t readable, std::size_t writable = 0) {
    return driver_->add_indirect(std::vector<GuestBuffer>(readable, kBuffer),
                                 std::vector<GuestBuffer>(writable, kBuffer), kTable, 1);
  }

  std::shared_ptr<const GuestMemory> memory_ = memory_of(1 << 20);
  QueueConfig config_;
  std::unique_ptr<DriverQueue> driver_;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_RING_DRIVER_QUEUE_FIXTURE_H_
