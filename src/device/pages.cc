// SPDX-License-Identifier: MIT
// What becomes of pages that messages name: booked, discarded, handed on.
#include <algorithm>
#include <utility>

#include "device/balloon_device_impl.h"
#include "memory/huge_pages.h"
#include "memory/will_need.h"

namespace vballoon {

void BalloonDevice::Impl::book(const DiscardPlan::Outcome& outcome, Errc unchanged) {
  count_locked(Errc::kPageOutOfRange, outcome.outside_pages);
  count_locked(unchanged, outcome.booked.unchanged);
  metrics.cancelled_bytes += outcome.booked.cancelled << kPageShift;
  metrics.forgone_bytes += outcome.forgone_pages << kPageShift;
}

bool BalloonDevice::Impl::put_off(std::span<const PageRange> pages) const {
  if (inhibited != 0) return true;
  if (!options.write_behind || !may_owe()) return false;
  // A range can be anything until it is clipped: what does not fit is not put off.
  std::uint64_t room = options.max_owed_bytes >> kPageShift;
  if (ledger.owed_pages() >= room) return false;
  room -= ledger.owed_pages();
  for (const PageRange& range : pages) {
    if (range.count > room) return false;
    room -= range.count;
  }
  return true;
}

// Inhibited without MUST_TELL_HOST, the pages are acknowledged and never given back: they may be in
// use again right after the answer.
void BalloonDevice::Impl::inflate_without_discard(std::span<const PageRange> pages) {
  const auto outcome = plan.inflate_later(pages, may_owe());
  book(outcome, Errc::kPageAlreadyInflated);
  metrics.inflated_bytes += outcome.booked.pages << kPageShift;
  owed_discards.added();
  if (inhibited == 0) turn_put_off = true;
  metrics.stages.translate += lap();
}

void BalloonDevice::Impl::inflate(std::span<const PageRange> pages) {
  {
    const std::lock_guard guard(state_lock);
    if (put_off(pages)) {
      inflate_without_discard(pages);
      return;
    }
    const auto outcome = plan.inflate(pages, may_owe());
    book(outcome, Errc::kPageAlreadyInflated);
    metrics.inflated_bytes += outcome.booked.pages << kPageShift;
    in_flight_pages = outcome.immediate_pages;
    metrics.stages.translate += lap();
  }
  discard(plan.page_runs(), false);
  discard(plan.huge_runs(), true);
}

void BalloonDevice::Impl::deflate(std::span<const PageRange> pages) {
  const bool collapses = options.deflate_action == DeflateAction::kCollapse;
  {
    // The guest writes to these pages as soon as it has the answer.
    std::unique_lock lock(state_lock);
    owed_discards_settled.wait(lock, [&] { return !owed_discards.in_kernel(pages); });
    const auto outcome = collapses ? plan.deflate_huge(pages) : plan.deflate(pages);
    book(outcome, Errc::kPageNotInflated);
    metrics.deflated_bytes += (outcome.booked.pages - outcome.booked.unchanged) << kPageShift;
    metrics.stages.translate += lap();
  }
  std::uint64_t collapsed_bytes = 0;
  switch (options.deflate_action) {
    case DeflateAction::kNothing:
      return;
    case DeflateAction::kWillNeed:
      plan.translate(pages);
      advise_will_need(plan.page_runs());
      break;
    case DeflateAction::kCollapse:
      collapsed_bytes = collapse_runs();
      break;
  }
  const std::lock_guard guard(state_lock);
  metrics.collapsed_bytes += collapsed_bytes;
  metrics.stages.discard += lap();
}

// A huge page takes the kernel a while, and the guest may name as many as it has.
std::uint64_t BalloonDevice::Impl::collapse_runs() const {
  std::uint64_t bytes = 0;
  for (const HostRun& run : plan.huge_runs()) {
    const std::size_t huge = run.region->huge_page_bytes;
    for (std::size_t at = 0; at < run.length && !should_stop(); at += huge) {
      if (collapse({run.address + at, huge, run.region})) bytes += huge;
    }
  }
  return bytes;
}

// Pages that are free in the guest, and that it may use again as soon as the report is answered:
// nothing of them is booked.
void BalloonDevice::Impl::report_free(std::span<const PageRange> pages) {
  {
    const std::lock_guard guard(state_lock);
    const auto outcome = plan.report(pages);
    count_locked(Errc::kPageOutOfRange, outcome.outside_pages);
    metrics.reported_bytes += outcome.inside_pages << kPageShift;
    metrics.stages.translate += lap();
    // 5.5.6.7.2: such a page may not become anything but its poison, and a discard gives zeros.
    if (registers.poison_value() != 0 || inhibited != 0) return;
  }
  for (const auto runs : {plan.page_runs(), plan.huge_runs()}) {
    if (runs.empty()) continue;
    const auto guard = discard_and_count(runs);
    metrics.reported_freed_bytes += report.freed_bytes;
  }
}

void BalloonDevice::Impl::hint_free(std::span<const PageRange> pages) {
  hinted.clear();
  const std::uint64_t outside = plan.clip(pages, hinted);
  {
    const std::lock_guard guard(state_lock);
    count_locked(Errc::kPageOutOfRange, outside);
    for (const PageRange& range : hinted) metrics.hinted_bytes += range.bytes();
  }
  if (!hinted.empty()) options.on_free_page_hints(hinted);
}

std::unique_lock<std::mutex> BalloonDevice::Impl::discard_and_count(std::span<const HostRun> runs) {
  report.clear();
  discarder->discard(runs, report);
  std::unique_lock lock(state_lock);
  count_discard(report);
  metrics.stages.discard += lap();
  metrics.stages.last_discard_end = std::max(metrics.stages.last_discard_end, lap_start);
  return lock;
}

void BalloonDevice::Impl::count_discard(const DiscardReport& done) {
  metrics.discard_calls += done.calls;
  metrics.discard_failures += done.failures.size();
  if (done.failures.empty()) return;
  metrics.last_discard_errno = done.failures.back().os_error;
  kernel_log.warn(Error{Errc::kDiscardFailed, metrics.last_discard_errno}.message());
}

// One piece of what is owed. Holds no lock but `owed_lock` while the kernel works.
bool BalloonDevice::Impl::run_owed_discards() {
  std::span<const HostRun> runs;
  {
    const std::lock_guard guard(state_lock);
    if (inhibited == 0 && forgoing == 0) runs = owed_discards.take();
    owed_discards_idle = runs.empty();
  }
  if (runs.empty()) return false;
  const auto begin = options.clock();
  owed_report.clear();
  discarder->discard(runs, owed_report);
  const auto end = options.clock();
  {
    const std::lock_guard guard(state_lock);
    metrics.freed_bytes += owed_discards.settle(owed_report.failures) << kPageShift;
    count_discard(owed_report);
    metrics.stages.discard += end - begin;
    metrics.stages.discard_behind += end - begin;
    metrics.stages.last_discard_end = std::max(metrics.stages.last_discard_end, end);
  }
  owed_discards_settled.notify_all();
  return true;
}

void BalloonDevice::Impl::discard(std::span<const HostRun> runs, bool huge) {
  if (runs.empty()) return;
  const auto guard = discard_and_count(runs);
  const auto settled =
      huge ? plan.settle_huge(report, may_owe()) : plan.settle_pages(report, may_owe());
  if (!huge) in_flight_pages = 0;
  metrics.freed_bytes += settled.freed_pages << kPageShift;
  metrics.forgone_bytes += settled.forgone_pages << kPageShift;
}

}  // namespace vballoon
