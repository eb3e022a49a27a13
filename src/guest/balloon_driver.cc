// SPDX-License-Identifier: MIT
#include "vballoon/sim/balloon_driver.h"

#include <utility>

#include "guest/balloon_driver_impl.h"
#include "vballoon/balloon_registers.h"

namespace vballoon::sim {

using std::chrono::nanoseconds;

DriverOptions resolved(DriverOptions options) {
  const PfnOrder order = options.faithful ? PfnOrder::kAllocation : PfnOrder::kReversed;
  options.pfn_order = options.pfn_order.value_or(order);
  if (options.faithful) {
    options.pfn_threshold_pages = 0;
    options.chunk_order = 0;
  }
  return options;
}

void BalloonDriver::Impl::kick(std::uint16_t index) {
  ++counters.kicks;
  if (features.has(Feature::kNotificationData)) {
    device.notify_with_data(index, queues[index].ring->next_available());
  } else {
    device.notify(index);
  }
}

void BalloonDriver::Impl::post_statistics() {
  if (stats && stats->post_if_asked()) kick(stats_queue);
}

void BalloonDriver::Impl::report_free_pages(nanoseconds now) {
  if (!reports) return;
  const auto progress = reports->step(now);
  counters.reports = reports->core().counters().reports;
  report_wait = progress.wait;
  if (progress.kick) kick(report_queue);
}

// Whether the device has to use buffers before that can go on.
bool BalloonDriver::Impl::hint_free_pages() {
  if (!hints) return false;
  const auto progress = hints->step(device.read_config(kHintCommandOffset));
  if (progress.kick) kick(hint_queue);
  return progress.waits;
}

// The same.
bool BalloonDriver::Impl::answer_requests() {
  if (control) {
    const auto progress = control->step();
    if (progress.kick) kick(control_queue);
    counters.skipped_blocks = control->skipped_blocks();
    return progress.waits;
  }
  if (!requests) return false;
  const auto progress = requests->step();
  if (progress.kick) kick(request_queue);
  return progress.waits;
}

BalloonDriver::BalloonDriver(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BalloonDriver::~BalloonDriver() = default;

Result<std::unique_ptr<BalloonDriver>> BalloonDriver::probe(
    DeviceAccess& device, std::shared_ptr<const GuestMemory> memory, PageAllocator& allocator,
    const DriverOptions& options) {
  auto impl = std::make_unique<Impl>(device, std::move(memory), allocator, options);
  if (auto started = impl->start(); !started) return tl::unexpected(started.error());
  return std::unique_ptr<BalloonDriver>(new BalloonDriver(std::move(impl)));
}

DriverWait BalloonDriver::step(nanoseconds now) {
  impl_->stepped_at = now;
  if (impl_->course == Impl::Course::kStopped) return {DriverWait::Kind::kStopped, {}};
  if (impl_->course != Impl::Course::kRunning) return impl_->wind_up(now);
  if (impl_->needs_reset()) return {DriverWait::Kind::kNeedsReset, {}};
  impl_->post_statistics();
  const bool answering = impl_->answer_requests();
  const bool hinting = impl_->hint_free_pages();  // first: it may give pages back
  const DriverWait wait = impl_->resize(now);
  impl_->report_free_pages(now);
  if (hinting || answering) return {DriverWait::Kind::kUsedBuffer, {}};
  if (wait.kind == DriverWait::Kind::kUsedBuffer || !impl_->reports) return wait;
  const ReportingWait& report = impl_->report_wait;
  if (report.kind == ReportingWait::Kind::kAnswer) return {DriverWait::Kind::kUsedBuffer, {}};
  if (report.kind == ReportingWait::Kind::kFreedBlock) return wait;
  if (wait.kind == DriverWait::Kind::kTime && wait.until < report.until) return wait;
  return {DriverWait::Kind::kTime, report.until};
}

void BalloonDriver::remove() { impl_->stop(Impl::Course::kEmptying); }

void BalloonDriver::freeze() {
  impl_->frozen = impl_->frozen || impl_->course == Impl::Course::kRunning;
  impl_->stop(Impl::Course::kEmptying);
}

void BalloonDriver::shutdown() { impl_->stop(Impl::Course::kHalting); }

Result<void> BalloonDriver::restore() {
  if (!impl_->frozen || impl_->course != Impl::Course::kStopped) {
    return fail(Errc::kNotSupported, "the driver is not frozen");
  }
  if (auto started = impl_->start(); !started) return started;
  impl_->frozen = false;
  impl_->course = Impl::Course::kRunning;
  return {};
}

Result<void> BalloonDriver::resize_queue(std::uint16_t index, std::uint16_t size) {
  return impl_->resize_queue(index, size);
}

Features BalloonDriver::features() const { return impl_->features; }
Dialect BalloonDriver::dialect() const { return impl_->dialect; }
std::uint64_t BalloonDriver::ballooned_pages() const { return impl_->balloon.pages; }
const DriverCounters& BalloonDriver::counters() const { return impl_->counters; }

void BalloonDriver::for_each_block(const std::function<void(Block)>& visit) const {
  for (auto block = impl_->allocator.first(impl_->balloon); block;
       block = impl_->allocator.next(*block)) {
    visit(*block);
  }
}

}  // namespace vballoon::sim
