// SPDX-License-Identifier: MIT
#include "vballoon/balloon_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <limits>
#include <string>
#include <utility>

#include "device/balloon_device_impl.h"

namespace vballoon {
namespace {

// Those that have not the meaning that the standard gives them.
Features dialect_bits(const BalloonOptions& options) {
  Features bits;
  if (options.dialect != Dialect::kStandard) bits = bits.with_bit(*options.dialect_bit);
  if (options.guest_requests) bits = bits.with_bit(*options.guest_requests_bit);
  return bits;
}

Features offer_of(const BalloonOptions& options) {
  return Features(options.features.with(Feature::kVersion1).bits() | dialect_bits(options).bits());
}

Features required_by(const BalloonOptions& options) {
  return options.require_must_tell_host ? Features{Feature::kMustTellHost} : Features();
}

// Those of a device type (2.2), but for MUST_TELL_HOST, which any dialect negotiates beside.
bool may_announce_a_dialect(unsigned bit) {
  return (bit >= 1 && bit <= 23) || (bit >= 50 && bit <= 63);
}

constexpr Features kImplemented{
    Feature::kMustTellHost,     Feature::kStatsVq,    Feature::kDeflateOnOom,
    Feature::kFreePageHint,     Feature::kPagePoison, Feature::kPageReporting,
    Feature::kIndirectDesc,     Feature::kEventIdx,   Feature::kVersion1,
    Feature::kAccessPlatform,   Feature::kRingPacked, Feature::kInOrder,
    Feature::kNotificationData, Feature::kRingReset};

// Why a bit cannot announce what is not in the standard; empty if it can.
std::string objection(const BalloonOptions& options, const char* what, unsigned bit) {
  if (!may_announce_a_dialect(bit)) {
    return fmt::format("{} bit {} has a meaning already; choose another of 1 to 23 or 50 to 63",
                       what, bit);
  }
  if (options.features.has_bit(bit)) {
    return fmt::format("{} bit {} is a feature that is offered; move one of them", what, bit);
  }
  return {};
}

// Why the guest cannot be asked with these options; empty if it can.
std::string objection_to_requests(const BalloonOptions& options) {
  if (!has_guest_requests(options.dialect)) {
    return "queues for requests to the guest are of the page bitmap and of scatter-gather only";
  }
  if (options.guest_requests_bit == options.dialect_bit) {
    return "requests to the guest and the dialect have the same bit; move one of them";
  }
  if (options.features.has(Feature::kFreePageHint)) {
    return "free pages are asked for by requests to the guest or by FREE_PAGE_HINT, not by both";
  }
  if (options.dialect == Dialect::kPageBitmap && !options.features.has(Feature::kStatsVq)) {
    return "the request queue is there only beside statistics: offer STATS_VQ";
  }
  return objection(options, "requests", *options.guest_requests_bit);
}

// Why a device with these options cannot be made; empty if it can.
std::string objection(const BalloonOptions& options) {
  if (const auto others = options.features.bits() & ~kImplemented.bits(); others != 0) {
    return fmt::format("this device does not implement features {:#x}", others);
  }
  if (options.features.has(Feature::kFreePageHint) && !options.on_free_page_hints) {
    return "FREE_PAGE_HINT is of use only to a host that takes the hints: set on_free_page_hints";
  }
  if (options.features.has(Feature::kAccessPlatform) && !options.translate_address) {
    return "ACCESS_PLATFORM wants the addresses of the driver translated: set translate_address";
  }
  if (options.require_must_tell_host && !options.features.has(Feature::kMustTellHost)) {
    return "MUST_TELL_HOST is required and not among the features";
  }
  if (options.budget.pages == 0 || options.budget.bytes == 0) {
    return "a work budget of nothing would never end a message";
  }
  if (options.guest_requests) {
    if (std::string why = objection_to_requests(options); !why.empty()) return why;
  }
  if (options.dialect == Dialect::kStandard) return {};
  return objection(options, "dialect", *options.dialect_bit);
}

// One bitmap can name 2^52 pages outside memory: stop at the end instead of wrapping around.
void add_up(std::span<std::uint64_t, kErrcCount> counters, Errc code, std::uint64_t times) {
  std::uint64_t& counter = counters[static_cast<std::size_t>(code)];
  counter += std::min(times, std::numeric_limits<std::uint64_t>::max() - counter);
}

}  // namespace

std::string_view to_string(QueueUse use) noexcept {
  constexpr std::array<std::string_view, kQueueUseCount> kNames = {"inflate", "deflate", "stats",
                                                                   "hint", "report"};
  const auto index = static_cast<std::size_t>(use);
  return index < kNames.size() ? kNames[index] : "unknown";
}

std::vector<std::pair<Errc, std::uint64_t>> BalloonMetrics::counted_errors() const {
  std::vector<std::pair<Errc, std::uint64_t>> counted;
  for (std::size_t code = 0; code < errors.size(); ++code) {
    if (errors[code] != 0) counted.emplace_back(static_cast<Errc>(code), errors[code]);
  }
  return counted;
}

BalloonDevice::Impl::Impl(std::shared_ptr<const GuestMemory> memory_in,
                          std::unique_ptr<Discarder> discarder_in, BalloonOptions options_in)
    : memory(std::move(memory_in)),
      discarder(std::move(discarder_in)),
      options(std::move(options_in)),
      guest_log(options.log, options.clock),
      kernel_log(options.log, options.clock),
      registers(offer_of(options), required_by(options), dialect_bits(options),
                options.poison_while_running),
      ledger(memory->page_count()),
      plan(*memory, ledger, MessageReader::kMaxBatchRanges, policy_for(*memory)),
      owed_discards(*memory, ledger, policy_for(*memory)) {}

BalloonDevice::Impl::~Impl() { std::ranges::for_each(queues, &Queue::stop); }

QueueMap BalloonDevice::Impl::queue_map(const Registers& with) const {
  const bool settled = with.features_settled();
  const Features features = settled ? with.negotiated() : with.offered();
  const Dialect spoken = options.dialect == Dialect::kStandard
                             ? Dialect::kStandard
                             : negotiated_dialect(options.dialect, *options.dialect_bit, features);
  return number_queues(dialect_row(spoken), with.standard(features), options.numbering,
                       options.guest_requests && features.has_bit(*options.guest_requests_bit));
}

Codec BalloonDevice::Impl::codec_of(const QueueRow& row) const {
  const bool wide = options.wide_pfns.value_or(!may_owe());
  return wide && row.codec == Codec::kPfnArray ? Codec::kWidePfnArray : *row.codec;
}

std::optional<std::uint16_t> BalloonDevice::Impl::queue_of(QueueRole role) const {
  const QueueMap map = queue_map();
  const auto found = std::ranges::find_if(
      map, [&](const QueueRow* row) { return row != nullptr && row->role == role; });
  if (found == map.end()) return std::nullopt;
  return static_cast<std::uint16_t>(found - map.begin());
}

AddressTranslator BalloonDevice::Impl::translator_of(const Registers& with) const {
  return with.has(Feature::kAccessPlatform) ? options.translate_address : AddressTranslator();
}

void BalloonDevice::Impl::count(Errc code, std::uint64_t times) {
  const std::lock_guard guard(state_lock);
  count_locked(code, times);
}

void BalloonDevice::Impl::count_locked(Errc code, std::uint64_t times) {
  if (times == 0) return;
  count_guest_error(code, times);
  if (served) add_up(metrics.queue_errors[static_cast<std::size_t>(*served)], code, times);
}

void BalloonDevice::Impl::count_guest_error(Errc code, std::uint64_t times) {
  add_up(metrics.errors, code, times);
  guest_log.warn(to_string(code));
  errors_counted = true;
}

void BalloonDevice::Impl::Queue::stop() {
  ring.reset();
  held.clear();
  round_ends = false;
  if (pages) pages->drop();
}

Result<void> BalloonDevice::Impl::start_queue(std::uint16_t index, const QueueConfig& config,
                                              const Registers& with,
                                              const QueuePosition& position) {
  const QueueRow* const row = index < kMaxBalloonQueues ? queue_map(with)[index] : nullptr;
  if (row == nullptr || config.size > kBalloonMaxQueueSize) return fail(Errc::kBadQueueConfig);
  Queue& queue = queues[index];
  queue.row = row;
  queue.config = config;
  queue.config.event_index = with.has(Feature::kEventIdx);
  queue.config.indirect = with.has(Feature::kIndirectDesc);
  queue.config.packed = with.has(Feature::kRingPacked);
  queue.config.in_order = with.has(Feature::kInOrder);
  if (row->codec && !queue.pages) {
    queue.pages = std::make_unique<PageMessages>(*memory, policy_for(*memory));
    queue.pages->read.reserve(kBalloonMaxQueueSize);
  }
  queue.held.reserve(kMaxHeldBuffers);
  auto started = queue.ring.start(memory, queue.config, position, translator_of(with));
  if (started && options.trace != nullptr) options.trace->queue(index, queue.config);
  return started;
}

// In set-up, and with RING_RESET also afterwards when the queue was reset.
bool BalloonDevice::Impl::may_set_up(std::uint16_t index) const {
  if (registers.in_set_up()) return true;
  return registers.running() && registers.has(Feature::kRingReset) && index < kMaxBalloonQueues &&
         !queues[index].ring.ready();
}

// Until the kernel has none of the discards that were put off.
void BalloonDevice::Impl::wait_for_owed_discards(std::unique_lock<std::mutex>& lock) {
  owed_discards_settled.wait(lock, [this] { return !owed_discards.in_kernel(); });
}

// All but what the kernel has already.
void BalloonDevice::Impl::forgo_what_is_owed(std::unique_lock<std::mutex>& lock) {
  ++forgoing;
  wait_for_owed_discards(lock);
  --forgoing;
  metrics.forgone_bytes += ledger.settle({0, memory->page_count()}) << kPageShift;
}

void BalloonDevice::Impl::reset() {
  ++resets_waiting;
  const std::lock_guard queues_guard(queues_lock);
  --resets_waiting;
  for (Queue& queue : queues) queue.stop();
  std::unique_lock lock(state_lock);
  forgo_what_is_owed(lock);
  ledger.clear();
  owed_discards.restart();
  registers.reset();
  early_kicks = 0;
  stats.reset(options.clock());
  hints.reset();
  requests.reset();
  if (options.trace != nullptr) options.trace->reset();
}

BalloonDevice::BalloonDevice(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BalloonDevice::~BalloonDevice() = default;

Result<std::unique_ptr<BalloonDevice>> BalloonDevice::create(
    std::shared_ptr<const GuestMemory> memory, std::unique_ptr<Discarder> discarder,
    BalloonOptions options) {
  if (memory == nullptr || discarder == nullptr) {
    return fail(Errc::kInvalidArgument, "a balloon device needs guest memory and a discarder");
  }
  if (!options.dialect_bit) options.dialect_bit = published_bit(options.dialect);
  if (!options.guest_requests_bit) options.guest_requests_bit = kPublishedRequestsBit;
  if (std::string why = objection(options); !why.empty()) {
    return fail(Errc::kInvalidArgument, std::move(why));
  }
  if (!options.clock) options.clock = steady_clock();
  if (options.trace != nullptr) options.trace->memory(*memory);
  return std::unique_ptr<BalloonDevice>(new BalloonDevice(
      std::make_unique<Impl>(std::move(memory), std::move(discarder), std::move(options))));
}

Features BalloonDevice::offered_features() const { return impl_->registers.offered(); }

void BalloonDevice::write_features(Features accepted) {
  const std::lock_guard guard(impl_->state_lock);
  impl_->registers.write_features(accepted);
}

Features BalloonDevice::negotiated_features() const {
  const std::lock_guard guard(impl_->state_lock);
  return impl_->registers.negotiated();
}

std::uint8_t BalloonDevice::read_status() const {
  const std::lock_guard guard(impl_->state_lock);
  return impl_->registers.status();
}

void BalloonDevice::write_status(std::uint8_t status) {
  if (status == 0) {
    impl_->reset();
    if (impl_->options.news) impl_->options.news();
    return;
  }
  std::uint32_t early_kicks = 0;
  {
    const std::lock_guard guard(impl_->state_lock);
    Registers& registers = impl_->registers;
    const bool was_settled = registers.features_settled();
    if (const auto bad = registers.write_status(status)) impl_->count_guest_error(*bad);
    if (Trace* const trace = impl_->options.trace;
        trace != nullptr && !was_settled && registers.features_settled()) {
      trace->features(registers.negotiated());
    }
    if (impl_->registers.running()) early_kicks = std::exchange(impl_->early_kicks, 0);
  }
  if (impl_->options.news) impl_->options.news();
  if (!impl_->options.wake) return;
  for (std::uint16_t index = 0; index < kMaxBalloonQueues; ++index) {
    if ((early_kicks >> index & 1) != 0) impl_->options.wake(index);
  }
}

void BalloonDevice::read_config(std::uint64_t offset, std::span<std::byte> out) const {
  const std::lock_guard guard(impl_->state_lock);
  impl_->registers.read_config(offset, out);
}

void BalloonDevice::write_config(std::uint64_t offset, std::span<const std::byte> in) {
  {
    const std::lock_guard guard(impl_->state_lock);
    if (const auto bad = impl_->registers.write_config(offset, in)) impl_->count_guest_error(*bad);
    if (impl_->options.trace != nullptr) impl_->options.trace->config_write(offset, in);
  }
  if (impl_->options.news) impl_->options.news();
}

std::uint32_t BalloonDevice::config_generation() const {
  const std::lock_guard guard(impl_->state_lock);
  return impl_->registers.config_generation();
}

bool BalloonDevice::has_queue(std::uint16_t index) const {
  const std::lock_guard guard(impl_->state_lock);
  return index < kMaxBalloonQueues && impl_->queue_map()[index] != nullptr;
}

Result<void> BalloonDevice::set_queue(std::uint16_t index, const QueueConfig& config) {
  const std::lock_guard queues_guard(impl_->queues_lock);
  std::optional<Registers> registers;  // what was negotiated stays while queues are locked
  {
    const std::lock_guard guard(impl_->state_lock);
    if (impl_->may_set_up(index)) registers.emplace(impl_->registers);
  }
  auto started =
      registers ? impl_->start_queue(index, config, *registers) : fail(Errc::kBadQueueConfig);
  if (!started) impl_->count(started.error().code);
  return started;
}

void BalloonDevice::reset_queue(std::uint16_t index) {
  if (index >= kMaxBalloonQueues) return;
  ++impl_->resets_waiting;
  const std::lock_guard queues_guard(impl_->queues_lock);
  --impl_->resets_waiting;
  Impl::Queue& queue = impl_->queues[index];
  const bool unanswered = queue.pages && queue.pages->unanswered();
  queue.stop();
  std::unique_lock lock(impl_->state_lock);
  // The driver may use the pages of a message that will have no answer.
  if (unanswered) impl_->forgo_what_is_owed(lock);
  // The buffer that would have brought an answer is gone.
  if (queue.row != nullptr && queue.row->role == QueueRole::kStats) {
    impl_->stats.reset(impl_->options.clock());
  }
}

// What follows from a turn is said when no lock is held.
bool BalloonDevice::Impl::take_turn(std::uint16_t index, bool watching) {
  if (index >= kMaxBalloonQueues) return false;
  Turn turn;
  {
    const std::lock_guard guard(queues_lock);
    turn = serve(index, watching);
  }
  say(turn);
  return turn.more;
}

void BalloonDevice::Impl::say(const Turn& turn) const {
  for (std::uint16_t index = 0; index < kMaxBalloonQueues && options.notify_queue; ++index) {
    if ((turn.notify_queues >> index & 1) != 0) options.notify_queue(index);
  }
  if (turn.notify_config && options.notify_config) options.notify_config();
  if (turn.news && options.news) options.news();
  if (turn.discards_owed && options.discards_owed) options.discards_owed();
}

bool BalloonDevice::process(std::uint16_t index) { return impl_->take_turn(index, false); }

bool BalloonDevice::poll(std::uint16_t index) { return impl_->take_turn(index, true); }

std::uint64_t BalloonDevice::memory_bytes() const {
  const std::lock_guard guard(impl_->state_lock);
  return impl_->memory->bytes();
}

Result<void> BalloonDevice::set_target_bytes(std::uint64_t balloon_bytes) {
  if (balloon_bytes % kPageSize != 0) {
    return fail(Errc::kInvalidArgument,
                fmt::format("balloon target of {} bytes is no multiple of 4096", balloon_bytes));
  }
  return set_target_pages(balloon_bytes >> kPageShift);
}

Result<void> BalloonDevice::set_target_pages(std::uint64_t balloon_pages) {
  {
    const std::lock_guard guard(impl_->state_lock);
    constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
    const std::uint64_t pages = impl_->memory->page_count();
    const std::uint64_t most = pages == 0 ? kMost : std::min(pages, kMost);
    if (balloon_pages > most) {
      return fail(Errc::kTargetTooLarge,
                  fmt::format("balloon target of {} pages of 4 KiB, guest memory of {}",
                              balloon_pages, most));
    }
    Registers& registers = impl_->registers;
    if (registers.num_pages() == balloon_pages) return {};
    registers.set_num_pages(static_cast<std::uint32_t>(balloon_pages));
    if (impl_->options.trace != nullptr) impl_->options.trace->target(registers.num_pages());
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
  const std::lock_guard guard(impl_->state_lock);
  const MemoryRegion* region =
      pfn > (~std::uint64_t{0} >> kPageShift) ? nullptr : impl_->memory->find(pfn << kPageShift);
  if (region == nullptr) return false;
  return impl_->ledger.is_ballooned(region->first_page_index + (pfn - region->pages().first));
}

void BalloonDevice::inhibit_discards() {
  const std::lock_guard queues_guard(impl_->queues_lock);  // waits for what process() discards
  std::unique_lock lock(impl_->state_lock);
  ++impl_->inhibited;
  impl_->wait_for_owed_discards(lock);
}

void BalloonDevice::resume_discards() {
  {
    const std::lock_guard guard(impl_->state_lock);
    assert(impl_->inhibited != 0);
    if (--impl_->inhibited != 0) return;
  }
  schedule_owed_discards();
}

void BalloonDevice::schedule_owed_discards() {
  {
    const std::lock_guard guard(impl_->state_lock);
    if (impl_->inhibited != 0) return;
    impl_->owed_discards.added();
    if (impl_->ledger.owed_pages() == 0) return;
    if (impl_->options.discards_owed && !std::exchange(impl_->owed_discards_idle, false)) return;
  }
  if (impl_->options.discards_owed) {
    impl_->options.discards_owed();
  } else {
    drain();
  }
}

bool BalloonDevice::run_owed_discards() {
  const std::lock_guard guard(impl_->owed_lock);
  return impl_->run_owed_discards();
}

bool BalloonDevice::drain() {
  const std::lock_guard owed_guard(impl_->owed_lock);
  {
    const std::lock_guard guard(impl_->state_lock);
    impl_->owed_discards.added();
  }
  while (impl_->run_owed_discards()) {
  }
  const std::lock_guard guard(impl_->state_lock);
  return impl_->ledger.owed_pages() == 0;
}

BalloonMetrics BalloonDevice::metrics() const {
  const std::lock_guard guard(impl_->state_lock);
  BalloonMetrics metrics = impl_->metrics;
  metrics.owed_bytes = (impl_->ledger.owed_pages() + impl_->in_flight_pages) << kPageShift;
  return metrics;
}

}  // namespace vballoon
