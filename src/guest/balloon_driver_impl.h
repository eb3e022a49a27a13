// SPDX-License-Identifier: MIT
// What the simulated driver is made of.
//
// The public calls and step() are in balloon_driver.cc, taking a device into use and letting it go
// in driver_set_up.cc, messages and following the target in driver_resize.cc, what compaction and a
// guest that is out of memory want in driver_pressure.cc, and queues that get another size in
// driver_queue_resize.cc.
#ifndef VBALLOON_SRC_GUEST_BALLOON_DRIVER_IMPL_H_
#define VBALLOON_SRC_GUEST_BALLOON_DRIVER_IMPL_H_

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "guest/control_answerer.h"
#include "guest/driver_pages.h"
#include "guest/hint_sender.h"
#include "guest/page_reporter.h"
#include "guest/report_sender.h"
#include "guest/request_answerer.h"
#include "guest/stats_sender.h"
#include "ring/driver_queue.h"
#include "vballoon/sim/balloon_driver.h"
#include "wire/dialect.h"

namespace vballoon::sim {

struct BalloonDriver::Impl final : OomNotifier {
  // What the operation under way does. A move is two messages: its new block comes in, then the
  // old one goes out.
  enum class State : std::uint8_t { kIdle, kInflating, kDeflating, kMovingIn, kMovingOut };
  // Whether the device is wanted: after kEmptying and kHalting it is let go.
  enum class Course : std::uint8_t { kRunning, kEmptying, kHalting, kStopped };

  struct Queue {
    QueueConfig config;
    PageList memory;  // of the ring
    std::unique_ptr<DriverQueue> ring;
  };

  // The two queues over which pages are named in one format, and who names them.
  struct PageQueues {
    std::uint16_t inflate = kInflateQueue;
    std::uint16_t deflate = kDeflateQueue;
    std::unique_ptr<PageReporter> reporter;
  };

  Impl(DeviceAccess& device_in, std::shared_ptr<const GuestMemory> memory_in,
       PageAllocator& allocator_in, const DriverOptions& options_in)
      : device(device_in),
        memory(std::move(memory_in)),
        allocator(allocator_in),
        options(resolved(options_in)),
        pages(allocator, options) {}
  ~Impl() override;

  // ---- taking the device into use and letting it go (driver_set_up.cc)

  [[nodiscard]] Features acceptable(Features offered) const;
  [[nodiscard]] unsigned dialect_bit() const {
    return options.dialect_bit.value_or(published_bit(options.dialect));
  }
  [[nodiscard]] unsigned requests_bit() const {
    return options.guest_requests_bit.value_or(kPublishedRequestsBit);
  }
  // The bits of the dialect have not the meaning that the standard gives them.
  [[nodiscard]] Features standard_features() const {
    const Features standard =
        dialect == Dialect::kStandard ? features : features.without_bit(dialect_bit());
    return options.guest_requests ? standard.without_bit(requests_bit()) : standard;
  }
  [[nodiscard]] bool takes_requests() const {
    return options.guest_requests && features.has_bit(requests_bit());
  }
  [[nodiscard]] bool windows() const {
    return options.habits == DriverHabits::kWindows && dialect == Dialect::kStandard;
  }
  [[nodiscard]] Result<void> start();
  Result<void> reset();
  [[nodiscard]] bool needs_reset();
  void give_up();
  Result<void> negotiate();
  [[nodiscard]] Features accept_dialect(Features offered, Features wanted);
  Result<void> set_up_queues();
  [[nodiscard]] Result<Queue> make_queue(std::uint16_t size);
  Result<void> set_up_queue(std::uint16_t index);
  Result<void> set_up_sender(std::uint16_t index);
  Result<void> set_up_answerer(std::uint16_t index);
  [[nodiscard]] Pfn guest_pages() const;
  Result<DmaBuffer> take_buffer(std::uint64_t bytes, PageList& owner);
  void make_reporters();
  Result<void> take_message(std::uint64_t bytes);
  void register_with_kernel();
  void unregister_from_kernel();
  [[nodiscard]] bool stop_queues();
  void forget_queues();
  void free_buffers();
  void stop(Course how);
  [[nodiscard]] DriverWait wind_up(std::chrono::nanoseconds now);
  void let_go();

  // ---- messages and following the target (driver_resize.cc)

  [[nodiscard]] std::uint16_t queue_index() const {
    const bool inflates = state == State::kInflating || state == State::kMovingIn;
    return inflates ? spoken->inflate : spoken->deflate;
  }
  [[nodiscard]] DriverQueue& queue() { return *queues[queue_index()].ring; }
  void take_answers();
  [[nodiscard]] bool answered(std::chrono::nanoseconds now);
  [[nodiscard]] bool post_next(std::chrono::nanoseconds now);
  [[nodiscard]] bool go_on(std::chrono::nanoseconds now);
  [[nodiscard]] DriverWait wait_for_answer() const;
  // Blocks of several pages have queues of their own in one dialect.
  [[nodiscard]] PageQueues& queues_for(unsigned block_order) {
    return block_order != 0 && for_blocks.reporter ? for_blocks : for_pages;
  }
  [[nodiscard]] unsigned max_order() const;
  void begin_inflating(std::chrono::nanoseconds now, std::uint64_t count);
  [[nodiscard]] std::optional<Block> take_from_guest(std::chrono::nanoseconds now,
                                                     std::uint64_t most);
  void enter(Block block);
  void name_windows_again();
  void begin_deflating(std::uint64_t count, PageQueues& over);
  [[nodiscard]] PageRange take_from_balloon(std::uint64_t most);
  [[nodiscard]] Block leave(std::uint64_t most);
  void free_leaving();
  void write_actual();
  void finish();
  [[nodiscard]] DriverWait resize(std::chrono::nanoseconds now);
  std::chrono::nanoseconds lap() {
    const std::chrono::nanoseconds now = options.clock();
    return now - std::exchange(lap_start, now);
  }

  // ---- for compaction and for a guest that is out of memory (driver_pressure.cc)

  [[nodiscard]] bool begin_move();
  [[nodiscard]] bool finish_now();
  std::uint64_t out_of_memory() override;
  // Without DEFLATE_ON_OOM what is in the balloon does not count as the guest's.
  void adjust_managed_pages(std::int64_t count);

  // ---- queues that get another size (driver_queue_resize.cc)

  [[nodiscard]] std::size_t least_size(std::uint16_t index) const;
  [[nodiscard]] Result<void> resize_queue(std::uint16_t index, std::uint16_t size);
  void recall_message();
  void queue_was_reset(std::uint16_t index);
  void use_queue(std::uint16_t index);

  // ---- the other queues (balloon_driver.cc)

  void kick(std::uint16_t index);
  void post_statistics();
  [[nodiscard]] bool answer_requests();
  void report_free_pages(std::chrono::nanoseconds now);
  [[nodiscard]] bool hint_free_pages();

  DeviceAccess& device;
  const std::shared_ptr<const GuestMemory> memory;
  PageAllocator& allocator;
  const DriverOptions options;
  DriverPages pages;

  Course course = Course::kRunning;
  bool frozen = false;
  Features features;
  Dialect dialect = Dialect::kStandard;
  PageList buffers;   // of the payload
  DmaBuffer message;  // where payloads are written
  QueueMap map{};
  std::array<Queue, kMaxBalloonQueues> queues;
  PageQueues for_pages;
  PageQueues for_blocks;            // in the dialect that has them
  PageQueues* spoken = &for_pages;  // by the operation under way
  // Of the queues that the features bring, if any.
  std::uint16_t stats_queue = 0;
  std::optional<StatsSender> stats;
  std::uint16_t hint_queue = 0;
  std::optional<HintSender> hints;
  std::uint16_t report_queue = 0;
  std::optional<ReportSender> reports;
  std::uint16_t request_queue = 0;
  std::optional<RequestAnswerer> requests;
  PageList records;  // where it writes them
  std::uint16_t control_queue = 0;
  std::uint16_t free_page_queue = 0;
  std::optional<ControlAnswerer> control;
  ReportingWait report_wait;

  State state = State::kIdle;
  PageList balloon;
  unsigned order = kMaxOrder;   // of the largest block that is worth asking for
  std::vector<Block> arriving;  // allocated, and to enter the balloon in reverse
  bool emptying = false;        // before the device is let go: actual is written when that is done
  PageList leaving;             // told to the device, not yet free
  std::uint64_t posted = 0;     // buffers so far, and the token of the last one
  std::uint64_t last_message = 1;  // the token of its first buffer
  std::uint64_t unanswered = 0;    // buffers of the last message
  std::chrono::nanoseconds waits_until = std::chrono::nanoseconds::max();
  // Where the balloon has been: what leaves it on OOM comes back with the next change of the
  // target.
  std::optional<std::uint64_t> reached;
  std::chrono::nanoseconds retry_at{0};
  bool short_of_memory = false;
  std::chrono::nanoseconds stepped_at{0};

  std::optional<PageRange> moving_out_of;
  std::optional<Block> last_passed;  // by the walk along the balloon for blocks to move

  DriverCounters counters;
  std::chrono::nanoseconds lap_start{0};
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_BALLOON_DRIVER_IMPL_H_
