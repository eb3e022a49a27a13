// SPDX-License-Identifier: MIT
// The host half of a virtio balloon (virtio 1.3, section 5.5).                    room: device
//
// The embedder brings guest memory, a way to give it back (Discarder), and a transport that hands
// register accesses and kicks over. The library starts no thread: process() runs on one thread of
// the embedder's, everything else may be called from others at the same time.
#ifndef VBALLOON_BALLOON_DEVICE_H_
#define VBALLOON_BALLOON_DEVICE_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "vballoon/balloon_registers.h"
#include "vballoon/clock.h"
#include "vballoon/device_queue.h"
#include "vballoon/discarder.h"
#include "vballoon/error.h"
#include "vballoon/export.h"
#include "vballoon/features.h"
#include "vballoon/guest_memory.h"
#include "vballoon/log.h"
#include "vballoon/page_range.h"
#include "vballoon/result.h"

namespace vballoon {

// The largest size that set_queue() takes: what a transport reports as the maximum.
inline constexpr std::uint16_t kBalloonMaxQueueSize = 1024;

// What the device does with pages that the guest deflates.
enum class DeflateAction : std::uint8_t {
  kNothing,   // the guest's next touch brings them back
  kWillNeed,  // MADV_WILLNEED
};

struct BalloonOptions {
  Dialect dialect = Dialect::kStandard;
  // The feature bit that announces a dialect other than the standard's: 1 to 23 or 50 to 63, those
  // of a device type (2.2) without MUST_TELL_HOST.
  unsigned dialect_bit = kPublishedDialectBit;
  // What is offered beside the dialect's bit, any of those here; VERSION_1 always is.
  Features features{Feature::kMustTellHost, Feature::kIndirectDesc, Feature::kEventIdx};
  DeflateAction deflate_action = DeflateAction::kNothing;

  // Interrupts, called without a lock held: a queue has used buffers the driver waits for
  // (on the thread of process()), the configuration or the status changed (on any thread). One
  // that was on its way when another thread reset the device may come after the reset: a
  // transport that keeps an interrupt status drops it then.
  std::function<void(std::uint16_t queue)> notify_queue = {};
  std::function<void()> notify_config = {};

  LogSink log = {};  // at most a few messages a second, whatever the guest does
  Clock clock = steady_clock();
};

// Where the time of process() went, since the device was made.
struct StageTimes {
  std::chrono::nanoseconds decode{0};     // taking chains, copying and reading payloads, returning
  std::chrono::nanoseconds translate{0};  // sorting, checking, booking, guest to host addresses
  std::chrono::nanoseconds discard{0};    // in the kernel
  // When the kernel had taken the last byte: a time of BalloonOptions::clock.
  std::chrono::nanoseconds last_discard_end{0};
};

// Counters since the device was made; a reset of the device does not clear them.
struct BalloonMetrics {
  std::uint64_t inflate_messages = 0;
  std::uint64_t deflate_messages = 0;
  std::uint64_t queue_bytes = 0;  // readable bytes taken, and 16 for each descriptor

  // Pages named in inflates, each once a batch, counted before they are discarded. At all times
  // inflated = freed + owed + forgone + cancelled.
  std::uint64_t inflated_bytes = 0;
  std::uint64_t deflated_bytes = 0;   // left the balloon
  std::uint64_t freed_bytes = 0;      // the kernel took them
  std::uint64_t owed_bytes = 0;       // in the balloon now, not yet given back
  std::uint64_t forgone_bytes = 0;    // acknowledged, and never to be given back
  std::uint64_t cancelled_bytes = 0;  // deflated or inflated again while owed

  std::uint64_t discard_calls = 0;
  std::uint64_t discard_failures = 0;  // pieces that the kernel refused; neighbours are one
  int last_discard_errno = 0;

  std::uint64_t notifications = 0;  // interrupts sent for queues
  StageTimes stages;

  // What the guest did wrong, by reason. A counter that is full stays so.
  std::array<std::uint64_t, kErrcCount> errors{};
  [[nodiscard]] std::uint64_t count(Errc code) const {
    return errors[static_cast<std::size_t>(code)];
  }
};

class VBALLOON_EXPORT BalloonDevice {
 public:
  // Fails with kInvalidArgument without memory or discarder, when a feature is not implemented,
  // and when the dialect's bit has another meaning.
  [[nodiscard]] static Result<std::unique_ptr<BalloonDevice>> create(
      std::shared_ptr<const GuestMemory> memory, std::unique_ptr<Discarder> discarder,
      BalloonOptions options = {});

  ~BalloonDevice();  // no other call may be running
  BalloonDevice(const BalloonDevice&) = delete;
  BalloonDevice& operator=(const BalloonDevice&) = delete;

  // ---- for the transport: what the driver reads and writes -----------------------------------

  [[nodiscard]] Features offered_features() const;

  // What the driver accepts; takes effect when it sets FEATURES_OK, which stays clear when a
  // feature was not offered or VERSION_1 is missing (3.1.1).
  void write_features(Features accepted);

  [[nodiscard]] std::uint8_t read_status() const;
  // 0 resets: queues stop, the ledger is emptied, what was owed is forgone, target and actual stay.
  // Returns after a discard in flight has returned.
  void write_status(std::uint8_t status);

  // Little-endian bytes of the configuration space (5.5.4): le32 num_pages, le32 actual. Reads
  // outside it give zeros; writes to anything but `actual` are ignored and counted.
  void read_config(std::uint64_t offset, std::span<std::byte> out) const;
  void write_config(std::uint64_t offset, std::span<const std::byte> in);

  [[nodiscard]] std::uint16_t queue_count() const;
  // Requires FEATURES_OK and not DRIVER_OK. The event index and indirect fields are taken from the
  // negotiated features. Fails, and counts, with kBadQueueConfig at another time, for an index that
  // is none and for a size beyond kBalloonMaxQueueSize, and as DeviceQueue::start() does.
  [[nodiscard]] Result<void> set_queue(std::uint16_t index, const QueueConfig& config);

  // Serves a queue until it is empty or until as many chains were served as the queue has
  // entries, or fewer that were long; true when there may be more. Call it when the queue is
  // kicked, and again while it answers true. Does nothing before DRIVER_OK, while the device
  // needs a reset, while one waits, or for an index that is none.
  bool process(std::uint16_t index);

  // ---- for the embedder ---------------------------------------------------------------------

  // How much memory the guest should give up. Fails with kTargetTooLarge beyond guest memory or
  // 2^32 - 1 pages, and with kInvalidArgument when bytes are no multiple of 4 KiB.
  [[nodiscard]] Result<void> set_target_bytes(std::uint64_t balloon_bytes);
  [[nodiscard]] Result<void> set_target_pages(std::uint64_t balloon_pages);
  [[nodiscard]] std::uint64_t target_pages() const;
  // What the guest says is in the balloon. Written by the guest: may be any 32-bit number.
  [[nodiscard]] std::uint32_t actual_pages() const;
  // What the device has booked: pages inflated and not deflated since the last reset.
  [[nodiscard]] std::uint64_t ballooned_pages() const;
  [[nodiscard]] bool is_ballooned(Pfn pfn) const;  // false outside guest memory

  [[nodiscard]] BalloonMetrics metrics() const;

 private:
  struct Impl;
  explicit BalloonDevice(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace vballoon

#endif  // VBALLOON_BALLOON_DEVICE_H_
