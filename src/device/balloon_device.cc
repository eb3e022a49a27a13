// SPDX-License-Identifier: MIT
#include "vballoon/balloon_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

#include "base/page_batch.h"
#include "device/discard_plan.h"
#include "device/guest_error_log.h"
#include "device/ledger.h"
#include "device/message_reader.h"
#include "memory/will_need.h"
#include "wire/dialect.h"

namespace vballoon {
namespace {

constexpr std::uint64_t kConfigBytes = 8;

constexpr std::uint64_t kDescriptorBytes = 16;

void store_le32(std::byte* out, std::uint32_t value) {
  for (unsigned i = 0; i < 4; ++i) out[i] = static_cast<std::byte>(value >> (8 * i));
}

std::uint32_t load_le32(const std::byte* in) {
  std::uint32_t value = 0;
  for (unsigned i = 0; i < 4; ++i) value |= std::to_integer<std::uint32_t>(in[i]) << (8 * i);
  return value;
}

bool is_device_type_bit(unsigned bit) { return bit <= 23 || (bit >= 50 && bit <= 63); }

}  // namespace

// Two locks. `queues` is held while a queue is served or set up, so that a reset waits for a
// discard in flight; `state` is held briefly and orders everything that other threads may read.
// `queues` is taken first. The kernel is called with `queues` only.
struct BalloonDevice::Impl {
  Impl(std::shared_ptr<const GuestMemory> memory_in, std::unique_ptr<Discarder> discarder_in,
       BalloonOptions options_in)
      : memory(std::move(memory_in)),
        discarder(std::move(discarder_in)),
        options(std::move(options_in)),
        log(options.log, options.clock),
        ledger(memory->page_count()),
        plan(*memory, ledger, MessageReader::kMaxBatchRanges) {
    chains.reserve(kBalloonMaxQueueSize);
  }

  [[nodiscard]] Features offered() const {
    Features features = options.features.with(Feature::kVersion1);
    if (options.dialect != Dialect::kStandard) features = features.with_bit(options.dialect_bit);
    return features;
  }
  [[nodiscard]] const QueueRow& row(std::uint16_t index) const {
    const Dialect spoken =
        options.dialect == Dialect::kStandard
            ? Dialect::kStandard
            : negotiated_dialect(options.dialect, options.dialect_bit, negotiated);
    return dialect_row(spoken).queues[index];
  }
  // Without MUST_TELL_HOST a page may be changed only until its inflate is acknowledged.
  [[nodiscard]] bool may_owe() const { return negotiated.has(Feature::kMustTellHost); }

  void count(Errc code, std::uint64_t times = 1);
  void count_unlocked(Errc code, std::uint64_t times);
  void require_reset(Errc code);
  void reset();
  [[nodiscard]] bool accept_status(std::uint8_t status);

  bool serve(std::uint16_t index, bool& notify);
  [[nodiscard]] std::size_t take_chains(std::uint16_t index);
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

  std::mutex queues_lock;
  std::array<DeviceQueue, 2> queues;
  std::vector<DescriptorChain> chains;  // of the batch being served
  MessageReader reader;
  DiscardReport report;
  std::chrono::nanoseconds lap_start{0};

  mutable std::mutex state_lock;
  GuestErrorLog log;
  Features accepted;    // written by the driver
  Features negotiated;  // since FEATURES_OK
  std::uint8_t status = 0;
  std::uint32_t num_pages = 0;
  std::array<std::byte, 4> actual{};
  Ledger ledger;
  DiscardPlan plan;
  BalloonMetrics metrics;
};

void BalloonDevice::Impl::count(Errc code, std::uint64_t times) {
  const std::lock_guard guard(state_lock);
  count_unlocked(code, times);
}

void BalloonDevice::Impl::count_unlocked(Errc code, std::uint64_t times) {
  if (times == 0) return;
  metrics.errors[static_cast<std::size_t>(code)] += times;
  log.warn(to_string(code));
}

// The rings make no sense any more: 2.1.2 wants DEVICE_NEEDS_RESET and a configuration change.
void BalloonDevice::Impl::require_reset(Errc code) {
  {
    const std::lock_guard guard(state_lock);
    count_unlocked(code, 1);
    status |= kStatusNeedsReset;
  }
  if (options.notify_config) options.notify_config();
}

void BalloonDevice::Impl::reset() {
  const std::lock_guard queues_guard(queues_lock);
  for (DeviceQueue& queue : queues) queue.reset();
  const std::lock_guard guard(state_lock);
  metrics.forgone_bytes += ledger.owed_pages() << kPageShift;
  ledger.clear();
  accepted = Features();
  negotiated = Features();
  status = 0;
}

// Whether the bits that the driver sets are allowed now (2.1.1, 3.1.1).
bool BalloonDevice::Impl::accept_status(std::uint8_t wanted) {
  const auto driver_bits = static_cast<std::uint8_t>(status & ~kStatusNeedsReset);
  if ((driver_bits & ~wanted) != 0) return false;
  const bool features_ok = (wanted & kStatusFeaturesOk) != 0;
  return (wanted & kStatusDriverOk) == 0 || (features_ok && (status & kStatusFeaturesOk) != 0);
}

// Time since the last lap, on the thread that serves.
std::chrono::nanoseconds BalloonDevice::Impl::lap() {
  const auto now = options.clock();
  return now - std::exchange(lap_start, now);
}

bool BalloonDevice::Impl::serve(std::uint16_t index, bool& notify) {
  {
    const std::lock_guard guard(state_lock);
    if ((status & kStatusDriverOk) == 0 || (status & kStatusNeedsReset) != 0) return false;
  }
  DeviceQueue& queue = queues[index];
  if (!queue.ready()) return false;
  lap_start = options.clock();
  queue.disable_kicks();
  const std::size_t taken = take_chains(index);
  flush(row(index).role);
  for (DescriptorChain& chain : chains) chain.complete();
  chains.clear();
  if (!queue.ready()) return false;
  notify = queue.publish();
  const bool more = queue.enable_kicks() || taken == kBalloonMaxQueueSize;
  const std::lock_guard guard(state_lock);
  metrics.stages.decode += lap();
  metrics.notifications += notify ? 1 : 0;
  return more;
}

// Takes chains until there is none or as many were taken as a queue can have, so that a driver
// that adds without end cannot hold the thread.
std::size_t BalloonDevice::Impl::take_chains(std::uint16_t index) {
  std::size_t taken = 0;
  for (; taken < kBalloonMaxQueueSize; ++taken) {
    auto chain = queues[index].pop();
    if (!chain) {
      if (!queues[index].ready()) {
        require_reset(chain.error().code);
        break;
      }
      count(chain.error().code);
      continue;
    }
    if (!chain->has_value()) break;
    take_message(row(index), **chain);
    chains.push_back(std::move(**chain));
  }
  return taken;
}

void BalloonDevice::Impl::take_message(const QueueRow& queue, DescriptorChain& chain) {
  reader.read(
      queue.codec, chain, [&] { flush(queue.role); }, [&](Errc code) { count(code); });
  const std::lock_guard guard(state_lock);
  metrics.queue_bytes += chain.readable_bytes() +
                         kDescriptorBytes * (chain.readable().size() + chain.writable().size());
  ++(queue.role == QueueRole::kInflate ? metrics.inflate_messages : metrics.deflate_messages);
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
  const std::uint64_t repeated = sort_and_merge(reader.batch());
  {
    const std::lock_guard guard(state_lock);
    count_unlocked(Errc::kPageRepeated, repeated);
    const auto outcome = plan.inflate(reader.batch(), may_owe());
    book(outcome, Errc::kPageAlreadyInflated);
    metrics.inflated_bytes += outcome.booked.pages << kPageShift;
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
  metrics.freed_bytes += settled.freed_pages << kPageShift;
  metrics.forgone_bytes += settled.forgone_pages << kPageShift;
  metrics.discard_calls += report.calls;
  metrics.discard_failures += report.failures.size();
  if (!report.failures.empty()) {
    metrics.last_discard_errno = report.failures.back().os_error;
    log.warn(to_string(Errc::kDiscardFailed));
  }
  metrics.stages.discard += lap();
  metrics.stages.last_discard_end = lap_start;
}

void BalloonDevice::Impl::deflate_batch() {
  const auto decode = lap();
  const std::uint64_t repeated = sort_and_merge(reader.batch());
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
  if (options.dialect != Dialect::kStandard &&
      (!is_device_type_bit(options.dialect_bit) || options.features.has_bit(options.dialect_bit))) {
    return fail(Errc::kInvalidArgument,
                fmt::format("dialect bit {} is reserved or offered for something else; choose "
                            "another of 0 to 23 or 50 to 63",
                            options.dialect_bit));
  }
  if (!options.clock) options.clock = steady_clock();
  return std::unique_ptr<BalloonDevice>(new BalloonDevice(
      std::make_unique<Impl>(std::move(memory), std::move(discarder), std::move(options))));
}

Features BalloonDevice::offered_features() const { return impl_->offered(); }

void BalloonDevice::write_features(Features accepted) {
  const std::lock_guard guard(impl_->state_lock);
  if ((impl_->status & kStatusFeaturesOk) == 0) impl_->accepted = accepted;
}

std::uint8_t BalloonDevice::read_status() const {
  const std::lock_guard guard(impl_->state_lock);
  return impl_->status;
}

void BalloonDevice::write_status(std::uint8_t status) {
  if (status == 0) {
    impl_->reset();
    return;
  }
  const std::lock_guard guard(impl_->state_lock);
  if (!impl_->accept_status(status)) {
    impl_->count_unlocked(Errc::kBadStatus, 1);
    return;
  }
  const bool asks = (status & ~impl_->status & kStatusFeaturesOk) != 0;
  const bool good = (impl_->accepted.bits() & ~impl_->offered().bits()) == 0 &&
                    impl_->accepted.has(Feature::kVersion1);
  if (asks && !good) {
    impl_->count_unlocked(Errc::kFeaturesNotOffered, 1);
    status = static_cast<std::uint8_t>(status & ~kStatusFeaturesOk);
  } else if (asks) {
    impl_->negotiated = impl_->accepted;
  }
  impl_->status = static_cast<std::uint8_t>(status | (impl_->status & kStatusNeedsReset));
}

void BalloonDevice::read_config(std::uint64_t offset, std::span<std::byte> out) const {
  std::array<std::byte, kConfigBytes> config{};
  {
    const std::lock_guard guard(impl_->state_lock);
    store_le32(config.data() + kNumPagesOffset, impl_->num_pages);
    std::ranges::copy(impl_->actual, config.data() + kActualOffset);
  }
  std::ranges::fill(out, std::byte{0});
  if (offset >= kConfigBytes) return;
  const auto bytes = std::min<std::uint64_t>(out.size(), kConfigBytes - offset);
  std::memcpy(out.data(), config.data() + offset, bytes);
}

void BalloonDevice::write_config(std::uint64_t offset, std::span<const std::byte> in) {
  const std::lock_guard guard(impl_->state_lock);
  if (offset > kConfigBytes || in.size() > kConfigBytes - offset) {
    impl_->count_unlocked(Errc::kConfigOutOfRange, 1);
  } else if (offset < kActualOffset) {
    impl_->count_unlocked(Errc::kConfigReadOnly, 1);
  } else {
    std::ranges::copy(in, impl_->actual.data() + (offset - kActualOffset));
  }
}

std::uint16_t BalloonDevice::queue_count() const {
  return static_cast<std::uint16_t>(impl_->queues.size());
}

Result<void> BalloonDevice::set_queue(std::uint16_t index, const QueueConfig& config) {
  const std::lock_guard queues_guard(impl_->queues_lock);
  QueueConfig negotiated = config;
  {
    const std::lock_guard guard(impl_->state_lock);
    const bool set_up =
        (impl_->status & (kStatusFeaturesOk | kStatusDriverOk)) == kStatusFeaturesOk;
    if (!set_up || index >= impl_->queues.size() || config.size > kBalloonMaxQueueSize) {
      impl_->count_unlocked(Errc::kBadQueueConfig, 1);
      return fail(Errc::kBadQueueConfig);
    }
    negotiated.event_index = impl_->negotiated.has(Feature::kEventIdx);
    negotiated.indirect = impl_->negotiated.has(Feature::kIndirectDesc);
  }
  auto started = impl_->queues[index].start(impl_->memory, negotiated);
  if (!started) impl_->count(started.error().code);
  return started;
}

bool BalloonDevice::process(std::uint16_t index) {
  if (index >= impl_->queues.size()) return false;
  bool notify = false;
  bool more = false;
  {
    const std::lock_guard guard(impl_->queues_lock);
    more = impl_->serve(index, notify);
  }
  if (notify && impl_->options.notify_queue) impl_->options.notify_queue(index);
  return more;
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
    const auto pages = static_cast<std::uint32_t>(balloon_pages);
    if (std::exchange(impl_->num_pages, pages) == pages) return {};
    if ((impl_->status & kStatusDriverOk) == 0) return {};  // the driver reads it when it starts
  }
  if (impl_->options.notify_config) impl_->options.notify_config();
  return {};
}

std::uint64_t BalloonDevice::target_pages() const {
  const std::lock_guard guard(impl_->state_lock);
  return impl_->num_pages;
}

std::uint32_t BalloonDevice::actual_pages() const {
  const std::lock_guard guard(impl_->state_lock);
  return load_le32(impl_->actual.data());
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
  metrics.owed_bytes = impl_->ledger.owed_pages() << kPageShift;
  return metrics;
}

}  // namespace vballoon
