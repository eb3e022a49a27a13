// SPDX-License-Identifier: MIT
#include "vballoon/balloon_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

#include "device/discard_plan.h"
#include "device/ledger.h"
#include "device/limited_log.h"
#include "device/message_reader.h"
#include "device/registers.h"
#include "memory/will_need.h"
#include "wire/dialect.h"

namespace vballoon {
namespace {

constexpr std::uint64_t kDescriptorBytes = 16;

// No further chain is taken in a turn that has read this much: one message may have 4 GiB.
constexpr std::uint64_t kTurnBytes = std::uint64_t{16} << 20;

Features offer_of(const BalloonOptions& options) {
  const Features features = options.features.with(Feature::kVersion1);
  return options.dialect == Dialect::kStandard ? features : features.with_bit(options.dialect_bit);
}

// Those of a device type (2.2), but for MUST_TELL_HOST, which any dialect negotiates beside.
bool may_announce_a_dialect(unsigned bit) {
  return (bit >= 1 && bit <= 23) || (bit >= 50 && bit <= 63);
}

constexpr Features kImplemented{Feature::kMustTellHost, Feature::kIndirectDesc, Feature::kEventIdx,
                                Feature::kVersion1};

}  // namespace

// `queues_lock` is held while a queue is served or set up, so that a reset waits for a discard in
// flight; `state_lock` is held briefly and orders everything that other threads may read.
// `queues_lock` is taken first. The kernel is called with that one only.
struct BalloonDevice::Impl {
  Impl(std::shared_ptr<const GuestMemory> memory_in, std::unique_ptr<Discarder> discarder_in,
       BalloonOptions options_in)
      : memory(std::move(memory_in)),
        discarder(std::move(discarder_in)),
        options(std::move(options_in)),
        guest_log(options.log, options.clock),
        kernel_log(options.log, options.clock),
        registers(offer_of(options)),
        ledger(memory->page_count()),
        plan(*memory, ledger, MessageReader::kMaxBatchRanges) {
    chains.reserve(kBalloonMaxQueueSize);
  }

  [[nodiscard]] const QueueRow& row(std::uint16_t index) const {
    const Dialect spoken =
        options.dialect == Dialect::kStandard
            ? Dialect::kStandard
            : negotiated_dialect(options.dialect, options.dialect_bit, registers.negotiated());
    return dialect_row(spoken).queues[index];
  }
  // Without MUST_TELL_HOST a page may be changed only until its inflate is acknowledged.
  [[nodiscard]] bool may_owe() const { return registers.negotiated().has(Feature::kMustTellHost); }

  void count(Errc code, std::uint64_t times = 1);
  void count_unlocked(Errc code, std::uint64_t times);
  void reset();

  // What a turn of serving has to say once no lock is held.
  struct Turn {
    bool more = false;
    bool notify_queue = false;
    bool notify_config = false;
  };
  [[nodiscard]] Turn serve(std::uint16_t index);
  [[nodiscard]] bool take_chains(std::uint16_t index);
  void take_message(const QueueRow& queue, DescriptorChain& chain);
  void flush(QueueRole role);
  void inflate_batch();
  void deflate_batch();
  void book(const DiscardPlan::Outcome& outcome, Errc unchanged);
  void discard(std::span<const HostRun> runs, bool huge);

  std::chrono::nanoseconds lap();

  const std::shared_ptr<const GuestMemory> memory;
  const std::unique_ptr<Discarder> discarder;
  const BalloonOptions options;

  // Resets that wait for `queues_lock`: who serves lets them in soon, in the middle of a message
  // even.
  std::atomic<int> resets_waiting{0};

  std::mutex queues_lock;
  std::array<DeviceQueue, 2> queues;
  std::array<std::uint16_t, 2> queue_sizes{};
  std::vector<DescriptorChain> chains;  // of the batch being served
  MessageReader reader;
  DiscardReport report;
  std::chrono::nanoseconds lap_start{0};
  std::uint64_t turn_messages = 0;     // of this turn: a message can be one descriptor, and a
  std::uint64_t turn_queue_bytes = 0;  // lock for each would cost more than the rest of it

  mutable std::mutex state_lock;
  LimitedLog guest_log;
  LimitedLog kernel_log;  // of its own: a noisy guest must not hide what the kernel refuses
  Registers registers;
  Ledger ledger;
  DiscardPlan plan;
  std::uint64_t in_flight_pages = 0;  // booked and in the kernel, and not in the ledger as owed
  BalloonMetrics metrics;
};

void BalloonDevice::Impl::count(Errc code, std::uint64_t times) {
  const std::lock_guard guard(state_lock);
  count_unlocked(code, times);
}

void BalloonDevice::Impl::count_unlocked(Errc code, std::uint64_t times) {
  if (times == 0) return;
  // One bitmap can name 2^52 pages outside memory: stop at the end instead of wrapping around.
  std::uint64_t& counter = metrics.errors[static_cast<std::size_t>(code)];
  counter += std::min(times, std::numeric_limits<std::uint64_t>::max() - counter);
  guest_log.warn(to_string(code));
}

void BalloonDevice::Impl::reset() {
  ++resets_waiting;
  const std::lock_guard queues_guard(queues_lock);
  --resets_waiting;
  for (DeviceQueue& queue : queues) queue.reset();
  const std::lock_guard guard(state_lock);
  metrics.forgone_bytes += ledger.owed_pages() << kPageShift;
  ledger.clear();
  registers.reset();
}

// Time since the last lap, on the thread that serves.
std::chrono::nanoseconds BalloonDevice::Impl::lap() {
  const auto now = options.clock();
  return now - std::exchange(lap_start, now);
}

BalloonDevice::Impl::Turn BalloonDevice::Impl::serve(std::uint16_t index) {
  Turn turn;
  DeviceQueue& queue = queues[index];
  {
    const std::lock_guard guard(state_lock);
    if (!registers.running() || !queue.ready() || resets_waiting != 0) return turn;
  }
  lap_start = options.clock();
  queue.disable_kicks();
  turn.notify_config = !take_chains(index);
  flush(row(index).role);
  for (DescriptorChain& chain : chains) chain.complete();
  chains.clear();
  turn.notify_queue = queue.publish();
  turn.more = queue.enable_kicks();
  const std::lock_guard guard(state_lock);
  const bool inflates = row(index).role == QueueRole::kInflate;
  (inflates ? metrics.inflate_messages : metrics.deflate_messages) +=
      std::exchange(turn_messages, 0);
  metrics.queue_bytes += std::exchange(turn_queue_bytes, 0);
  metrics.stages.decode += lap();
  metrics.notifications += turn.notify_queue ? 1 : 0;
  return turn;
}

// Takes chains until there is none or as many were taken as the queue has entries, so that a
// driver that adds without end cannot hold the thread. False when the rings make no sense any more:
// 2.1.2 wants DEVICE_NEEDS_RESET then, and a configuration change.
bool BalloonDevice::Impl::take_chains(std::uint16_t index) {
  DeviceQueue& queue = queues[index];
  std::uint64_t bytes = 0;
  for (std::size_t taken = 0; taken < queue_sizes[index]; ++taken) {
    if (bytes >= kTurnBytes || resets_waiting != 0) break;
    auto chain = queue.pop();
    if (!chain) {
      const std::lock_guard guard(state_lock);
      count_unlocked(chain.error().code, 1);
      if (queue.ready()) continue;
      registers.require_reset();
      return false;
    }
    if (!chain->has_value()) break;
    take_message(row(index), **chain);
    bytes += (*chain)->readable_bytes();
    chains.push_back(std::move(**chain));
  }
  return true;
}

void BalloonDevice::Impl::take_message(const QueueRow& queue, DescriptorChain& chain) {
  reader.read(
      queue.codec, chain, [&] { flush(queue.role); }, [&] { return resets_waiting == 0; },
      [&](Errc code) { count(code); });
  ++turn_messages;
  turn_queue_bytes += chain.readable_bytes() +
                      kDescriptorBytes * (chain.readable().size() + chain.writable().size());
}

// Does what the batch asks for and empties it.
void BalloonDevice::Impl::flush(QueueRole role) {
  if (reader.batch().empty()) return;
  if (role == QueueRole::kInflate) {
    inflate_batch();
  } else {
    deflate_batch();
  }
  reader.batch().clear();
}

void BalloonDevice::Impl::book(const DiscardPlan::Outcome& outcome, Errc unchanged) {
  count_unlocked(Errc::kPageOutOfRange, outcome.outside_pages);
  count_unlocked(unchanged, outcome.booked.unchanged);
  metrics.cancelled_bytes += outcome.booked.cancelled << kPageShift;
  metrics.forgone_bytes += outcome.forgone_pages << kPageShift;
}

void BalloonDevice::Impl::inflate_batch() {
  const auto decode = lap();
  const std::uint64_t repeated = reader.order_batch();
  {
    const std::lock_guard guard(state_lock);
    count_unlocked(Errc::kPageRepeated, repeated);
    const auto outcome = plan.inflate(reader.batch(), may_owe());
    book(outcome, Errc::kPageAlreadyInflated);
    metrics.inflated_bytes += outcome.booked.pages << kPageShift;
    in_flight_pages = outcome.immediate_pages;
    metrics.stages.decode += decode;
    metrics.stages.translate += lap();
  }
  discard(plan.page_runs(), false);
  discard(plan.huge_runs(), true);
}

void BalloonDevice::Impl::discard(std::span<const HostRun> runs, bool huge) {
  if (runs.empty()) return;
  report.clear();
  discarder->discard(runs, report);
  const std::lock_guard guard(state_lock);
  const auto settled =
      huge ? plan.settle_huge(report, may_owe()) : plan.settle_pages(report, may_owe());
  if (!huge) in_flight_pages = 0;
  metrics.freed_bytes += settled.freed_pages << kPageShift;
  metrics.forgone_bytes += settled.forgone_pages << kPageShift;
  metrics.discard_calls += report.calls;
  metrics.discard_failures += report.failures.size();
  if (!report.failures.empty()) {
    metrics.last_discard_errno = report.failures.back().os_error;
    kernel_log.warn(Error{Errc::kDiscardFailed, metrics.last_discard_errno}.message());
  }
  metrics.stages.discard += lap();
  metrics.stages.last_discard_end = lap_start;
}

void BalloonDevice::Impl::deflate_batch() {
  const auto decode = lap();
  const std::uint64_t repeated = reader.order_batch();
  const bool will_need = options.deflate_action == DeflateAction::kWillNeed;
  {
    const std::lock_guard guard(state_lock);
    count_unlocked(Errc::kPageRepeated, repeated);
    const auto outcome = plan.deflate(reader.batch());
    book(outcome, Errc::kPageNotInflated);
    metrics.deflated_bytes += (outcome.booked.pages - outcome.booked.unchanged) << kPageShift;
    metrics.stages.decode += decode;
    metrics.stages.translate += lap();
  }
  if (!will_need) return;
  plan.translate(reader.batch());
  advise_will_need(plan.page_runs());
  const std::lock_guard guard(state_lock);
  metrics.stages.discard += lap();
}

BalloonDevice::BalloonDevice(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BalloonDevice::~BalloonDevice() = default;

Result<std::unique_ptr<BalloonDevice>> BalloonDevice::create(
    std::shared_ptr<const GuestMemory> memory, std::unique_ptr<Discarder> discarder,
    BalloonOptions options) {
  if (memory == nullptr || discarder == nullptr) {
    return fail(Errc::kInvalidArgument, "a balloon device needs guest memory and a discarder");
  }
  if (const auto others = options.features.bits() & ~kImplemented.bits(); others != 0) {
    return fail(Errc::kInvalidArgument,
                fmt::format("this device does not implement features {:#x}", others));
  }
  if (options.dialect != Dialect::kStandard && !may_announce_a_dialect(options.dialect_bit)) {
    return fail(Errc::kInvalidArgument,
                fmt::format("dialect bit {} has a meaning already; choose another of 1 to 23 or "
                            "50 to 63",
                            options.dialect_bit));
  }
  if (!options.clock) options.clock = steady_clock();
  return std::unique_ptr<BalloonDevice>(new BalloonDevice(
      std::make_unique<Impl>(std::move(memory), std::move(discarder), std::move(options))));
}

Features BalloonDevice::offered_features() const { return impl_->registers.offered(); }

void BalloonDevice::write_features(Features accepted) {
  const std::lock_guard guard(impl_->state_lock);
  impl_->registers.write_features(accepted);
}

std::uint8_t BalloonDevice::read_status() const {
  const std::lock_guard guard(impl_->state_lock);
  return impl_->registers.status();
}

void BalloonDevice::write_status(std::uint8_t status) {
  if (status == 0) {
    impl_->reset();
    return;
  }
  const std::lock_guard guard(impl_->state_lock);
  if (const auto bad = impl_->registers.write_status(status)) impl_->count_unlocked(*bad, 1);
}

void BalloonDevice::read_config(std::uint64_t offset, std::span<std::byte> out) const {
  const std::lock_guard guard(impl_->state_lock);
  impl_->registers.read_config(offset, out);
}

void BalloonDevice::write_config(std::uint64_t offset, std::span<const std::byte> in) {
  const std::lock_guard guard(impl_->state_lock);
  if (const auto bad = impl_->registers.write_config(offset, in)) impl_->count_unlocked(*bad, 1);
}

std::uint16_t BalloonDevice::queue_count() const {
  return static_cast<std::uint16_t>(impl_->queues.size());
}

Result<void> BalloonDevice::set_queue(std::uint16_t index, const QueueConfig& config) {
  const std::lock_guard queues_guard(impl_->queues_lock);
  QueueConfig negotiated = config;
  {
    const std::lock_guard guard(impl_->state_lock);
    if (!impl_->registers.in_set_up() || index >= impl_->queues.size() ||
        config.size > kBalloonMaxQueueSize) {
      impl_->count_unlocked(Errc::kBadQueueConfig, 1);
      return fail(Errc::kBadQueueConfig);
    }
    negotiated.event_index = impl_->registers.negotiated().has(Feature::kEventIdx);
    negotiated.indirect = impl_->registers.negotiated().has(Feature::kIndirectDesc);
    negotiated.packed = impl_->registers.negotiated().has(Feature::kRingPacked);
    negotiated.in_order = impl_->registers.negotiated().has(Feature::kInOrder);
  }
  auto started = impl_->queues[index].start(impl_->memory, negotiated);
  impl_->queue_sizes[index] = config.size;
  if (!started) impl_->count(started.error().code);
  return started;
}

bool BalloonDevice::process(std::uint16_t index) {
  if (index >= impl_->queues.size()) return false;
  Impl::Turn turn;
  {
    const std::lock_guard guard(impl_->queues_lock);
    turn = impl_->serve(index);
  }
  const BalloonOptions& options = impl_->options;
  if (turn.notify_queue && options.notify_queue) options.notify_queue(index);
  if (turn.notify_config && options.notify_config) options.notify_config();
  return turn.more;
}

Result<void> BalloonDevice::set_target_bytes(std::uint64_t balloon_bytes) {
  if (balloon_bytes % kPageSize != 0) {
    return fail(Errc::kInvalidArgument,
                fmt::format("balloon target of {} bytes is no multiple of 4096", balloon_bytes));
  }
  return set_target_pages(balloon_bytes >> kPageShift);
}

Result<void> BalloonDevice::set_target_pages(std::uint64_t balloon_pages) {
  const std::uint64_t most = std::min<std::uint64_t>(impl_->memory->page_count(),
                                                     std::numeric_limits<std::uint32_t>::max());
  if (balloon_pages > most) {
    return fail(Errc::kTargetTooLarge,
                fmt::format("balloon target of {} pages of 4 KiB, guest memory of {}",
                            balloon_pages, most));
  }
  {
    const std::lock_guard guard(impl_->state_lock);
    Registers& registers = impl_->registers;
    if (registers.num_pages() == balloon_pages) return {};
    registers.set_num_pages(static_cast<std::uint32_t>(balloon_pages));
    // Before DRIVER_OK the driver will read it when it starts.
    if ((registers.status() & kStatusDriverOk) == 0) return {};
  }
  if (impl_->options.notify_config) impl_->options.notify_config();
  return {};
}

std::uint64_t BalloonDevice::target_pages() const {
  const std::lock_guard guard(impl_->state_lock);
  return impl_->registers.num_pages();
}

std::uint32_t BalloonDevice::actual_pages() const {
  const std::lock_guard guard(impl_->state_lock);
  return impl_->registers.actual();
}

std::uint64_t BalloonDevice::ballooned_pages() const {
  const std::lock_guard guard(impl_->state_lock);
  return impl_->ledger.ballooned_pages();
}

bool BalloonDevice::is_ballooned(Pfn pfn) const {
  const MemoryRegion* region =
      pfn > (~std::uint64_t{0} >> kPageShift) ? nullptr : impl_->memory->find(pfn << kPageShift);
  if (region == nullptr) return false;
  const std::lock_guard guard(impl_->state_lock);
  return impl_->ledger.is_ballooned(region->first_page_index + (pfn - region->pages().first));
}

BalloonMetrics BalloonDevice::metrics() const {
  const std::lock_guard guard(impl_->state_lock);
  BalloonMetrics metrics = impl_->metrics;
  metrics.owed_bytes = (impl_->ledger.owed_pages() + impl_->in_flight_pages) << kPageShift;
  return metrics;
}

}  // namespace vballoon
