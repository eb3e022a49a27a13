// SPDX-License-Identifier: MIT
// Asking the guest: for statistics, which of its pages are free, by whichever queue was negotiated,
// and to drop its caches.
#include <algorithm>
#include <utility>

#include "device/balloon_device_impl.h"

namespace vballoon {

// ---- statistics --------------------------------------------------------------------------------

Result<void> BalloonDevice::request_stats(std::chrono::nanoseconds timeout) {
  std::optional<std::uint16_t> index;
  {
    const std::lock_guard guard(impl_->state_lock);
    if (impl_->registers.running()) index = impl_->queue_of(QueueRole::kStats);
    if (!index) return fail(Errc::kNotSupported, "the guest offers no statistics");
    impl_->stats.request(impl_->options.clock(), timeout);
  }
  if (impl_->options.wake) impl_->options.wake(*index);
  return {};
}

void BalloonDevice::set_stats_interval(std::chrono::nanoseconds interval) {
  std::optional<std::uint16_t> index;
  {
    const std::lock_guard guard(impl_->state_lock);
    impl_->stats.set_interval(interval, impl_->options.clock());
    if (impl_->registers.running()) index = impl_->queue_of(QueueRole::kStats);
  }
  if (index && impl_->options.wake) impl_->options.wake(*index);
}

std::chrono::nanoseconds BalloonDevice::stats_interval() const {
  const std::lock_guard guard(impl_->state_lock);
  return impl_->stats.interval();
}

StatsReport BalloonDevice::stats() const {
  const std::lock_guard guard(impl_->state_lock);
  return impl_->stats.report(impl_->options.clock());
}

std::optional<std::chrono::nanoseconds> BalloonDevice::tick() {
  std::optional<std::uint16_t> index;
  {
    const std::lock_guard guard(impl_->state_lock);
    index = impl_->queue_of(QueueRole::kStats);
  }
  if (!index) return std::nullopt;
  Impl::Turn turn;
  {
    const std::lock_guard guard(impl_->queues_lock);
    turn = impl_->tick(*index);
  }
  impl_->say(turn);
  if (turn.more && impl_->options.wake) impl_->options.wake(*index);
  return turn.next_tick;
}

// ---- free pages and caches ---------------------------------------------------------------------

std::optional<std::uint16_t> BalloonDevice::Impl::request_queue() const {
  const auto index = queue_of(QueueRole::kRequest);
  return index ? index : queue_of(QueueRole::kControl);
}

void BalloonDevice::Impl::set_hint_command(std::uint32_t id) {
  registers.set_hint_command(id);
  if (options.trace != nullptr) options.trace->hint_command(id);
}

// With no lock held.
void BalloonDevice::Impl::say_that_hints_changed(std::optional<std::uint16_t> by_request) const {
  if (by_request) {
    if (options.wake) options.wake(*by_request);
  } else if (options.notify_config) {
    options.notify_config();
  }
}

void BalloonDevice::Impl::forget_hints() {
  for (Queue& queue : queues) {
    if (queue.row == nullptr || !brings_hints(*queue.row)) continue;
    queue.pages->forget_pages();
    queue.round_ends = false;
  }
}

// Waits for a turn that is under way: its hints are of the round that was.
void BalloonDevice::Impl::end_hints(void (HintRound::*end)()) {
  std::optional<std::uint16_t> by_request;
  {
    const std::lock_guard queues_guard(queues_lock);
    const std::lock_guard guard(state_lock);
    if (!registers.running()) return;
    by_request = request_queue();
    if (!by_request && !registers.has(Feature::kFreePageHint)) return;
    const std::uint32_t before = hints.command();
    (hints.*end)();
    forget_hints();
    if (hints.command() == before) return;
    if (!by_request) set_hint_command(hints.command());
  }
  say_that_hints_changed(by_request);
}

Result<std::uint32_t> BalloonDevice::start_hints() {
  std::uint32_t id = 0;
  std::optional<std::uint16_t> by_request;
  {
    const std::lock_guard queues_guard(impl_->queues_lock);  // as the end of a round does
    const std::lock_guard guard(impl_->state_lock);
    if (impl_->registers.running() && impl_->options.on_free_page_hints) {
      by_request = impl_->request_queue();
    }
    if (!by_request &&
        (!impl_->registers.running() || !impl_->registers.has(Feature::kFreePageHint))) {
      return fail(Errc::kNotSupported, "the guest gives no free page hints");
    }
    id = impl_->hints.start();
    impl_->forget_hints();
    if (!by_request) impl_->set_hint_command(id);
  }
  impl_->say_that_hints_changed(by_request);
  return id;
}

void BalloonDevice::stop_hints() { impl_->end_hints(&HintRound::stop); }

void BalloonDevice::finish_hints() { impl_->end_hints(&HintRound::done); }

HintStatus BalloonDevice::hint_status() const {
  const std::lock_guard guard(impl_->state_lock);
  return {impl_->hints.state(), impl_->hints.command()};
}

Result<void> BalloonDevice::request_cache_drop(CacheKinds kinds) {
  std::optional<std::uint16_t> index;
  {
    const std::lock_guard guard(impl_->state_lock);
    if (impl_->registers.running()) index = impl_->queue_of(QueueRole::kRequest);
    if (!index) return fail(Errc::kNotSupported, "the guest takes no requests to drop its caches");
    impl_->requests.drop_cache(kinds);
  }
  if (impl_->options.wake) impl_->options.wake(*index);
  return {};
}

bool BalloonDevice::cache_drop_pending() const {
  const std::lock_guard guard(impl_->state_lock);
  return impl_->requests.cache_drop_pending();
}

}  // namespace vballoon
