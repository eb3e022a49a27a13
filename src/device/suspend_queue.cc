// SPDX-License-Identifier: MIT
// A queue that stops while the device runs, and goes on later or in another process.
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <utility>

#include "device/balloon_device_impl.h"

namespace vballoon {

// What was read is dealt with and answered, as nobody will read it again; what was not goes back
// into the ring. A buffer that others were returned behind cannot go back: it is returned empty.
bool BalloonDevice::Impl::settle(Queue& queue) {
  if (queue.pages) {
    // A last answer ends its round when it has been read to its end.
    if (queue.pages->current) queue.round_ends = false;
    queue.pages->put_back();
    queue.pages->resume.reset();
    Left all{.pages = std::numeric_limits<std::uint64_t>::max(), .bytes = 0, .chains = 0};
    settling = true;
    served = use_of(queue.row->role);
    lap_start = options.clock();
    if (queue.pages->pending()) static_cast<void>(deal_with_batch(queue, all));
    served.reset();
    settling = false;
    answer(queue);
  }
  while (!queue.held.empty()) {
    if (!queue.held.back().release()) queue.held.back().complete();
    queue.held.pop_back();
  }
  return queue.ring.publish();
}

std::optional<QueuePosition> BalloonDevice::suspend_queue(std::uint16_t index) {
  if (index >= kMaxBalloonQueues) return std::nullopt;
  std::optional<QueuePosition> position;
  Impl::Turn turn;
  {
    const std::lock_guard queues_guard(impl_->queues_lock);
    Impl::Queue& queue = impl_->queues[index];
    if (!queue.ring.ready()) return std::nullopt;
    std::unique_lock lock(impl_->state_lock);
    const HintState hints_before = impl_->hints.state();
    lock.unlock();
    const bool notify = impl_->settle(queue);
    turn.notify_queues = static_cast<std::uint32_t>(notify) << index;
    position = queue.ring.position();
    queue.stop();
    lock.lock();
    impl_->metrics.notifications += notify ? 1 : 0;
    turn.news = impl_->hints.state() != hints_before;
    if (std::exchange(impl_->turn_put_off, false) && impl_->options.discards_owed) {
      turn.discards_owed = std::exchange(impl_->owed_discards_idle, false);
    }
  }
  impl_->say(turn);
  return position;
}

Result<void> BalloonDevice::resume_queue(std::uint16_t index, const QueueConfig& config,
                                         const QueuePosition& position) {
  const std::lock_guard queues_guard(impl_->queues_lock);
  std::optional<Registers> registers;  // what was negotiated stays while queues are locked
  {
    const std::lock_guard guard(impl_->state_lock);
    const bool stands = index < kMaxBalloonQueues && !impl_->queues[index].ring.ready();
    if (stands && impl_->registers.features_settled()) registers.emplace(impl_->registers);
  }
  auto started = registers ? impl_->start_queue(index, config, *registers, position)
                           : fail(Errc::kBadQueueConfig);
  if (!started) impl_->count(started.error().code);
  return started;
}

}  // namespace vballoon
