// SPDX-License-Identifier: MIT
#include "vballoon/sim/balloon_driver.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <ranges>
#include <utility>
#include <vector>

#include "guest/hint_sender.h"
#include "guest/page_reporter.h"
#include "guest/report_sender.h"
#include "guest/stats_sender.h"
#include "ring/driver_queue.h"
#include "vballoon/balloon_registers.h"
#include "wire/dialect.h"

namespace vballoon::sim {
namespace {

using std::chrono::nanoseconds;

// What Linux waits after a failed allocation.
constexpr nanoseconds kBackOff = std::chrono::milliseconds(200);

constexpr Features kImplemented{
    Feature::kMustTellHost, Feature::kStatsVq,       Feature::kFreePageHint,
    Feature::kPagePoison,   Feature::kPageReporting, Feature::kIndirectDesc,
    Feature::kEventIdx,     Feature::kRingPacked,    Feature::kInOrder};

// The smallest order whose blocks hold that many bytes.
unsigned order_for(std::uint64_t bytes) {
  return static_cast<unsigned>(std::bit_width((bytes - 1) >> kPageShift));
}

}  // namespace

struct BalloonDriver::Impl {
  enum class State : std::uint8_t { kIdle, kInflating, kDeflating };

  Impl(DeviceAccess& device_in, std::shared_ptr<const GuestMemory> memory_in,
       PageAllocator& allocator_in, const DriverOptions& options_in)
      : device(device_in),
        memory(std::move(memory_in)),
        allocator(allocator_in),
        options(options_in) {}

  [[nodiscard]] Features acceptable(Features offered) const;
  // The bit of the dialect has not the meaning that the standard gives it.
  [[nodiscard]] Features standard_features() const {
    return dialect == Dialect::kStandard ? features : features.without_bit(options.dialect_bit);
  }
  Result<void> negotiate();
  Result<void> set_up_queues();
  Result<void> set_up_queue(std::uint16_t index);
  Result<void> set_up_sender(std::uint16_t index);
  Result<DmaBuffer> take_buffer(std::uint64_t bytes);
  void give_buffers_back();
  void make_reporter();

  [[nodiscard]] DriverQueue& queue() {
    return *queues[state == State::kInflating ? kInflateQueue : kDeflateQueue];
  }
  [[nodiscard]] bool answered();
  [[nodiscard]] bool post_next();
  void begin(nanoseconds now, std::uint64_t target);
  void inflate(nanoseconds now, std::uint64_t pages);
  void enter(Block block);
  void deflate(std::uint64_t pages);
  void split_off(Block block, std::uint64_t pages);
  void finish();
  void kick(std::uint16_t index);
  void post_statistics(bool first);
  void report_free_pages(nanoseconds now);
  [[nodiscard]] bool hint_free_pages();
  [[nodiscard]] DriverWait resize(nanoseconds now);
  nanoseconds lap() {
    const nanoseconds now = options.clock();
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
  nanoseconds retry_at{0};
  bool short_of_memory = false;
  DriverCounters counters;
  nanoseconds lap_start{0};
};

// What the driver would accept of what is offered, but for the dialect.
Features BalloonDriver::Impl::acceptable(Features offered) const {
  Features wanted(options.features.bits() & kImplemented.bits());
  wanted = wanted.with(Feature::kVersion1);
  if (options.kernel == nullptr) wanted = wanted.without(Feature::kStatsVq);
  if (!options.poison_value) {
    wanted = wanted.without(Feature::kPagePoison);
  } else if (!offered.has(Feature::kPagePoison)) {
    wanted = wanted.without(Feature::kPageReporting);
  }
  return wanted;
}

// 3.1.1, up to FEATURES_OK. The dialect's bit is accepted only with the buffers and the
// descriptors it needs.
Result<void> BalloonDriver::Impl::negotiate() {
  device.write_status(0);
  device.write_status(kStatusAcknowledge);
  device.write_status(kStatusAcknowledge | kStatusDriver);
  const Features offered = device.read_features();
  if (!offered.has(Feature::kVersion1)) {
    return fail(Errc::kFeaturesNotOffered, "the device is a legacy one");
  }
  Features wanted = acceptable(offered);
  // The header and the data of a bitmap are a descriptor each.
  const bool fits_ring = options.dialect != Dialect::kPageBitmap || options.queue_size >= 2;
  const bool knows_dialect =
      options.dialect != Dialect::kStandard && fits_ring && offered.has_bit(options.dialect_bit);
  if (knows_dialect) wanted = wanted.with_bit(options.dialect_bit);
  if (knows_dialect && options.dialect == Dialect::kPageBitmap) {
    if (auto buffer = take_buffer(kBitmapHeaderBytes + kBitmapDataBytes)) {
      message = *buffer;
    } else {
      wanted = wanted.without_bit(options.dialect_bit);
    }
  }
  features = Features(offered.bits() & wanted.bits());
  if (options.dialect != Dialect::kStandard) {
    dialect = negotiated_dialect(options.dialect, options.dialect_bit, features);
  }
  device.write_features(features);
  device.write_status(kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk);
  if ((device.read_status() & kStatusFeaturesOk) == 0) {
    return fail(Errc::kFeaturesNotOffered,
                fmt::format("the device refuses features {:#x}", features.bits()));
  }
  return {};
}

Result<DmaBuffer> BalloonDriver::Impl::take_buffer(std::uint64_t bytes) {
  const unsigned order = order_for(bytes);
  const auto block = order > kMaxOrder ? std::nullopt : allocator.allocate(order);
  if (!block) {
    return fail(Errc::kNotSupported,
                fmt::format("the guest has no {} contiguous bytes for the driver", bytes));
  }
  allocator.push(buffers, *block);
  const std::uint64_t address = block->first << kPageShift;
  std::byte* host = memory->host(address, block->pages().bytes());
  if (host == nullptr) {
    return fail(Errc::kNotSupported, "a page of the allocator lies outside guest memory");
  }
  return DmaBuffer{address, {host, static_cast<std::size_t>(bytes)}};
}

Result<void> BalloonDriver::Impl::set_up_queue(std::uint16_t index) {
  const bool packed = features.has(Feature::kRingPacked);
  const auto ring = take_buffer(lay_out_ring(options.queue_size, 0, packed).bytes);
  if (!ring) return tl::unexpected(ring.error());
  QueueConfig config = lay_out_ring(options.queue_size, ring->address, packed).config;
  config.in_order = features.has(Feature::kInOrder);
  config.event_index = features.has(Feature::kEventIdx);
  config.indirect = features.has(Feature::kIndirectDesc);
  auto queue = DriverQueue::create(memory, config);
  if (!queue) return tl::unexpected(queue.error());
  queues[index] = std::move(*queue);
  return device.set_queue(index, config);
}

// What serves a queue that a feature brings.
Result<void> BalloonDriver::Impl::set_up_sender(std::uint16_t index) {
  DriverQueue& queue = *queues[index];
  switch (map[index]->role) {
    case QueueRole::kStats: {
      const auto buffer = take_buffer(StatsSender::kBufferBytes);
      if (!buffer) return tl::unexpected(buffer.error());
      stats_queue = index;
      stats.emplace(queue, *buffer, *options.kernel);
      return {};
    }
    case QueueRole::kFreePageHint: {
      if (queue.size() < 2) {
        return fail(Errc::kNotSupported, "free page hints need a queue of two entries");
      }
      const auto buffer = take_buffer(HintSender::kBufferBytes);
      if (!buffer) return tl::unexpected(buffer.error());
      hint_queue = index;
      hints.emplace(queue, *buffer, allocator);
      if (options.kernel != nullptr) options.kernel->register_shrinker(*hints);
      return {};
    }
    case QueueRole::kReporting:
      report_queue = index;
      reports.emplace(queue, allocator, options.reporting);
      return {};
    default:
      return {};
  }
}

Result<void> BalloonDriver::Impl::set_up_queues() {
  map = number_queues(dialect_row(dialect), standard_features(), options.numbering);
  for (std::uint16_t i = 0; i < map.size(); ++i) {
    if (map[i] == nullptr) continue;
    if (auto set = set_up_queue(i); !set) return set;
    if (auto ready = set_up_sender(i); !ready) return ready;
  }
  if (!message.bytes.empty()) return {};
  const auto buffer = take_buffer(kLinuxPfnsPerMessage * kPfnEntryBytes);
  if (!buffer) return tl::unexpected(buffer.error());
  message = *buffer;
  return {};
}

void BalloonDriver::Impl::give_buffers_back() {
  while (const auto block = allocator.pop(buffers)) allocator.free(*block);
}

void BalloonDriver::Impl::make_reporter() {
  const std::uint64_t pages = memory->regions().back().pages().end();
  switch (dialect) {
    case Dialect::kStandard:
      reporter = std::make_unique<PfnReporter>(message);
      break;
    case Dialect::kPageBitmap:
      reporter = std::make_unique<BitmapReporter>(message, pages, options.pfn_threshold_pages);
      break;
    case Dialect::kScatterGather:
      reporter = std::make_unique<ChunkReporter>(pages, options.chunk_order);
      break;
  }
}

// Whether every buffer of the message is back. If not, an interrupt will come.
bool BalloonDriver::Impl::answered() {
  do {
    while (queue().take_used()) {
    }
    if (queue().free_descriptors() == queue().size()) return true;
  } while (queue().enable_interrupts());
  return false;
}

bool BalloonDriver::Impl::post_next() {
  const std::uint16_t index = state == State::kInflating ? kInflateQueue : kDeflateQueue;
  const std::uint16_t before = queue().free_descriptors();
  if (!reporter->post(queue())) return false;
  const auto descriptors = static_cast<std::uint64_t>(before - queue().free_descriptors());
  counters.messages += dialect == Dialect::kScatterGather ? descriptors : 1;
  if (queue().publish()) kick(index);
  return true;
}

void BalloonDriver::Impl::kick(std::uint16_t index) {
  ++counters.kicks;
  device.notify(index);
}

void BalloonDriver::Impl::post_statistics(bool first) {
  if (stats && (first ? stats->post() : stats->post_if_asked())) kick(stats_queue);
}

void BalloonDriver::Impl::report_free_pages(nanoseconds now) {
  if (!reports) return;
  const auto progress = reports->step(now);
  counters.reports = reports->core().counters().reports;
  report_wait = progress.wait;
  if (progress.kick) kick(report_queue);
}

// Begins the operation that brings the balloon nearer to its target.
void BalloonDriver::Impl::begin(nanoseconds now, std::uint64_t target) {
  lap_start = options.clock();
  if (target > balloon.pages) {
    state = State::kInflating;
    inflate(now, target - balloon.pages);
  } else {
    state = State::kDeflating;
    deflate(balloon.pages - target);
  }
  counters.times.allocator += lap();
}

// Takes pages from the allocator, largest blocks first, until it has what the operation may have
// or until memory is short.
void BalloonDriver::Impl::inflate(nanoseconds now, std::uint64_t pages) {
  const bool reversed = dialect == Dialect::kStandard && options.pfn_order == PfnOrder::kReversed;
  pages = std::min(pages, reporter->max_pages());
  unsigned order = reporter->max_order();
  while (pages != 0) {
    order = std::min(order, static_cast<unsigned>(std::bit_width(pages)) - 1);
    const auto block = allocator.allocate(order, options.reserve_pages);
    if (!block && order == 0) {
      ++counters.failed_allocations;
      short_of_memory = true;
      retry_at = now + kBackOff;
      break;
    }
    if (!block) {
      --order;
      continue;
    }
    ++counters.allocations_by_order[order];
    pages -= block->pages().count;
    if (reversed) {
      arriving.push_back(*block);
    } else {
      enter(*block);
    }
  }
  for (const Block& block : arriving | std::views::reverse) enter(block);
  arriving.clear();
}

void BalloonDriver::Impl::enter(Block block) {
  allocator.push(balloon, block);
  reporter->add(block);
}

// Takes the newest pages out of the balloon; they are freed when the device has been told.
void BalloonDriver::Impl::deflate(std::uint64_t pages) {
  pages = std::min(pages, reporter->max_pages());
  while (pages != 0) {
    const Block block = *allocator.pop(balloon);
    if (block.pages().count > pages) {
      split_off(block, pages);
      return;
    }
    allocator.push(leaving, block);
    reporter->add(block);
    pages -= block.pages().count;
  }
}

// Takes some pages of a block out of the balloon and leaves the others there.
void BalloonDriver::Impl::split_off(Block block, std::uint64_t pages) {
  while (pages != 0) {
    const Block lower{block.first, block.order - 1};
    const Block upper{block.first + lower.pages().count, lower.order};
    if (pages < lower.pages().count) {
      allocator.push(balloon, upper);
      block = lower;
      continue;
    }
    allocator.push(leaving, lower);
    reporter->add(lower);
    pages -= lower.pages().count;
    block = upper;
  }
  allocator.push(balloon, block);
}

// All messages of the operation are answered.
void BalloonDriver::Impl::finish() {
  lap_start = options.clock();
  while (const auto block = allocator.pop(leaving)) allocator.free(*block);
  counters.times.allocator += lap();
  device.write_config(kActualOffset, static_cast<std::uint32_t>(balloon.pages));
  state = State::kIdle;
}

BalloonDriver::BalloonDriver(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BalloonDriver::~BalloonDriver() {
  if (impl_->hints && impl_->options.kernel != nullptr) {
    impl_->options.kernel->unregister_shrinker(*impl_->hints);
  }
}

Result<std::unique_ptr<BalloonDriver>> BalloonDriver::probe(
    DeviceAccess& device, std::shared_ptr<const GuestMemory> memory, PageAllocator& allocator,
    const DriverOptions& options) {
  auto impl = std::make_unique<Impl>(device, std::move(memory), allocator, options);
  const auto ready = impl->negotiate().and_then([&] { return impl->set_up_queues(); });
  if (!ready) {
    device.write_status(device.read_status() | kStatusFailed);  // 3.1.1: given up
    impl->give_buffers_back();
    return tl::unexpected(ready.error());
  }
  impl->make_reporter();
  if (options.early_stats) impl->post_statistics(true);
  if (impl->standard_features().has(Feature::kPagePoison)) {
    device.write_config(kPoisonValueOffset, *options.poison_value);
  }
  device.write_status(kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk | kStatusDriverOk);
  if (!options.early_stats) impl->post_statistics(true);
  return std::unique_ptr<BalloonDriver>(new BalloonDriver(std::move(impl)));
}

// Whether the device has to use buffers before that can go on.
bool BalloonDriver::Impl::hint_free_pages() {
  if (!hints) return false;
  const auto progress = hints->step(device.read_config(kHintCommandOffset));
  if (progress.kick) kick(hint_queue);
  return progress.waits;
}

// Follows the target as far as that goes now.
DriverWait BalloonDriver::Impl::resize(nanoseconds now) {
  for (;;) {
    if (state != State::kIdle) {
      // The answer to a message also ends the time that was spent on it.
      if (!answered()) return {DriverWait::Kind::kUsedBuffer, {}};
      const bool posted = post_next();
      counters.times.messages += lap();
      if (posted) continue;
      counters.times.last_answer = lap_start;
      finish();
    }
    const std::uint64_t target = device.read_config(kNumPagesOffset);
    if (target == balloon.pages) return {DriverWait::Kind::kConfigChange, {}};
    if (target > balloon.pages && short_of_memory && now < retry_at) {
      return {DriverWait::Kind::kTime, retry_at};
    }
    short_of_memory = false;
    begin(now, target);
  }
}

DriverWait BalloonDriver::step(nanoseconds now) {
  impl_->post_statistics(false);
  const bool hinting = impl_->hint_free_pages();  // first: it may give pages back
  const DriverWait wait = impl_->resize(now);
  impl_->report_free_pages(now);
  if (hinting) return {DriverWait::Kind::kUsedBuffer, {}};
  if (wait.kind == DriverWait::Kind::kUsedBuffer || !impl_->reports) return wait;
  const ReportingWait& report = impl_->report_wait;
  if (report.kind == ReportingWait::Kind::kAnswer) return {DriverWait::Kind::kUsedBuffer, {}};
  if (report.kind == ReportingWait::Kind::kFreedBlock) return wait;
  if (wait.kind == DriverWait::Kind::kTime && wait.until < report.until) return wait;
  return {DriverWait::Kind::kTime, report.until};
}

Features BalloonDriver::features() const { return impl_->features; }
Dialect BalloonDriver::dialect() const { return impl_->dialect; }
std::uint64_t BalloonDriver::ballooned_pages() const { return impl_->balloon.pages; }
const DriverCounters& BalloonDriver::counters() const { return impl_->counters; }

void BalloonDriver::for_each_block(const std::function<void(Block)>& visit) const {
  for (auto block = impl_->allocator.newest(impl_->balloon); block;
       block = impl_->allocator.next(*block)) {
    visit(*block);
  }
}

}  // namespace vballoon::sim
