// SPDX-License-Identifier: MIT
// Another size for a queue that is in use (virtio 1.3, section 2.6.1).
#include <algorithm>
#include <utility>

#include "guest/balloon_driver_impl.h"
#include "guest/reporters.h"

namespace vballoon::sim {

// The entries that those who use the queue cannot do without.
std::size_t BalloonDriver::Impl::least_size(std::uint16_t index) const {
  switch (map[index]->role) {
    case QueueRole::kInflate:
    case QueueRole::kDeflate:
      return reporter_needs(dialect, guest_pages(), options).descriptors;
    case QueueRole::kFreePageHint:
      return 2;
    case QueueRole::kReporting:
      return reports->largest_report();
    case QueueRole::kRequest:
      return RequestAnswerer::kDescriptors;
    case QueueRole::kControl:
      return ControlAnswerer::kDescriptors;
    case QueueRole::kStats:
    case QueueRole::kFreePages:
      break;
  }
  return 1;
}

// The device has forgotten what it had of the message under way.
void BalloonDriver::Impl::recall_message() {
  take_answers();
  for (const std::uint64_t token : queue().unused()) {
    if (token < last_message || unanswered == 0) continue;
    spoken->reporter->recall(token);
    --unanswered;
  }
}

// Takes back what the device will not answer, while the ring is still there.
void BalloonDriver::Impl::queue_was_reset(std::uint16_t index) {
  if (state != State::kIdle && index == queue_index()) recall_message();
  if (hints && index == hint_queue) hints->queue_was_reset();
  if (reports && index == report_queue) reports->queue_was_reset();
  if (requests && index == request_queue) requests->queue_was_reset();
  if (control && index == control_queue) control->control_was_reset();
}

// Lets those go on who had another ring before. The device holds no statistics any more.
void BalloonDriver::Impl::use_queue(std::uint16_t index) {
  DriverQueue& ring = *queues[index].ring;
  if (hints && index == hint_queue) hints->use(ring);
  if (reports && index == report_queue) reports->use(ring);
  if (control && index == free_page_queue) control->use_pages(ring);
  if (control && index == control_queue) {
    control->use_control(ring);
    if (control->post()) kick(index);
  }
  if (requests && index == request_queue) {
    requests->use(ring);
    if (requests->post()) kick(index);
  }
  if (stats && index == stats_queue) {
    stats->use(ring);
    if (stats->post()) kick(index);
  }
}

Result<void> BalloonDriver::Impl::resize_queue(std::uint16_t index, std::uint16_t size) {
  if (!features.has(Feature::kRingReset) || course != Course::kRunning || needs_reset()) {
    return fail(Errc::kNotSupported, "a queue cannot be reset by itself");
  }
  if (index >= map.size() || map[index] == nullptr || size < least_size(index)) {
    return fail(Errc::kInvalidArgument, "no such queue, or one of too few entries");
  }
  auto made = make_queue(size);
  if (!made) return tl::unexpected(made.error());
  if (auto done = device.reset_queue(index); !done) {
    pages.free_all(made->memory);
    return done;
  }
  queue_was_reset(index);
  Queue before = std::exchange(queues[index], std::move(*made));
  auto set = device.set_queue(index, queues[index].config);
  if (!set) {
    std::swap(queues[index], before);
    queues[index].ring = DriverQueue::create(memory, queues[index].config).value();
    (void)device.set_queue(index, queues[index].config);
  }
  pages.free_all(before.memory);
  use_queue(index);
  return set;
}

}  // namespace vballoon::sim
