// SPDX-License-Identifier: MIT
#include "vballoon/sim/balloon_driver.h"

#include <utility>

#include "guest/balloon_driver_impl.h"
#include "vballoon/balloon_registers.h"

namespace vballoon::sim {

using std::chrono::nanoseconds;

void BalloonDriver::Impl::kick(std::uint16_t index) {
  ++counters.kicks;
  device.notify(index);
}

// 2.1.1: nothing that is out will be answered then.
bool BalloonDriver::Impl::needs_reset() { return (device.read_status() & kStatusNeedsReset) != 0; }

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

// Whether the device has to use buffers before that can go on.
bool BalloonDriver::Impl::hint_free_pages() {
  if (!hints) return false;
  const auto progress = hints->step(device.read_config(kHintCommandOffset));
  if (progress.kick) kick(hint_queue);
  return progress.waits;
}

BalloonDriver::Impl::~Impl() {
  if (hints && options.kernel != nullptr) options.kernel->unregister_shrinker(*hints);
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
  if (impl_->needs_reset()) return {DriverWait::Kind::kNeedsReset, {}};
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
