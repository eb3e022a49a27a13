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
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

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
#include "vballoon/stats.h"
#include "vballoon/trace.h"

namespace vballoon {

// The largest size that set_queue() takes: what a transport reports as the maximum.
inline constexpr std::uint16_t kBalloonMaxQueueSize = 1024;

// What the device does with pages that the guest deflates.
enum class DeflateAction : std::uint8_t {
  kNothing,   // the guest's next touch brings them back
  kWillNeed,  // MADV_WILLNEED
  // MADV_COLLAPSE of each transparent huge page of which the last page left the balloon, unless
  // nothing of it is there. What was given back of it is there again at once, and the guest waits.
  kCollapse,
};

// What an inflate does to a transparent huge page (MemoryRegion::huge_page_bytes) of which it names
// a part. Without MUST_TELL_HOST pages that another message named are not touched again. For a
// discarder that gives a run back in one call: DiscardStrategy::kPerPage splits all of them.
enum class HugePagePolicy : std::uint8_t {
  kSplit,      // the part is discarded, and the rest stays behind as small pages
  kKeepWhole,  // it is discarded when all of it is in the balloon, and owed until then
  // The part is discarded. When all of it is in the balloon one discard of the whole makes the next
  // touch bring a huge page again. kSplit where the kernel does not do that (healing_available()),
  // and for shared memory.
  kHeal,
};

// How much process() does before it comes back. Counted, not timed.
struct WorkBudget {
  std::uint64_t pages = std::uint64_t{1} << 18;   // named by messages; 1 GiB of them
  std::uint64_t bytes = std::uint64_t{16} << 20;  // of payload
};

struct BalloonOptions {
  Dialect dialect = Dialect::kStandard;
  // The feature bit that announces a dialect other than the standard's: 1 to 23 or 50 to 63, those
  // of a device type (2.2) without MUST_TELL_HOST. Unset: the one that its authors gave it.
  std::optional<unsigned> dialect_bit = std::nullopt;
  // Offer the queues over which the host asks the guest (has_guest_requests()): which pages are
  // free, instead of FREE_PAGE_HINT, and in the page bitmap also to drop its caches. The request
  // queue of the page bitmap needs STATS_VQ. The bit: as that of the dialect; unset: 4.
  bool guest_requests = false;
  std::optional<unsigned> guest_requests_bit = std::nullopt;
  // What is offered beside the dialect's bits, any of those here; VERSION_1 always is.
  Features features{Feature::kMustTellHost, Feature::kIndirectDesc, Feature::kEventIdx};
  DeflateAction deflate_action = DeflateAction::kNothing;
  HugePagePolicy huge_pages = HugePagePolicy::kHeal;
  QueueNumbering numbering = QueueNumbering::kDense;
  // Leave FEATURES_OK clear for a driver that does not accept MUST_TELL_HOST (5.5.3.2).
  bool require_must_tell_host = false;
  // Whether an array of page numbers in which every other 32-bit word is 0 is one of 64-bit
  // numbers, as the Windows driver writes them. Unset: if MUST_TELL_HOST was not accepted, which
  // that driver never does.
  std::optional<bool> wide_pfns = std::nullopt;
  // The driver may write poison_val while DRIVER_OK is set, against 5.5.6.6.1: for a transport that
  // does not learn when a driver is ready, and sets DRIVER_OK for it.
  bool poison_while_running = false;
  WorkBudget budget = {};
  // What addresses of rings and buffers mean to a driver that accepts ACCESS_PLATFORM, which is
  // offered only with this. Page numbers in messages are guest-physical all the same. Called by
  // process() and set_queue() with a lock held: it must not call the device, nor wait for a thread
  // that does.
  AddressTranslator translate_address = {};
  // With MUST_TELL_HOST: acknowledge inflates at once and leave the discards to whoever calls
  // run_owed_discards(). As soon as more than max_owed_bytes would be owed, process() discards
  // before it acknowledges, as it does otherwise. What waits for the rest of a huge page counts.
  bool write_behind = false;
  std::uint64_t max_owed_bytes = std::uint64_t{1} << 30;

  // Interrupts, called without a lock held: a queue has used buffers the driver waits for
  // (on the thread of process()), the configuration or the status changed (on any thread). One
  // that was on its way when another thread reset the device may come after the reset: a
  // transport that keeps an interrupt status drops it then.
  std::function<void(std::uint16_t queue)> notify_queue = {};
  std::function<void()> notify_config = {};
  // process(queue) has something to do without a kick: one that came before DRIVER_OK, or a
  // request for statistics; or tick() is due at another time. Called without a lock held, on any
  // thread. Without it call process() for every queue after DRIVER_OK and after request_stats().
  std::function<void(std::uint16_t queue)> wake = {};
  // run_owed_discards() has something to do after it had nothing. Called without a lock held, on
  // the thread of process() or of resume_discards().
  std::function<void()> discards_owed = {};
  // What the guest has brought is new: `actual` or the status was written, statistics came, a round
  // of hints went on, a queue broke, a message was wrong. For whoever shows it; look at what is
  // asked for below. Called without a lock held, on the thread of process() or of the register
  // access.
  std::function<void()> news = {};
  // Pages that the guest says are free, while a round of hints is active; needed to offer
  // FREE_PAGE_HINT, and by start_hints(). Ascending, inside guest memory. Called on the thread of
  // process() before the guest may touch them again, with the device's queues locked: it must not
  // call the device back. What was written to a page since start_hints() has to be copied all the
  // same, so this is for a caller that tracks writes. The device never discards them.
  std::function<void(std::span<const PageRange>)> on_free_page_hints = {};

  // Is told what driver and host do. Outlives the device; nullptr: nobody.
  Trace* trace = nullptr;

  LogSink log = {};  // at most a few messages a second, whatever the guest does
  Clock clock = steady_clock();
};

// Where the time of process() went, since the device was made.
struct StageTimes {
  std::chrono::nanoseconds decode{0};     // taking chains, copying and reading payloads, returning
  std::chrono::nanoseconds translate{0};  // sorting, checking, booking, guest to host addresses
  std::chrono::nanoseconds discard{0};    // in the kernel
  // Of `discard`, what run_owed_discards() did while process() went on.
  std::chrono::nanoseconds discard_behind{0};
  // When the kernel had taken the last byte: a time of BalloonOptions::clock.
  std::chrono::nanoseconds last_discard_end{0};
};

// What queues are for, as counters tell them apart. Those for requests to the guest bring hints.
enum class QueueUse : std::uint8_t { kInflate, kDeflate, kStats, kHints, kReports };
inline constexpr std::size_t kQueueUseCount = 5;
[[nodiscard]] VBALLOON_EXPORT std::string_view to_string(QueueUse use) noexcept;  // "inflate"

// Counters since the device was made; a reset of the device does not clear them.
struct BalloonMetrics {
  std::uint64_t inflate_messages = 0;
  std::uint64_t deflate_messages = 0;
  std::uint64_t stats_messages = 0;
  std::uint64_t hint_messages = 0;    // of free page hints, and over queues for requests
  std::uint64_t report_messages = 0;  // of free page reports
  std::uint64_t queue_bytes = 0;      // readable bytes taken, and 16 for each descriptor

  // Pages named in inflates, each once a batch, counted before they are discarded. One that is in
  // the balloon already is discarded again, and counts again. At all times
  // inflated = freed + owed + forgone + cancelled.
  std::uint64_t inflated_bytes = 0;
  std::uint64_t deflated_bytes = 0;   // left the balloon
  std::uint64_t freed_bytes = 0;      // the kernel took them
  std::uint64_t owed_bytes = 0;       // in the balloon now, not yet given back
  std::uint64_t forgone_bytes = 0;    // acknowledged, and never to be given back
  std::uint64_t cancelled_bytes = 0;  // deflated or inflated again while owed

  // Pages named in free page reports, and how many of them the kernel took; the others lie in a
  // huge page to be kept that was not named as a whole, were refused, or may not be changed
  // (PAGE_POISON).
  std::uint64_t reported_bytes = 0;
  std::uint64_t reported_freed_bytes = 0;
  // Pages handed to on_free_page_hints; those of a round that is over are not.
  std::uint64_t hinted_bytes = 0;

  std::uint64_t collapsed_bytes = 0;  // huge pages that DeflateAction::kCollapse made, or found

  std::uint64_t discard_calls = 0;
  std::uint64_t discard_failures = 0;  // pieces that the kernel refused; neighbours are one
  int last_discard_errno = 0;

  std::uint64_t notifications = 0;  // interrupts sent for queues
  StageTimes stages;

  // What the guest did wrong, by reason. A counter that is full stays so.
  std::array<std::uint64_t, kErrcCount> errors{};
  // Of those, what was wrong in rings and messages, by QueueUse; the others are of registers.
  std::array<std::array<std::uint64_t, kErrcCount>, kQueueUseCount> queue_errors{};
  [[nodiscard]] std::uint64_t count(Errc code) const {
    return errors[static_cast<std::size_t>(code)];
  }
  // The reasons that were counted at all, and how often, in the order of Errc.
  [[nodiscard]] VBALLOON_EXPORT std::vector<std::pair<Errc, std::uint64_t>> counted_errors() const;
};

// Where a round of free page hints stands (5.5.6.5).
enum class HintState : std::uint8_t {
  kStopped,    // no hints are wanted
  kRequested,  // the guest has not begun; over a queue for requests: it has not been asked yet
  kActive,     // hints come
  kExhausted,  // the guest has no more
  kDone,       // the guest may use the pages again
};

struct HintStatus {
  HintState state = HintState::kStopped;
  std::uint32_t command_id = 0;  // as the configuration space says
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
  // feature was not offered or one that is needed is missing (3.1.1).
  void write_features(Features accepted);

  // What was negotiated: nothing before FEATURES_OK.
  [[nodiscard]] Features negotiated_features() const;

  [[nodiscard]] std::uint8_t read_status() const;
  // 0 resets: queues stop, the ledger is emptied, what was owed is forgone, target and actual stay.
  // Returns after a discard in flight has returned.
  void write_status(std::uint8_t status);

  // Little-endian bytes of the configuration space (5.5.4): le32 num_pages, le32 actual; with
  // FREE_PAGE_HINT offered le32 free_page_hint_cmd_id, with PAGE_POISON that and le32 poison_val.
  // Reads outside it give zeros; writes to anything but `actual`, and `poison_val` before
  // DRIVER_OK, are ignored and counted.
  void read_config(std::uint64_t offset, std::span<std::byte> out) const;
  void write_config(std::uint64_t offset, std::span<const std::byte> in);
  // Another number when two reads of the configuration space may not belong together (2.5).
  [[nodiscard]] std::uint32_t config_generation() const;

  // Whether there is a queue of that number: with the features that were negotiated, or before
  // FEATURES_OK with those that are offered.
  [[nodiscard]] bool has_queue(std::uint16_t index) const;
  // Requires FEATURES_OK, and not DRIVER_OK unless the queue was reset. The event index,
  // indirect, packed and in-order fields are taken from the negotiated features. Fails, and counts,
  // with kBadQueueConfig at another time, for an index that is none and for a size beyond
  // kBalloonMaxQueueSize, and as DeviceQueue::start() does.
  [[nodiscard]] Result<void> set_queue(std::uint16_t index, const QueueConfig& config);
  // Stops a queue (2.6.1): chains that are held go unanswered, rings are not touched any more. With
  // RING_RESET it may be set up again while the device runs. Returns after a discard in flight has
  // returned. Pages that the queue has brought stay in the balloon; those still owed are forgone if
  // a message stays unanswered, as the driver may use its pages again.
  void reset_queue(std::uint16_t index);

  // For a transport on which queues stop and go on while the device runs (vhost-user). A suspended
  // queue has answered what it had read and put back what it had not; its rings are not touched any
  // more. The result is where it goes on, in this process or another; nullopt for a queue that does
  // not run. A statistics buffer that was held is read again then.
  [[nodiscard]] std::optional<QueuePosition> suspend_queue(std::uint16_t index);
  // Takes a queue that does not run into use, at any time from FEATURES_OK on. Otherwise as
  // set_queue().
  [[nodiscard]] Result<void> resume_queue(std::uint16_t index, const QueueConfig& config,
                                          const QueuePosition& position = {});

  // Serves a queue until it is empty or until the work budget is spent, or until as many chains
  // were served as the queue has entries; true when there may be more, in the middle of a message
  // even. Call it when the queue is kicked, and again while it answers true, as it also does while
  // a reset waits. Does nothing while the device needs a reset or for an index that is none. Before
  // DRIVER_OK it remembers the kick: DRIVER_OK then asks for the call by `wake`.
  bool process(std::uint16_t index);
  // The same for a thread that watches the rings before it sleeps: leaves kicks switched off, and
  // is true when it found something to do. Before the thread sleeps it has to call process() for
  // each queue, which asks for kicks again.
  bool poll(std::uint16_t index);

  // ---- for the embedder ---------------------------------------------------------------------

  // Of the guest; 0 for a device whose memory is still to come (set_memory()).
  [[nodiscard]] std::uint64_t memory_bytes() const;

  // How much memory the guest should give up. Fails with kTargetTooLarge beyond guest memory, if
  // there is some, or 2^32 - 1 pages, and with kInvalidArgument when bytes are no multiple of 4
  // KiB.
  [[nodiscard]] Result<void> set_target_bytes(std::uint64_t balloon_bytes);
  [[nodiscard]] Result<void> set_target_pages(std::uint64_t balloon_pages);
  [[nodiscard]] std::uint64_t target_pages() const;
  // What the guest says is in the balloon. Written by the guest: may be any 32-bit number.
  [[nodiscard]] std::uint32_t actual_pages() const;
  // What the device has booked: pages inflated and not deflated since the last reset.
  [[nodiscard]] std::uint64_t ballooned_pages() const;
  [[nodiscard]] bool is_ballooned(Pfn pfn) const;  // false outside guest memory

  // Statistics. Ask once: the answer will be in stats(), which says so when there is none after
  // `timeout`. A guest that is collecting already answers both requests at once. Fails with
  // kNotSupported unless STATS_VQ was negotiated by a driver that runs.
  [[nodiscard]] Result<void> request_stats(std::chrono::nanoseconds timeout);
  // Ask again and again, from now on, driven by tick(); 0 asks on demand only. Survives a reset.
  void set_stats_interval(std::chrono::nanoseconds interval);
  [[nodiscard]] std::chrono::nanoseconds stats_interval() const;
  [[nodiscard]] StatsReport stats() const;
  // Does what time has made due, on the thread of process(); returns at which time of the clock it
  // wants to be called next, if at all. Call it again after set_stats_interval() and when stats()
  // has a new answer, which is `news`.
  std::optional<std::chrono::nanoseconds> tick();

  // Discards that wait. While they are inhibited (a device has guest memory pinned, the guest is
  // being copied) nothing is given to the kernel: pages are acknowledged and owed, or forgone
  // without MUST_TELL_HOST, and reports are answered without a discard. inhibit_discards() returns
  // when no discard is in flight, and has to be resumed as often as it was called. What is owed
  // then is left to run_owed_discards(), or, without BalloonOptions::discards_owed, done before
  // resume_discards() returns.
  void inhibit_discards();
  void resume_discards();
  // Gives back some of what is owed, at most 64 MiB and a huge page; true when there may be more.
  // For a thread of its own; holds no lock of the device while the kernel works. What the kernel
  // refuses stays owed and is tried again after the next inflate that is put off, or by drain().
  bool run_owed_discards();
  // Gives back all that is owed and can be given back; true when nothing is owed any more. A huge
  // host page that is not in the balloon as a whole stays owed, and so do the pages of such a
  // transparent one with HugePagePolicy::kKeepWhole.
  bool drain();

  // Free page hints, for a host that is about to copy guest memory and tracks writes to it. A
  // round begins with a new command id, stop_hints() ends it because hints are of no more use, and
  // finish_hints() lets the guest have the pages back; each of the three waits for a turn of
  // process() that is under way. start_hints() fails with kNotSupported unless FREE_PAGE_HINT or
  // queues for requests were negotiated by a driver that runs, and without on_free_page_hints.
  //
  // Over queues for requests the guest keeps no pages: it names those that are free as it looks at
  // them. A round begins when it has been asked, by process() for the request or control queue,
  // which start_hints() and stop_hints() ask for by `wake`. It is not saved.
  [[nodiscard]] Result<std::uint32_t> start_hints();
  void stop_hints();
  void finish_hints();
  [[nodiscard]] HintStatus hint_status() const;

  // Asks the guest to drop caches, so that an inflate finds free memory or a migration has less to
  // copy. One that has not been sent yet gives way to a new one. Fails with kNotSupported unless
  // a request queue was negotiated by a driver that runs.
  [[nodiscard]] Result<void> request_cache_drop(CacheKinds kinds);
  // The guest has not said that it did. A guest may never answer.
  [[nodiscard]] bool cache_drop_pending() const;

  [[nodiscard]] BalloonMetrics metrics() const;

  // Goes on in another guest memory: regions came, went, or lie elsewhere in this process. For the
  // thread that brings register accesses, as the driver's rings lie there. Waits for a turn of
  // process() that is under way and for discards in flight; once it has returned the device has let
  // go of the old memory.
  //
  // Pages are known by their guest address. Those that both memories have stay in the balloon, and
  // owed; all others leave it, and what was owed of them is forgone. Queues go on where they stood,
  // with what now stands in their rings and messages. One whose rings are not inside the new memory
  // is broken: DEVICE_NEEDS_RESET. Fails, with everything as it was, with kInvalidArgument without
  // memory, and with kTargetTooLarge when the target is beyond it. Memory without regions takes any
  // target: the next one is to come.
  //
  // With `place` the rings lie at other guest addresses there: it is called for each queue that
  // runs, with its configuration, and gives the new one; nullopt: it has no place. It must not call
  // the device.
  using PlaceQueue =
      std::function<std::optional<QueueConfig>(std::uint16_t queue, const QueueConfig& config)>;
  [[nodiscard]] Result<void> set_memory(std::shared_ptr<const GuestMemory> memory,
                                        const PlaceQueue& place = {});

  // ---- for a snapshot or a migration --------------------------------------------------------

  // The whole device as bytes (docs/formats.md): what was negotiated, status, configuration with
  // target and poison, the places in the queues and the buffers that are held, which pages are in
  // the balloon and which are owed, statistics and their interval, the round of hints. Not in it:
  // options beside those that restore() compares, how often discards were inhibited, metrics.
  //
  // Call it with the guest's processors stopped and no process(), poll() or tick() under way on
  // another thread: the interrupt that these would still send is not in the state. Writes nothing
  // to guest memory and gives nothing back; waits for a discard in flight. This device can go on
  // afterwards, when a migration is given up, say; it must not once the restored one has.
  [[nodiscard]] std::vector<std::byte> save();

  // Goes on where a device was saved. This one was created with the same features, dialect and
  // numbering of queues, for guest memory of the same regions, and has been touched by no driver
  // since (or was reset): fails with kInvalidArgument otherwise, if it was touched. Fails with
  // kBadSavedState and the reason when the state is damaged, of another version or device, or
  // impossible; the device is then as it was before.
  //
  // Asks for process() by `wake`, or call it for every queue. What is owed is then left to
  // run_owed_discards(), or given back before this returns, as after resume_discards(): inhibit
  // discards before where guest memory is not to be touched yet. Owed pages count as inflated in
  // the metrics of this device.
  [[nodiscard]] Result<void> restore(std::span<const std::byte> state);

 private:
  struct Impl;
  void schedule_owed_discards();  // unless inhibited
  explicit BalloonDevice(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace vballoon

#endif  // VBALLOON_BALLOON_DEVICE_H_
