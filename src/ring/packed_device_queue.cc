// SPDX-License-Identifier: MIT
#include "ring/packed_device_queue.h"

#include <atomic>
#include <cassert>
#include <utility>

#include "ring/packed_walk.h"

namespace vballoon {

std::unique_ptr<DeviceQueue::Impl> DeviceQueue::PackedImpl::make(
    std::shared_ptr<const GuestMemory> memory, AddressTranslator translator,
    const QueueConfig& config, const QueuePosition& position) {
  const auto layout = PackedLayout::locate({*memory, translator}, config);
  if (!layout || position.next_available >= config.size || position.next_used >= config.size ||
      packed_distance({position.next_used, position.used_wrap},
                      {position.next_available, position.available_wrap},
                      config.size) > config.size) {
    return nullptr;
  }
  return std::make_unique<PackedImpl>(std::move(memory), std::move(translator), *layout, config,
                                      position);
}

DeviceQueue::PackedImpl::PackedImpl(std::shared_ptr<const GuestMemory> memory,
                                    AddressTranslator translator, const PackedLayout& layout,
                                    const QueueConfig& config, const QueuePosition& position)
    : Impl(std::move(memory), std::move(translator), config),
      layout_(layout),
      next_avail_{position.next_available, position.available_wrap},
      next_used_{position.next_used, position.used_wrap},
      published_used_(next_used_),
      unreturned_(
          static_cast<std::uint16_t>(packed_distance(next_used_, next_avail_, layout.size()))) {}

QueuePosition DeviceQueue::PackedImpl::position() const {
  assert(next_used_ == published_used_);
  return {.next_available = next_avail_.index(),
          .next_used = next_used_.index(),
          .available_wrap = next_avail_.wrap(),
          .used_wrap = next_used_.wrap()};
}

DeviceQueue::Impl::Take DeviceQueue::PackedImpl::take_next(Taken& taken) {
  const auto room = static_cast<std::uint16_t>(layout_.size() - unreturned_);
  if (room == 0) return Take::kNothing;
  PackedList list;
  const auto error =
      walk_list(memory(), layout_, indirect_, next_avail_, room, taken.buffers, list, taken.chain);
  if (list.entries == 0) return Take::kNothing;
  taken.entry = {.id = list.id, .entries = list.entries, .place = next_avail_.word()};
  next_avail_.advance(list.entries, layout_.size());
  unreturned_ = static_cast<std::uint16_t>(unreturned_ + list.entries);
  if (!error) return Take::kChain;
  taken.error = *error;
  return Take::kMalformed;
}

void DeviceQueue::PackedImpl::untake(const RingEntry& entry) {
  next_avail_ = PackedPlace::of_word(entry.place);
  unreturned_ = static_cast<std::uint16_t>(unreturned_ - entry.entries);
}

bool DeviceQueue::PackedImpl::may_hold(std::span<const HeldChain> chains) const {
  std::size_t entries = 0;
  for (const HeldChain& chain : chains) {
    if (chain.entries == 0) return false;
    entries += chain.entries;
  }
  return entries == unreturned_;
}

// The driver reads used descriptors one behind the other, so the flags of the first are enough to
// hide those behind it until publish().
void DeviceQueue::PackedImpl::put_used(const RingEntry& entry, std::uint32_t written) {
  layout_.store_used(next_used_.index(), entry.id, written);
  const auto flags = static_cast<std::uint16_t>(used_bits(next_used_.wrap()) |
                                                (written != 0 ? kDescriptorWrite : 0));
  if (next_used_ == published_used_) {
    first_flags_ = flags;
  } else {
    layout_.flags(next_used_.index()).store(flags, std::memory_order_release);
  }
  next_used_.advance(entry.entries, layout_.size());
}

// Storing the flags and then reading what the driver waits for is one half of a handshake whose
// other half is DriverQueue::enable_interrupts(). All four accesses are seq_cst, so that at least
// one side sees the other's store (docs/decisions/0003-kick-suppression.md).
bool DeviceQueue::PackedImpl::publish() {
  const PackedPlace before = std::exchange(published_used_, next_used_);
  if (before == next_used_) return false;
  unreturned_ =
      static_cast<std::uint16_t>(unreturned_ - packed_distance(before, next_used_, layout_.size()));
  layout_.flags(before.index()).store(first_flags_, std::memory_order_seq_cst);
  return wants_packed_event(layout_.driver_event().load(std::memory_order_seq_cst), event_index_,
                            before, next_used_, layout_.size());
}

// The other half of DriverQueue::publish().
bool DeviceQueue::PackedImpl::enable_kicks() {
  const std::uint32_t event =
      event_index_ ? event_word(kEventSpecific, next_avail_) : event_word(kEventEnable);
  layout_.device_event().store(event, std::memory_order_seq_cst);
  kicks_enabled_ = true;
  const std::uint16_t flags = layout_.flags(next_avail_.index()).load(std::memory_order_seq_cst);
  return unreturned_ != layout_.size() && is_available(flags, next_avail_.wrap());
}

void DeviceQueue::PackedImpl::disable_kicks() {
  if (!std::exchange(kicks_enabled_, false)) return;
  layout_.device_event().store(event_word(kEventDisable));
}

}  // namespace vballoon
