// SPDX-License-Identifier: MIT
#include "ring/split_device_queue.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <utility>

#include "ring/split_walk.h"

namespace vballoon {

std::unique_ptr<DeviceQueue::Impl> DeviceQueue::SplitImpl::make(
    std::shared_ptr<const GuestMemory> memory, AddressTranslator translator,
    const QueueConfig& config, const QueuePosition& position) {
  const auto layout = SplitLayout::locate({*memory, translator}, config);
  const auto unreturned = static_cast<std::uint16_t>(position.next_available - position.next_used);
  if (!layout || unreturned > config.size) return nullptr;
  return std::make_unique<SplitImpl>(std::move(memory), std::move(translator), *layout, config,
                                     position);
}

DeviceQueue::SplitImpl::SplitImpl(std::shared_ptr<const GuestMemory> memory,
                                  AddressTranslator translator, const SplitLayout& layout,
                                  const QueueConfig& config, const QueuePosition& position)
    : Impl(std::move(memory), std::move(translator), config),
      layout_(layout),
      next_avail_(position.next_available),
      seen_avail_(position.next_available),
      next_used_(position.next_used),
      published_used_(position.next_used) {}

QueuePosition DeviceQueue::SplitImpl::position() const {
  assert(next_used_ == published_used_);
  return {.next_available = next_avail_, .next_used = next_used_};
}

// Reads avail.idx only when all that was seen is taken: the driver's cache line stays with it.
DeviceQueue::Impl::Take DeviceQueue::SplitImpl::take_next(Taken& taken) {
  if (next_avail_ == seen_avail_) {
    seen_avail_ = layout_.avail_index().load(std::memory_order_acquire);
    if (next_avail_ == seen_avail_) return Take::kNothing;
    if (static_cast<std::uint16_t>(seen_avail_ - next_avail_) > layout_.size()) {
      taken.error = Errc::kAvailIndexOutOfRange;
      return Take::kBroken;
    }
  }
  const std::uint16_t head = layout_.avail_head(next_avail_).load();
  if (head >= layout_.size()) {
    taken.error = Errc::kDescriptorIndexOutOfRange;
    return Take::kBroken;
  }
  taken.entry = {.id = head, .place = next_avail_++};
  const auto error = walk_chain(memory(), layout_, indirect_, head, taken.buffers, taken.chain);
  if (!error) return Take::kChain;
  taken.error = *error;
  return Take::kMalformed;
}

void DeviceQueue::SplitImpl::untake(const RingEntry& entry) { next_avail_ = entry.place; }

bool DeviceQueue::SplitImpl::may_hold(std::span<const HeldChain> chains) const {
  return chains.size() == static_cast<std::uint16_t>(next_avail_ - next_used_) &&
         std::ranges::all_of(chains, [this](const HeldChain& chain) {
           return chain.id < layout_.size() && chain.entries == 1;
         });
}

void DeviceQueue::SplitImpl::put_used(const RingEntry& entry, std::uint32_t written) {
  layout_.store_used(next_used_++, {entry.id, written});
}

// Storing the index and then reading what the driver waits for is one half of a handshake whose
// other half is DriverQueue::enable_interrupts(). All four accesses are seq_cst, so that at least
// one side sees the other's store (docs/decisions/0003-kick-suppression.md).
bool DeviceQueue::SplitImpl::publish() {
  const std::uint16_t before = std::exchange(published_used_, next_used_);
  if (before == next_used_) return false;
  layout_.used_index().store(next_used_, std::memory_order_seq_cst);
  if (event_index_) {
    return passes_event(layout_.used_event().load(std::memory_order_seq_cst), next_used_, before);
  }
  return (layout_.avail_flags().load(std::memory_order_seq_cst) & kAvailNoInterrupt) == 0;
}

// The other half of DriverQueue::publish().
bool DeviceQueue::SplitImpl::enable_kicks() {
  if (event_index_) {
    layout_.avail_event().store(next_avail_, std::memory_order_seq_cst);
  } else {
    layout_.used_flags().store(0, std::memory_order_seq_cst);
  }
  kicks_enabled_ = true;
  return layout_.avail_index().load(std::memory_order_seq_cst) != next_avail_;
}

void DeviceQueue::SplitImpl::disable_kicks() {
  if (!std::exchange(kicks_enabled_, false)) return;
  if (event_index_) {
    // An entry that is already behind us: the driver passes it again after 65535 others.
    layout_.avail_event().store(static_cast<std::uint16_t>(next_avail_ - 1));
  } else {
    layout_.used_flags().store(kUsedNoNotify);
  }
}

}  // namespace vballoon
