// SPDX-License-Identifier: MIT
// What the simulated driver is made of.
//
// The public calls and step() are in balloon_driver.cc, taking a device into use in
// driver_set_up.cc, and following the target in driver_resize.cc.
#ifndef VBALLOON_SRC_GUEST_BALLOON_DRIVER_IMPL_H_
#define VBALLOON_SRC_GUEST_BALLOON_DRIVER_IMPL_H_

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "guest/hint_sender.h"
#include "guest/page_reporter.h"
#include "guest/report_sender.h"
#include "guest/stats_sender.h"
#include "ring/driver_queue.h"
#include "vballoon/sim/balloon_driver.h"
#include "wire/dialect.h"

namespace vballoon::sim {

struct BalloonDriver::Impl {
  enum class State : std::uint8_t { kIdle, kInflating, kDeflating };

  Impl(DeviceAccess& device_in, std::shared_ptr<const GuestMemory> memory_in,
       PageAllocator& allocator_in, const DriverOptions& options_in)
      : device(device_in),
        memory(std::move(memory_in)),
        allocator(allocator_in),
        options(options_in) {}
  ~Impl();

  [[nodiscard]] Features acceptable(Features offered) const;
  // The bit of the dialect has not the meaning that the standard gives it.
  [[nodiscard]] Features standard_features() const {
    return dialect == Dialect::kStandard ? features : features.without_bit(options.dialect_bit);
  }
  [[nodiscard]] Result<void> start();
  Result<void> reset();
  void give_up();
  Result<void> negotiate();
  Result<void> set_up_queues();
  Result<void> set_up_queue(std::uint16_t index);
  Result<void> set_up_sender(std::uint16_t index);
  Result<DmaBuffer> take_buffer(std::uint64_t bytes);
  void give_buffers_back();
  void make_reporter();

  [[nodiscard]] bool needs_reset();
  [[nodiscard]] DriverQueue& queue() {
    return *queues[state == State::kInflating ? kInflateQueue : kDeflateQueue];
  }
  [[nodiscard]] bool answered();
  [[nodiscard]] bool post_next();
  void begin(std::chrono::nanoseconds now, std::uint64_t target);
  void inflate(std::chrono::nanoseconds now, std::uint64_t pages);
  void enter(Block block);
  void deflate(std::uint64_t pages);
  void split_off(Block block, std::uint64_t pages);
  void finish();
  void kick(std::uint16_t index);
  void post_statistics(bool first);
  void report_free_pages(std::chrono::nanoseconds now);
  [[nodiscard]] bool hint_free_pages();
  [[nodiscard]] DriverWait resize(std::chrono::nanoseconds now);
  std::chrono::nanoseconds lap() {
    const std::chrono::nanoseconds now = options.clock();
    return now - std::exchange(lap_start, now);
  }

  DeviceAccess& device;
  const std::shared_ptr<const GuestMemory> memory;
  PageAllocator& allocator;
  const DriverOptions options;

  Features features;
  Dialect dialect = Dialect::kStandard;
  PageList buffers;   // of the rings and the payload
  DmaBuffer message;  // where payloads are written
  QueueMap map{};
  std::array<std::unique_ptr<DriverQueue>, kQueueRoles> queues;
  std::unique_ptr<PageReporter> reporter;
  // Of the queues that the features bring, if any.
  std::uint16_t stats_queue = 0;
  std::optional<StatsSender> stats;
  std::uint16_t hint_queue = 0;
  std::optional<HintSender> hints;
  std::uint16_t report_queue = 0;
  std::optional<ReportSender> reports;
  ReportingWait report_wait;

  State state = State::kIdle;
  PageList balloon;
  std::vector<Block> arriving;  // allocated, and to enter the balloon in reverse
  PageList leaving;             // told to the device, not yet free
  std::chrono::nanoseconds retry_at{0};
  bool short_of_memory = false;
  DriverCounters counters;
  std::chrono::nanoseconds lap_start{0};
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_BALLOON_DRIVER_IMPL_H_
