// SPDX-License-Identifier: MIT
// Taking a device into use and letting it go (virtio 1.3, sections 3.1 and 3.3).
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <utility>

#include "guest/balloon_driver_impl.h"
#include "guest/reporters.h"
#include "vballoon/balloon_registers.h"

namespace vballoon::sim {
namespace {

using std::chrono::nanoseconds;

// ACCESS_PLATFORM: in front of this guest's memory stands nothing that would have to be set up.
constexpr Features kImplemented{
    Feature::kMustTellHost, Feature::kDeflateOnOom, Feature::kStatsVq,
    Feature::kFreePageHint, Feature::kPagePoison,   Feature::kPageReporting,
    Feature::kIndirectDesc, Feature::kEventIdx,     Feature::kAccessPlatform,
    Feature::kRingPacked,   Feature::kInOrder,      Feature::kNotificationData,
    Feature::kRingReset};

// How often the status is read after a reset before the device is given up.
constexpr int kStatusReads = 1000;

// The smallest order whose blocks hold that many bytes.
unsigned order_for(std::uint64_t bytes) {
  return static_cast<unsigned>(std::bit_width((bytes - 1) >> kPageShift));
}

}  // namespace

// What the driver would accept of what is offered, but for the dialect.
Features BalloonDriver::Impl::acceptable(Features offered) const {
  Features wanted(options.features.bits() & kImplemented.bits());
  wanted = wanted.with(Feature::kVersion1);
  if (options.kernel == nullptr) {
    wanted = wanted.without(Feature::kStatsVq).without(Feature::kDeflateOnOom);
  }
  if (!options.poison_value) {
    wanted = wanted.without(Feature::kPagePoison);
  } else if (!offered.has(Feature::kPagePoison)) {
    wanted = wanted.without(Feature::kPageReporting);
  }
  return wanted;
}

// 2.4.2: it is over when the status reads 0.
Result<void> BalloonDriver::Impl::reset() {
  device.write_status(0);
  for (int reads = 0; reads < kStatusReads; ++reads) {
    if (device.read_status() == 0) return {};
  }
  return fail(Errc::kNotSupported, "the device does not come to the end of a reset");
}

// 2.1.1: nothing that is out will be answered then.
bool BalloonDriver::Impl::needs_reset() { return (device.read_status() & kStatusNeedsReset) != 0; }

// The dialect's bit is accepted only with the buffers and the descriptors it needs, that of its
// request queue only beside statistics.
Features BalloonDriver::Impl::accept_dialect(Features offered, Features wanted) {
  const ReporterNeeds needs = reporter_needs(options.dialect, guest_pages(), options);
  const bool speaks = offered.has_bit(dialect_bit()) && needs.descriptors <= options.queue_size &&
                      take_message(needs.message_bytes);
  wanted = speaks ? wanted.with_bit(dialect_bit()) : wanted.without_bit(dialect_bit());
  if (!options.guest_requests) return wanted;
  const bool statistics = offered.has(Feature::kStatsVq) && wanted.has(Feature::kStatsVq);
  const bool answers = speaks && (options.dialect != Dialect::kPageBitmap || statistics);
  return answers ? wanted.with_bit(requests_bit()) : wanted.without_bit(requests_bit());
}

// 3.1.1, up to FEATURES_OK.
Result<void> BalloonDriver::Impl::negotiate() {
  if (auto done = reset(); !done) return done;
  device.write_status(kStatusAcknowledge);
  device.write_status(kStatusAcknowledge | kStatusDriver);
  const Features offered = device.read_features();
  if (!offered.has(Feature::kVersion1)) {
    return fail(Errc::kFeaturesNotOffered, "the device is a legacy one");
  }
  Features wanted = acceptable(offered);
  if (options.dialect != Dialect::kStandard) wanted = accept_dialect(offered, wanted);
  features = Features(offered.bits() & wanted.bits());
  if (options.dialect != Dialect::kStandard) {
    dialect = negotiated_dialect(options.dialect, dialect_bit(), features);
  }
  device.write_features(features);
  device.write_status(kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk);
  if ((device.read_status() & kStatusFeaturesOk) == 0) {
    return fail(Errc::kFeaturesNotOffered,
                fmt::format("the device refuses features {:#x}", features.bits()));
  }
  return {};
}

// Behind the last page.
Pfn BalloonDriver::Impl::guest_pages() const { return memory->regions().back().pages().end(); }

Result<DmaBuffer> BalloonDriver::Impl::take_buffer(std::uint64_t bytes, PageList& owner) {
  const unsigned wanted = order_for(bytes);
  const auto block = wanted > kMaxOrder ? std::nullopt : pages.allocate_for_driver(wanted);
  if (!block) {
    return fail(Errc::kNotSupported,
                fmt::format("the guest has no {} contiguous bytes for the driver", bytes));
  }
  allocator.push(owner, *block);
  const std::uint64_t address = block->first << kPageShift;
  std::byte* host = memory->host(address, block->pages().bytes());
  if (host == nullptr) {
    return fail(Errc::kNotSupported, "a page of the allocator lies outside guest memory");
  }
  return DmaBuffer{address, {host, static_cast<std::size_t>(bytes)}};
}

// Where messages are written.
Result<void> BalloonDriver::Impl::take_message(std::uint64_t bytes) {
  if (bytes == 0) return {};
  return take_buffer(bytes, buffers).map([this](DmaBuffer buffer) { message = buffer; });
}

// One that the device has not heard of yet.
Result<BalloonDriver::Impl::Queue> BalloonDriver::Impl::make_queue(std::uint16_t size) {
  const bool packed = features.has(Feature::kRingPacked);
  Queue queue;
  auto ring = take_buffer(lay_out_ring(size, 0, packed).bytes, queue.memory).and_then([&](auto at) {
    queue.config = lay_out_ring(size, at.address, packed).config;
    queue.config.in_order = features.has(Feature::kInOrder);
    queue.config.event_index = features.has(Feature::kEventIdx);
    queue.config.indirect = features.has(Feature::kIndirectDesc);
    return DriverQueue::create(memory, queue.config);
  });
  if (!ring) {
    pages.free_all(queue.memory);
    return tl::unexpected(ring.error());
  }
  queue.ring = std::move(*ring);
  return queue;
}

Result<void> BalloonDriver::Impl::set_up_queue(std::uint16_t index) {
  auto queue = make_queue(options.queue_size);
  if (!queue) return tl::unexpected(queue.error());
  queues[index] = std::move(*queue);
  return device.set_queue(index, queues[index].config);
}

// What serves a queue that a feature brings.
Result<void> BalloonDriver::Impl::set_up_sender(std::uint16_t index) {
  DriverQueue& queue = *queues[index].ring;
  switch (map[index]->role) {
    case QueueRole::kStats: {
      const auto buffer = take_buffer(StatsSender::kBufferBytes, buffers);
      if (!buffer) return tl::unexpected(buffer.error());
      stats_queue = index;
      stats.emplace(queue, *buffer, *options.kernel, options.habits);
      return {};
    }
    case QueueRole::kFreePageHint: {
      if (queue.size() < 2) {
        return fail(Errc::kNotSupported, "free page hints need a queue of two entries");
      }
      const auto buffer = take_buffer(HintSender::kBufferBytes, buffers);
      if (!buffer) return tl::unexpected(buffer.error());
      hint_queue = index;
      hints.emplace(queue, *buffer, allocator, pages);
      return {};
    }
    case QueueRole::kReporting:
      report_queue = index;
      reports.emplace(queue, allocator, options.reporting);
      return {};
    default:
      return set_up_answerer(index);
  }
}

// What answers the host's requests. The control queue stands in front of the one for free pages.
Result<void> BalloonDriver::Impl::set_up_answerer(std::uint16_t index) {
  const QueueRole role = map[index]->role;
  if (role == QueueRole::kControl) control_queue = index;
  if (role != QueueRole::kRequest && role != QueueRole::kFreePages) return {};
  const bool by_request = role == QueueRole::kRequest;
  if (options.queue_size < least_size(by_request ? index : control_queue)) {
    return fail(Errc::kNotSupported, "requests of the host need a queue of more entries");
  }
  const auto buffer = take_buffer(
      by_request ? RequestAnswerer::kBufferBytes : ControlAnswerer::kBufferBytes, buffers);
  if (!buffer) return tl::unexpected(buffer.error());
  DriverQueue& queue = *queues[index].ring;
  if (!by_request) {
    free_page_queue = index;
    control.emplace(*queues[control_queue].ring, queue, *buffer, allocator, options.faithful,
                    [this] { kick(free_page_queue); });
    return {};
  }
  request_queue = index;
  const auto take_data = [this](std::uint64_t bytes) -> std::optional<DmaBuffer> {
    PageList taken;
    const auto data = take_buffer(bytes, taken);
    if (!data) return std::nullopt;
    // The host may have been told just now that these pages are free. What the driver does not
    // write would then differ where the guest is migrated to.
    std::ranges::fill(data->bytes, std::byte{0});
    pages.free_all(records);
    records = taken;
    return *data;
  };
  requests.emplace(queue, *buffer, take_data, allocator, *options.kernel);
  return {};
}

Result<void> BalloonDriver::Impl::set_up_queues() {
  map =
      number_queues(dialect_row(dialect), standard_features(), options.numbering, takes_requests());
  for (std::uint16_t i = 0; i < map.size(); ++i) {
    if (map[i] == nullptr) continue;
    if (auto set = set_up_queue(i); !set) return set;
    if (auto ready = set_up_sender(i); !ready) return ready;
  }
  if (dialect != Dialect::kStandard) return {};
  return take_message(reporter_needs(dialect, guest_pages(), options).message_bytes);
}

// All of 3.1.1. The first statistics lie in their queue before DRIVER_OK (5.5.5).
Result<void> BalloonDriver::Impl::start() {
  if (auto ready = negotiate().and_then([&] { return set_up_queues(); }); !ready) {
    give_up();
    return ready;
  }
  make_reporters();
  const bool kick_statistics = stats && stats->post();
  if (kick_statistics && options.early_stats) kick(stats_queue);
  if (standard_features().has(Feature::kPagePoison)) {
    device.write_config(kPoisonValueOffset, *options.poison_value);
  }
  const bool kick_requests = requests && requests->post();
  const bool kick_control = control && control->post();
  device.write_status(kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk | kStatusDriverOk);
  if (kick_requests) kick(request_queue);
  if (kick_control) kick(control_queue);
  if (kick_statistics && !options.early_stats) kick(stats_queue);
  register_with_kernel();
  return {};
}

void BalloonDriver::Impl::make_reporters() {
  auto reporter = make_reporter(dialect, message, options);
  for_pages = {};
  for_blocks = {};
  spoken = &for_pages;
  if (dialect != Dialect::kContPages) {
    for_pages.reporter = std::move(reporter);
    return;
  }
  for_pages.reporter = std::make_unique<PfnReporter>(message);
  for_blocks.reporter = std::move(reporter);
  for (std::uint16_t i = 0; i < map.size(); ++i) {
    if (map[i] == nullptr || map[i]->codec != Codec::kContPages) continue;
    (map[i]->role == QueueRole::kInflate ? for_blocks.inflate : for_blocks.deflate) = i;
  }
}

// Queues must not be live any more when their pages are used again (3.3.1), and nothing is done
// after FAILED. Without an end of the reset the pages are lost.
void BalloonDriver::Impl::give_up() {
  const bool any_queue = queues[kInflateQueue].ring != nullptr;
  const bool none_live = !any_queue || reset();
  device.write_status(device.read_status() | kStatusFailed);
  forget_queues();
  if (none_live) free_buffers();
}

void BalloonDriver::Impl::register_with_kernel() {
  if (hints && options.kernel != nullptr) options.kernel->register_shrinker(*hints);
  if (standard_features().has(Feature::kDeflateOnOom)) options.kernel->register_oom_notifier(*this);
}

void BalloonDriver::Impl::unregister_from_kernel() {
  if (options.kernel == nullptr) return;
  if (hints) options.kernel->unregister_shrinker(*hints);
  options.kernel->unregister_oom_notifier(*this);
}

BalloonDriver::Impl::~Impl() { unregister_from_kernel(); }

// False when one does not stop.
bool BalloonDriver::Impl::stop_queues() {
  bool stopped = true;
  for (std::uint16_t i = 0; i < queues.size(); ++i) {
    if (queues[i].ring && !device.stop_queue(i)) stopped = false;
  }
  return stopped;
}

void BalloonDriver::Impl::forget_queues() {
  stats.reset();
  hints.reset();
  reports.reset();
  requests.reset();
  control.reset();
  for_pages.reporter.reset();
  for_blocks.reporter.reset();
  for (Queue& queue : queues) queue.ring.reset();
  message = {};
}

void BalloonDriver::Impl::free_buffers() {
  for (Queue& queue : queues) pages.free_all(queue.memory);
  pages.free_all(buffers);
  pages.free_all(records);
}

void BalloonDriver::Impl::stop(Course how) {
  if (course == Course::kRunning) course = how;
}

// Does what is left to do before the device can be let go.
DriverWait BalloonDriver::Impl::wind_up(nanoseconds now) {
  while (!needs_reset()) {
    if (!go_on(now)) return wait_for_answer();
    if (course == Course::kHalting) break;
    if (balloon.empty()) {
      write_actual();
      break;
    }
    emptying = true;
    begin_deflating(balloon.pages, for_pages);
  }
  emptying = false;
  let_go();
  return {DriverWait::Kind::kStopped, {}};
}

// After the reset the device knows neither queues nor balloon. A guest that halts needs no pages,
// and without an end of the reset none may be used.
void BalloonDriver::Impl::let_go() {
  const bool wants_pages = course == Course::kEmptying;
  course = Course::kStopped;
  unregister_from_kernel();
  const bool none_live = reset().has_value() && (!wants_pages || stop_queues());
  frozen = frozen && none_live;
  if (!none_live || !wants_pages) return;
  forget_queues();
  const bool moving = state == State::kMovingIn || state == State::kMovingOut;
  adjust_managed_pages(static_cast<std::int64_t>(balloon.pages + (moving ? 0 : leaving.pages)));
  pages.free_all(balloon);
  pages.free_all(leaving);
  free_buffers();
  state = State::kIdle;
  unanswered = 0;
  short_of_memory = false;
  moving_out_of.reset();
  reached.reset();
  order = kMaxOrder;
}

}  // namespace vballoon::sim
