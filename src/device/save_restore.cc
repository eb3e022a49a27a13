// SPDX-License-Identifier: MIT
// Saving a device between two turns, and going on with one that was saved
// (docs/decisions/0008-saved-state.md).
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "device/balloon_device_impl.h"
#include "vballoon/balloon_registers.h"

namespace vballoon {
namespace {

// Whether hints were read and not handed over.
bool hints_wait(const DeviceState& state, const QueueMap& map) {
  for (std::size_t index = 0; index < map.size(); ++index) {
    const auto& queue = state.queues[index];
    const bool of_hints = map[index] != nullptr && brings_hints(*map[index]);
    if (of_hints && queue && !queue->pages.empty()) return true;
  }
  return false;
}

}  // namespace

DeviceMake BalloonDevice::Impl::make() const {
  const bool standard = options.dialect == Dialect::kStandard;
  return {.offered = registers.offered(),
          .dialect = options.dialect,
          .dialect_bit = standard ? 0 : *options.dialect_bit,
          .numbering = options.numbering,
          .guest_requests = options.guest_requests,
          .regions = memory->regions()};
}

// A message that is being read goes back into its queue, here as well: this device and the one that
// is restored go on in the same way. Messages that were read stay held, because others may have
// been returned behind them.
DeviceState::Queue BalloonDevice::Impl::Queue::state() {
  DeviceState::Queue state;
  state.config = config;
  if (pages) {
    pages->put_back();
    state.pages = pages->left();
    state.resume = pages->resume;
  }
  // A round over queues for requests ends here, and what is held of them can be taken again.
  if (row->of_requests) {
    state.pages.clear();
    state.resume.reset();
    while (!held.empty() && held.back().release()) held.pop_back();
  }
  state.position = ring.position();
  state.held = ring.held();
  return state;
}

void BalloonDevice::Impl::Queue::go_on(const DeviceState::Queue& from,
                                       std::vector<DescriptorChain> chains) {
  if (row->codec) {
    pages->restore(from.pages, from.resume, std::move(chains));
  } else {
    held = std::move(chains);
  }
}

DeviceState BalloonDevice::Impl::state() {
  DeviceState state{.registers = registers.state(),
                    .early_kicks = early_kicks,
                    .hint_state = request_queue() ? HintState::kStopped : hints.state(),
                    .hint_id = hints.last_id(),
                    .stats = stats.state(options.clock()),
                    .queues = {},
                    .ledger = ledger};
  for (std::size_t index = 0; index < queues.size(); ++index) {
    Queue& queue = queues[index];
    if (queue.ring.ready()) state.queues[index] = queue.state();
  }
  return state;
}

std::string BalloonDevice::Impl::objection(const DeviceState& state,
                                           const Registers& restored) const {
  const bool driver_ok = (restored.status() & kStatusDriverOk) != 0;
  if (restored.num_pages() > memory->page_count() && memory->page_count() != 0) {
    return fmt::format("its target of {} pages is larger than guest memory", restored.num_pages());
  }
  if (state.early_kicks >> kMaxBalloonQueues != 0 || (driver_ok && state.early_kicks != 0)) {
    return "it remembers kicks that nobody can have sent";
  }
  const bool in_round = state.hint_state == HintState::kRequested ||
                        state.hint_state == HintState::kActive ||
                        state.hint_state == HintState::kExhausted;
  if (in_round && (!driver_ok || !restored.has(Feature::kFreePageHint) ||
                   restored.hint_command() != state.hint_id || state.hint_id == kHintStop ||
                   state.hint_id == kHintDone)) {
    return "it is in a round of free page hints that cannot have begun";
  }
  if (state.hint_state != HintState::kActive && hints_wait(state, queue_map(restored))) {
    return "it has hints of a round that is over";
  }
  const bool asked = state.stats.wanted || state.stats.asked || state.stats.latest;
  if (asked && (!driver_ok || !restored.has(Feature::kStatsVq))) {
    return "it has statistics of a driver that sends none";
  }
  if (state.ledger.ballooned_pages() != 0 && !driver_ok) {
    return "pages are in a balloon that no driver has";
  }
  if (state.ledger.owed_pages() != 0 && !restored.has(Feature::kMustTellHost)) {
    return "pages are owed though MUST_TELL_HOST was not negotiated";
  }
  return {};
}

// Starts a queue where it was saved. Nothing is taken of a queue that cannot be as it says: chains
// that are given up would be returned to the driver.
std::string BalloonDevice::Impl::take_over(std::uint16_t index, const DeviceState::Queue& saved,
                                           const Registers& restored) {
  if (!restored.features_settled() || !start_queue(index, saved.config, restored, saved.position)) {
    return fmt::format("queue {} cannot be where it says, or as far as it says", index);
  }
  Queue& queue = queues[index];
  const auto unanswered = std::ranges::count_if(
      saved.held, [](const HeldChain& chain) { return !chain.written.has_value(); });
  const bool names_pages = queue.row->codec.has_value();
  const bool possible =
      names_pages || (saved.pages.empty() && !saved.resume &&
                      (unanswered <= 1 || queue.row->role == QueueRole::kControl));
  auto held = possible ? queue.ring.retake(saved.held) : fail(Errc::kBadSavedState);
  if (!held) return fmt::format("queue {} holds what it cannot hold", index);
  queue.go_on(saved, std::move(*held));
  return {};
}

Result<void> BalloonDevice::Impl::restore(DeviceState state) {
  std::unique_lock lock(state_lock);
  if (registers.status() != 0) {
    return fail(Errc::kInvalidArgument,
                "a driver uses this device; restore into one that was just created or reset");
  }
  Registers restored = registers;
  lock.unlock();  // an address translator is the embedder's and may ask the device something
  std::string why = "no driver can have brought its registers there";
  if (restored.restore(state.registers)) why = objection(state, restored);
  for (std::uint16_t index = 0; index < kMaxBalloonQueues && why.empty(); ++index) {
    const auto& queue = state.queues[index];
    if (queue) why = take_over(index, *queue, restored);
  }
  if (!why.empty()) {
    for (Queue& queue : queues) queue.stop();
    return fail(Errc::kBadSavedState, why + "; its checksum is right, but save() did not make it");
  }
  lock.lock();
  [[maybe_unused]] const bool taken = registers.restore(state.registers);
  early_kicks = state.early_kicks;
  hints.restore(state.hint_state, state.hint_id);
  requests.restored();
  stats.restore(std::move(state.stats), options.clock());
  ledger = std::move(state.ledger);
  owed_discards.restart();
  owed_discards.added();
  // What this device is going to give back counts as having come to it.
  metrics.inflated_bytes += ledger.owed_pages() << kPageShift;
  return {};
}

std::vector<std::byte> BalloonDevice::save() {
  const std::lock_guard queues_guard(impl_->queues_lock);
  std::unique_lock lock(impl_->state_lock);
  impl_->wait_for_owed_discards(lock);  // what the kernel refuses of them is owed again
  return encode(impl_->state(), impl_->make());
}

Result<void> BalloonDevice::restore(std::span<const std::byte> state) {
  std::uint32_t to_serve = 0;  // a bit for each queue
  {
    const std::lock_guard queues_guard(impl_->queues_lock);
    auto decoded = decode(state, impl_->make());
    if (!decoded) return tl::unexpected(decoded.error());
    if (auto restored = impl_->restore(std::move(*decoded)); !restored) return restored;
    const std::lock_guard guard(impl_->state_lock);
    for (std::uint16_t index = 0; index < kMaxBalloonQueues && impl_->registers.running();
         ++index) {
      if (impl_->queues[index].ring.ready()) to_serve |= 1U << index;
    }
  }
  // Kicks that were on their way when the device was saved are lost.
  if (impl_->options.wake) {
    for (std::uint16_t index = 0; index < kMaxBalloonQueues; ++index) {
      if ((to_serve >> index & 1) != 0) impl_->options.wake(index);
    }
  }
  schedule_owed_discards();
  return {};
}

}  // namespace vballoon
