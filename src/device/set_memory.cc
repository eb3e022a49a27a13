// SPDX-License-Identifier: MIT
// Going on in another guest memory (docs/decisions/0009-another-memory.md).
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <utility>

#include "device/balloon_device_impl.h"

namespace vballoon {
namespace {

// What is booked of the pages that both memories have.
Ledger carry_over(const Ledger& ledger, const GuestMemory& from, const GuestMemory& to) {
  Ledger carried(to.page_count());
  for (const MemoryRegion& target : to.regions()) {
    for (const MemoryRegion& source : from.regions()) {
      const Pfn first = std::max(source.pages().first, target.pages().first);
      const Pfn end = std::min(source.pages().end(), target.pages().end());
      if (first >= end) continue;
      carried.copy(ledger, source.first_page_index + (first - source.pages().first),
                   {target.first_page_index + (first - target.pages().first), end - first});
    }
  }
  return carried;
}

}  // namespace

// The ring in the other memory stands beside the one in use until nothing can fail any more.
BalloonDevice::Impl::MovedQueue BalloonDevice::Impl::move_queue(
    Queue& queue, const QueueConfig& config, const std::shared_ptr<const GuestMemory>& to,
    const Registers& with) const {
  MovedQueue moved{.state = queue.state(), .held = {}, .ring = {}};
  moved.state.config = config;
  if (!moved.ring.start(to, config, moved.state.position, translator_of(with))) return moved;
  auto held = moved.ring.retake(moved.state.held);
  assert(held.has_value());  // it is what the ring in use says
  if (held) moved.held = std::move(*held);
  return moved;
}

Result<bool> BalloonDevice::Impl::set_memory(std::shared_ptr<const GuestMemory>& to,
                                             const PlaceQueue& place) {
  std::unique_lock lock(state_lock);
  const Registers with = registers;  // what was negotiated stays while queues are locked
  lock.unlock();  // an address translator is the embedder's and may ask the device something
  std::array<std::optional<MovedQueue>, kMaxBalloonQueues> moved;
  for (std::uint16_t index = 0; index < queues.size(); ++index) {
    Queue& queue = queues[index];
    if (!queue.ring.ready()) continue;
    const auto config = place ? place(index, queue.config) : queue.config;
    moved[index] = config ? move_queue(queue, *config, to, with) : MovedQueue();
  }
  const HugePagePolicy huge_pages = policy_for(*to);
  DiscardPlan moved_plan(*to, ledger, MessageReader::kMaxBatchRanges, huge_pages);

  lock.lock();
  wait_for_owed_discards(lock);
  if (registers.num_pages() > to->page_count() && to->page_count() != 0) {
    return fail(Errc::kTargetTooLarge,
                fmt::format("balloon target of {} pages of 4 KiB, new guest memory of {}; set a "
                            "lower one before",
                            registers.num_pages(), to->page_count()));
  }
  Ledger carried = carry_over(ledger, *memory, *to);

  // Nothing can fail from here on.
  metrics.forgone_bytes += (ledger.owed_pages() - carried.owed_pages()) << kPageShift;
  ledger = std::move(carried);
  plan = std::move(moved_plan);
  owed_discards.use(*to, huge_pages);
  owed_discards.added();
  memory.swap(to);
  if (options.trace != nullptr) options.trace->memory(*memory);
  bool broken = false;
  bool unanswered = false;
  for (std::size_t index = 0; index < queues.size(); ++index) {
    Queue& queue = queues[index];
    const bool goes_on = moved[index] && moved[index]->ring.ready();
    broken = broken || (moved[index] && !goes_on);
    unanswered = unanswered || (!goes_on && queue.pages && queue.pages->unanswered());
    queue.stop();
    if (queue.pages) queue.pages->use(*memory, huge_pages);
    if (!goes_on) continue;
    queue.config = moved[index]->state.config;
    queue.ring = std::move(moved[index]->ring);
    queue.go_on(moved[index]->state, std::move(moved[index]->held));
  }
  // The driver may use the pages of a message that will have no answer.
  if (unanswered) {
    metrics.forgone_bytes += ledger.settle({0, memory->page_count()}) << kPageShift;
  }
  if (!broken) return false;
  registers.require_reset();
  return (registers.status() & kStatusDriverOk) != 0;
}

Result<void> BalloonDevice::set_memory(std::shared_ptr<const GuestMemory> memory,
                                       const PlaceQueue& place) {
  if (memory == nullptr) {
    return fail(Errc::kInvalidArgument, "a balloon device needs guest memory");
  }
  bool notify = false;
  {
    const std::lock_guard queues_guard(impl_->queues_lock);
    const auto set = impl_->set_memory(memory, place);
    if (!set) return tl::unexpected(set.error());
    notify = *set;
  }
  if (!notify) return {};
  if (impl_->options.notify_config) impl_->options.notify_config();
  if (impl_->options.news) impl_->options.news();
  return {};
}

}  // namespace vballoon
