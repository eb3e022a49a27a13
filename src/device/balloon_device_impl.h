// SPDX-License-Identifier: MIT
// What a balloon device is made of, and the locks around it.
//
// The calls of the public interface are in balloon_device.cc, those that ask the guest in
// ask_guest.cc; serving a queue is in serve.cc, requests to the guest in serve_requests.cc, what
// becomes of pages in pages.cc, saving in save_restore.cc, another guest memory in set_memory.cc.
#ifndef VBALLOON_SRC_DEVICE_BALLOON_DEVICE_IMPL_H_
#define VBALLOON_SRC_DEVICE_BALLOON_DEVICE_IMPL_H_

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/page_ranges.h"
#include "device/device_state.h"
#include "device/discard_plan.h"
#include "device/granules.h"
#include "device/guest_requests.h"
#include "device/hint_round.h"
#include "device/ledger.h"
#include "device/limited_log.h"
#include "device/owed_discards.h"
#include "device/page_messages.h"
#include "device/registers.h"
#include "device/stats_requests.h"
#include "vballoon/balloon_device.h"
#include "wire/dialect.h"
#include "wire/guest_request.h"

namespace vballoon {

constexpr QueueUse use_of(QueueRole role) {
  switch (role) {
    case QueueRole::kInflate:
      return QueueUse::kInflate;
    case QueueRole::kDeflate:
      return QueueUse::kDeflate;
    case QueueRole::kStats:
      return QueueUse::kStats;
    case QueueRole::kReporting:
      return QueueUse::kReports;
    case QueueRole::kFreePageHint:
    case QueueRole::kRequest:
    case QueueRole::kControl:
    case QueueRole::kFreePages:
      break;
  }
  return QueueUse::kHints;
}

// `queues_lock` is held while a queue is served or set up, so that a reset waits for a discard in
// flight; `state_lock` is held briefly and orders everything that other threads may read.
// `queues_lock` is taken first. The kernel is called with that one only, or, for discards that were
// put off, with `owed_lock` only.
struct BalloonDevice::Impl {
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  Impl(std::shared_ptr<const GuestMemory> memory_in, std::unique_ptr<Discarder> discarder_in,
       BalloonOptions options_in);
  // Writes nothing to the rings: another device may serve them by now.
  ~Impl();

  struct Queue {
    const QueueRow* row = nullptr;  // what it is for; set while it is set up
    QueueConfig config;             // as the ring was started
    DeviceQueue ring;
    std::unique_ptr<PageMessages> pages;  // of a queue that names pages
    // Buffers for what the device may want to say: that of the statistics queue, those of requests.
    std::vector<DescriptorChain> held{};
    bool buffer_waits = false;  // one for requests comes next, when what was read is answered
    bool round_ends = false;    // with the answers that were read, the last one of a round came

    void stop();  // forgets chains, unanswered, and rings

    // Where it stands, between two turns. A message that is being read goes back into the ring, and
    // so do buffers for requests, unless something was returned behind them.
    // Requires that the ring is ready.
    [[nodiscard]] DeviceState::Queue state();
    // Goes on from there, on a ring that has just been started and has taken these chains over.
    void go_on(const DeviceState::Queue& from, std::vector<DescriptorChain> chains);
  };
  // A queue that is to go on in another memory.
  struct MovedQueue {
    DeviceState::Queue state;
    std::vector<DescriptorChain> held;
    // Not ready when that memory has no room for it. Goes before the chains: those of a queue that
    // runs are returned when they are given up.
    DeviceQueue ring;
  };

  // What a turn of serving may still do.
  struct Left {
    std::uint64_t pages = 0;
    std::uint64_t bytes = 0;
    std::size_t chains = 0;
  };
  // What a turn has to say once no lock is held.
  struct Turn {
    bool more = false;
    bool discards_owed = false;
    std::uint32_t notify_queues = 0;  // a bit for each
    bool notify_config = false;
    bool news = false;
    std::optional<std::chrono::nanoseconds> next_tick{};
  };

  // ---- registers (state_lock) ------------------------------------------------------------------

  [[nodiscard]] QueueMap queue_map() const { return queue_map(registers); }
  [[nodiscard]] QueueMap queue_map(const Registers& with) const;
  // Without MUST_TELL_HOST a page may be changed only until its inflate is acknowledged.
  [[nodiscard]] bool may_owe() const { return registers.has(Feature::kMustTellHost); }
  [[nodiscard]] HugePagePolicy policy_for(const GuestMemory& of) const {
    return usable_policy(options.huge_pages, of);
  }
  // The codec of a queue, with what the driver's features say about its habits.
  [[nodiscard]] Codec codec_of(const QueueRow& row) const;
  [[nodiscard]] std::optional<std::uint16_t> queue_of(QueueRole role) const;
  [[nodiscard]] AddressTranslator translator_of(const Registers& with) const;
  // With queues_lock.
  [[nodiscard]] bool may_set_up(std::uint16_t index) const;

  // What the guest did wrong, with state_lock.
  void count_guest_error(Errc code, std::uint64_t times = 1);
  // The same in the queue that is being served, if one is: with queues_lock, and the second with
  // state_lock too.
  void count(Errc code, std::uint64_t times = 1);
  void count_locked(Errc code, std::uint64_t times);
  // Over which the guest is asked for free pages, if that is not done by the configuration.
  [[nodiscard]] std::optional<std::uint16_t> request_queue() const;
  void set_hint_command(std::uint32_t id);
  void say_that_hints_changed(std::optional<std::uint16_t> by_request) const;
  void end_hints(void (HintRound::*end)());
  // Hints that were read and not handed over are of the round that was. With queues_lock.
  void forget_hints();
  void wait_for_owed_discards(std::unique_lock<std::mutex>& lock);
  void forgo_what_is_owed(std::unique_lock<std::mutex>& lock);
  // Target, actual and the interval of statistics stay.
  void reset();

  // Takes rings into use. With queues_lock, and with registers that say what was negotiated.
  [[nodiscard]] Result<void> start_queue(std::uint16_t index, const QueueConfig& config,
                                         const Registers& with, const QueuePosition& position = {});

  // ---- saving (queues_lock and state_lock; save_restore.cc) ------------------------------------

  [[nodiscard]] DeviceMake make() const;
  [[nodiscard]] DeviceState state();
  // What is impossible in a state, or that it is none for these registers; empty if it can be.
  [[nodiscard]] std::string objection(const DeviceState& state, const Registers& restored) const;
  [[nodiscard]] std::string take_over(std::uint16_t index, const DeviceState::Queue& queue,
                                      const Registers& restored);
  [[nodiscard]] Result<void> restore(DeviceState state);

  // ---- another guest memory (queues_lock; set_memory.cc) ---------------------------------------

  // Leaves the old one in `to`. True when a queue has no place there and the driver is to be told.
  [[nodiscard]] Result<bool> set_memory(std::shared_ptr<const GuestMemory>& to,
                                        const PlaceQueue& place);
  [[nodiscard]] MovedQueue move_queue(Queue& queue, const QueueConfig& config,
                                      const std::shared_ptr<const GuestMemory>& to,
                                      const Registers& with) const;

  // ---- a queue that stops to go on (queues_lock; suspend_queue.cc) -----------------------------

  // Leaves no chain held, and says whether the driver wants an interrupt for what was returned.
  [[nodiscard]] bool settle(Queue& queue);

  // ---- serving a queue (queues_lock; serve.cc) -------------------------------------------------

  [[nodiscard]] Turn serve(std::uint16_t index, bool watching);
  void serve_queue(std::uint16_t index, bool watching, Turn& turn);
  void say(const Turn& turn) const;  // what follows from a turn, with no lock held
  bool take_turn(std::uint16_t index, bool watching);
  [[nodiscard]] Turn tick(std::uint16_t stats_index);
  [[nodiscard]] Result<std::optional<DescriptorChain>> take_chain(Queue& queue, Left& left);
  void trace_message(const Queue& queue, const DescriptorChain& chain);
  // Each is true when it left something undone. They stop for a reset that waits.
  [[nodiscard]] bool serve_pages(Queue& queue, Left& left);
  void serve_stats(Queue& queue, Left& left);
  [[nodiscard]] bool fill_batch(Queue& queue, Left& left);
  // Makes the next message PageMessages::current; false when there is none that can be read.
  [[nodiscard]] bool take_message(Queue& queue, Left& left);
  void begin_message(Queue& queue);
  [[nodiscard]] bool deal_with_batch(Queue& queue, Left& left);
  void answer(Queue& queue);
  // Whether the current message is a command id of free page hints.
  [[nodiscard]] bool is_hint_command(const Queue& queue) const;
  void receive_hint_command(const DescriptorChain& chain);
  bool ask_for_stats(Queue& queue);

  // ---- requests to the guest (queues_lock; serve_requests.cc)

  void hold_request_buffer(Queue& queue, DescriptorChain chain);
  // The bytes that a message of a queue for requests begins with; nullopt, and counted, when it is
  // shorter.
  using Front = std::array<std::byte, kControlBytes>;
  static_assert(kControlBytes == kAnswerHeaderBytes);
  [[nodiscard]] std::optional<Front> read_front(const DescriptorChain& chain);
  // True when the current message names pages of the round that is active.
  [[nodiscard]] bool receive_answer(Queue& queue);
  void receive_control(const DescriptorChain& chain);
  void send_request(Queue& queue);
  void serve_control(Queue& queue, Left& left);
  // Writes it into a buffer that is held. False when there is none that takes it.
  [[nodiscard]] bool say_to_guest(Queue& queue, std::span<const std::byte> bytes);

  [[nodiscard]] bool should_stop() const { return resets_waiting != 0 && !settling; }

  // ---- pages (queues_lock; pages.cc) -----------------------------------------------------------

  void inflate(std::span<const PageRange> pages);
  void deflate(std::span<const PageRange> pages);
  [[nodiscard]] std::uint64_t collapse_runs() const;
  void report_free(std::span<const PageRange> pages);
  void hint_free(std::span<const PageRange> pages);
  // Whether these pages are to be discarded later, or, where nothing may be owed, never.
  [[nodiscard]] bool put_off(std::span<const PageRange> pages) const;
  void inflate_without_discard(std::span<const PageRange> pages);
  [[nodiscard]] bool run_owed_discards();
  void book(const DiscardPlan::Outcome& outcome, Errc unchanged);
  void discard(std::span<const HostRun> runs, bool huge);
  void count_discard(const DiscardReport& done);
  // Calls the kernel and counts what it did, under the lock that is returned.
  [[nodiscard]] std::unique_lock<std::mutex> discard_and_count(std::span<const HostRun> runs);

  std::chrono::nanoseconds lap();

  std::shared_ptr<const GuestMemory> memory;  // changes with both locks held
  const std::unique_ptr<Discarder> discarder;
  const BalloonOptions options;

  // Resets that wait for `queues_lock`: who serves lets them in soon, in the middle of a message
  // even.
  std::atomic<int> resets_waiting{0};

  std::mutex queues_lock;
  std::array<Queue, kMaxBalloonQueues> queues;
  DiscardReport report;
  std::vector<std::byte> traced;   // payload of a message
  std::optional<QueueUse> served;  // the queue whose messages are dealt with
  bool settling = false;           // what was read has to be dealt with, whoever waits
  bool turn_put_off = false;       // this turn has left discards for later
  PageRanges hinted;
  std::chrono::nanoseconds lap_start{0};
  std::uint64_t turn_messages = 0;     // of this turn: a message can be one descriptor, and a
  std::uint64_t turn_queue_bytes = 0;  // lock for each would cost more than the rest of it

  std::mutex owed_lock;  // of who runs owed discards; taken before the others
  DiscardReport owed_report;

  mutable std::mutex state_lock;
  LimitedLog guest_log;
  LimitedLog kernel_log;  // of its own: a noisy guest must not hide what the kernel refuses
  Registers registers;
  std::uint32_t early_kicks = 0;  // queues kicked before DRIVER_OK, a bit each
  Ledger ledger;
  DiscardPlan plan;
  int inhibited = 0;  // how often discards were inhibited and not resumed
  int forgoing = 0;   // resets that wait for the kernel and take all else that is owed away
  OwedDiscards owed_discards;
  bool owed_discards_idle = true;  // whoever runs them has nothing to do, and is to be told
  std::condition_variable owed_discards_settled;
  std::uint64_t in_flight_pages = 0;  // booked and in the kernel, and not in the ledger as owed
  StatsRequests stats;
  HintRound hints;
  GuestRequests requests;
  BalloonMetrics metrics;
  bool errors_counted = false;  // since `news` was last called for them
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_DEVICE_BALLOON_DEVICE_IMPL_H_
