// SPDX-License-Identifier: MIT
// The balloon driver of the simulated guest.                                      room: guest
//
// Behaves as Linux's does where the host can see it: one message outstanding (in the scatter-gather
// dialect one ring full of them), tells before it frees, writes `actual` after each operation,
// backs off when memory is short. It never blocks: step() does what can be done and says what it
// waits for. Only a guest that is out of memory cannot go on without the device, see
// DriverOptions::let_device_answer. One thread at a time, that of the allocator and the kernel.
#ifndef VBALLOON_SIM_BALLOON_DRIVER_H_
#define VBALLOON_SIM_BALLOON_DRIVER_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "vballoon/clock.h"
#include "vballoon/export.h"
#include "vballoon/features.h"
#include "vballoon/guest_memory.h"
#include "vballoon/page_range.h"
#include "vballoon/result.h"
#include "vballoon/sim/compactor.h"
#include "vballoon/sim/device_access.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/sim/page_allocator.h"
#include "vballoon/sim/page_reporting.h"

namespace vballoon::sim {

// The order in which the pages of a PFN array stand in it and enter the balloon: as allocated
// (Linux of 2016), or the last page first (Linux since 2018). They leave it the newest first.
enum class PfnOrder : std::uint8_t { kAllocation, kReversed };

// Whose habits a host sees. The Windows driver, as far as it speaks the standard dialect,
//  - writes page numbers with 8 bytes, 512 in an array;
//  - where MUST_TELL_HOST was not accepted, frees pages before it tells the device;
//  - waits for an answer for a second, then goes on and writes its next array over the one that is
//    out: a host that takes longer may discard pages that are in use;
//  - gives the statistics 0 to 9, by their numbers.
enum class DriverHabits : std::uint8_t { kLinux, kWindows };

struct DriverOptions {
  // The dialect that the driver knows beside the standard's, and its bit; unset: as published.
  Dialect dialect = Dialect::kStandard;
  std::optional<unsigned> dialect_bit = std::nullopt;
  // Whether the device's queues for requests (BalloonOptions::guest_requests) are known to it, and
  // their bit; unset: as published. Without them that bit is the standard's.
  bool guest_requests = false;
  std::optional<unsigned> guest_requests_bit = std::nullopt;
  // What it accepts, if offered, beside that and VERSION_1. It never accepts what it cannot do:
  // statistics and DEFLATE_ON_OOM without a kernel, PAGE_POISON without a value, and PAGE_REPORTING
  // of pages that have to keep a value of which the device would not know (5.5.3.1).
  Features features{Feature::kMustTellHost, Feature::kIndirectDesc, Feature::kEventIdx};
  DriverHabits habits = DriverHabits::kLinux;
  // What a host sees of the published drivers, where this one would do better:
  //  - in the dialects with bitmaps an inflate names again what is in the balloon already, in all
  //    windows that it sends: they walked the whole balloon for the pages of a window;
  //  - PFN arrays are in the order of allocation, unless pfn_order says otherwise;
  //  - pages are never named by number in the bitmap dialect (pfn_threshold_pages is 0);
  //  - chunks are made of single pages (chunk_order is 0);
  //  - free blocks that the control queue asks for are left out while their ring is full.
  // What they got wrong, pages that were lost or named falsely, is right here, too.
  bool faithful = false;
  std::optional<PfnOrder> pfn_order = std::nullopt;  // unset: kReversed, but see `faithful`
  // In the bitmap dialect, up to that many pages are named by their numbers: an array is then never
  // longer than records.
  std::uint64_t pfn_threshold_pages = 4;
  // The largest blocks taken from the allocator in the scatter-gather dialect. The one with
  // continuous pages takes blocks of any order, the others single pages, as published.
  unsigned chunk_order = kMaxOrder;
  std::uint16_t queue_size = 256;
  QueueNumbering numbering = QueueNumbering::kDense;
  // Whose memory it is; must outlive the driver. Null: the allocator is all there is.
  GuestKernel* kernel = nullptr;
  // Who moves pages for the blocks of continuous pages where there is no kernel to do so; must
  // outlive the driver. Null: nobody.
  Compactor* compactor = nullptr;
  // With DEFLATE_ON_OOM: lets the device work until it has interrupted, for a guest that cannot go
  // on before it has its pages back; false when no answer can come. Not needed where the device
  // answers within a kick.
  std::function<bool()> let_device_answer = {};
  // What the guest fills free pages with, one byte four times; unset: with nothing.
  std::optional<std::uint32_t> poison_value = std::nullopt;
  // Kick for the first statistics before DRIVER_OK: against the standard, and what Linux does.
  bool early_stats = true;
  PageReportingOptions reporting = {};
  // Pages that the balloon leaves free: the allocator's emergency reserve. With a kernel it leaves
  // what the kernel's watermarks say.
  std::uint64_t reserve_pages = 256;
  Clock clock = steady_clock();  // for DriverTimes only
};

// The options with what follows from `faithful`, and with an order of PFN arrays.
[[nodiscard]] VBALLOON_EXPORT DriverOptions resolved(DriverOptions options);

// What the driver waits for.
struct DriverWait {
  enum class Kind : std::uint8_t {
    kUsedBuffer,
    kConfigChange,
    kTime,
    kNeedsReset,  // for nothing: no answer will come until the device was reset
    kStopped,     // for nothing: removed, frozen or shut down
  };
  Kind kind = Kind::kConfigChange;
  // With kTime: step again at this time; a config change may come sooner. With kUsedBuffer: 0, or
  // the time at which the driver waits no longer.
  std::chrono::nanoseconds until{0};
  friend bool operator==(const DriverWait&, const DriverWait&) = default;
};

struct DriverTimes {
  std::chrono::nanoseconds allocator{0};    // taking pages from the allocator and giving them back
  std::chrono::nanoseconds messages{0};     // from the first byte of a message to its answer
  std::chrono::nanoseconds last_answer{0};  // when the last answer was seen: a time of the clock
};

struct DriverCounters {
  std::uint64_t messages = 0;  // buffers put on a queue
  std::uint64_t kicks = 0;
  std::uint64_t failed_allocations = 0;
  std::uint64_t reports = 0;   // of free pages
  std::uint64_t migrated = 0;  // blocks that were moved
  // With `faithful`: free blocks that were not named over the queue for free pages, whose ring was
  // full.
  std::uint64_t skipped_blocks = 0;
  BlocksByOrder allocations_by_order{};
  DriverTimes times;
};

class VBALLOON_EXPORT BalloonDriver {
 public:
  // Finds out what the device offers, negotiates, sets up queues in pages of the allocator and
  // sets DRIVER_OK. `device` and `allocator` must outlive the driver. Fails with
  // kFeaturesNotOffered when the device offers no VERSION_1 or refuses the features, with
  // kNotSupported when memory for the rings is missing or a reset of the device does not end, and
  // as set_queue() does.
  [[nodiscard]] static Result<std::unique_ptr<BalloonDriver>> probe(
      DeviceAccess& device, std::shared_ptr<const GuestMemory> memory, PageAllocator& allocator,
      const DriverOptions& options = {});

  // Neither resets the device nor gives pages back to the allocator.
  ~BalloonDriver();

  // Each begins to give the device up, and step() goes on with that until it waits for kStopped.
  // An operation under way is waited for. remove() then empties the balloon, message by message,
  // resets the device and frees all that the driver took; so does freeze(), as before hibernation.
  // shutdown() of a guest that halts only resets the device. A device that needs a reset is asked
  // for nothing any more. Without effect on a driver that has begun to stop.
  void remove();
  void freeze();
  void shutdown();
  // Of a frozen driver that has stopped: takes the device into use again. Fails as probe() does,
  // and is then still frozen; and with kNotSupported otherwise, or if the device did not reset.
  [[nodiscard]] Result<void> restore();

  // For compaction: begins to move the blocks of the balloon that touch these pages to elsewhere,
  // one after the other, and step() goes on with that as far as there is memory. `actual` stays.
  // False, and to be tried again, while another operation is under way.
  [[nodiscard]] bool migrate_out_of(PageRange pages);

  // Gives a queue that is in use another size, as Linux's virtqueue_resize() does: resets it alone
  // (RING_RESET) and sets it up again. What the device had not used is sent again, at the latest by
  // the next step(). Fails with kNotSupported where RING_RESET was not accepted or the driver does
  // not run, with kInvalidArgument when there is no such queue or the size is too small for what is
  // sent, and as probe() does for a queue, which then has the size that it had; but one whose reset
  // does not end is of no more use.
  [[nodiscard]] Result<void> resize_queue(std::uint16_t index, std::uint16_t size);

  // Does all that can be done now. `now` is compared with nothing but former values of itself.
  DriverWait step(std::chrono::nanoseconds now);

  // What both sides agreed on; the dialect is kStandard when the bit was not accepted.
  [[nodiscard]] Features features() const;
  [[nodiscard]] Dialect dialect() const;

  // Pages in the balloon, with those whose inflate is not answered yet.
  [[nodiscard]] std::uint64_t ballooned_pages() const;
  [[nodiscard]] const DriverCounters& counters() const;

  // Calls visit(block) for each block in the balloon, the newest first.
  void for_each_block(const std::function<void(Block)>& visit) const;

 private:
  struct Impl;
  explicit BalloonDriver(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SIM_BALLOON_DRIVER_H_
