// SPDX-License-Identifier: MIT
#include "ring/packed_driver_queue.h"

#include <atomic>
#include <cassert>
#include <cstddef>
#include <utility>

namespace vballoon {
namespace {

std::uint16_t write_flag(const Pieces& pieces, std::size_t index) {
  return pieces.is_writable(index) ? kDescriptorWrite : std::uint16_t{0};
}

std::uint16_t flags_of(const Pieces& pieces, std::size_t index, PackedPlace place) {
  return static_cast<std::uint16_t>(write_flag(pieces, index) |
                                    (pieces.is_last(index) ? 0 : kDescriptorNext) |
                                    available_bits(place.wrap()));
}

}  // namespace

std::unique_ptr<DriverQueue::Impl> DriverQueue::PackedImpl::make(
    std::shared_ptr<const GuestMemory> memory, const QueueConfig& config) {
  const auto layout = PackedLayout::locate(*memory, config);
  if (!layout) return nullptr;
  return std::make_unique<PackedImpl>(std::move(memory), *layout, config);
}

DriverQueue::PackedImpl::PackedImpl(std::shared_ptr<const GuestMemory> guest_memory,
                                    const PackedLayout& packed_layout, const QueueConfig& config)
    : Impl(std::move(guest_memory), config), layout_(packed_layout) {
  clear_rings();
}

// Old flags could look like those of a round to come.
void DriverQueue::PackedImpl::clear_rings() const {
  for (std::uint16_t i = 0; i < layout_.size(); ++i) {
    layout_.store_descriptor(i, {});
    layout_.flags(i).store(0);
  }
  layout_.driver_event().store(event_word(kEventEnable));
  layout_.device_event().store(event_word(kEventEnable));
}

// A list is there as soon as its first descriptor is, so that one comes last; and so does the first
// list of those that are published together. The id counts in the last descriptor only, but costs
// nothing in the others.
void DriverQueue::PackedImpl::add(const Pieces& pieces, std::uint64_t token) {
  const std::size_t count = pieces.count();
  const std::uint16_t id = take_entries(pieces, static_cast<std::uint16_t>(count), token);
  const PackedPlace first = next_avail_;
  PackedPlace place = first;  // no member: stays in a register
  for (std::size_t i = 0; i < count; ++i) {
    layout_.store_descriptor(place.index(), {pieces[i].address, pieces[i].length, id, 0});
    if (i != 0) {
      layout_.flags(place.index()).store(flags_of(pieces, i, place), std::memory_order_release);
    }
    place.advance(1, layout_.size());
  }
  next_avail_ = place;
  make_available(first, flags_of(pieces, 0, first));
}

void DriverQueue::PackedImpl::add_indirect(const Pieces& pieces, std::uint64_t table_address,
                                           std::uint64_t token) {
  const std::size_t count = pieces.count();
  for (std::size_t i = 0; i < count; ++i) {
    const PackedDescriptor descriptor{pieces[i].address, pieces[i].length, 0,
                                      write_flag(pieces, i)};
    [[maybe_unused]] const bool inside = memory->write(table_address + i * sizeof(PackedDescriptor),
                                                       std::as_bytes(std::span(&descriptor, 1)));
    assert(inside);
  }
  const std::uint16_t id = take_entries(pieces, 1, token);
  const PackedPlace first = next_avail_;
  const auto bytes = static_cast<std::uint32_t>(count * sizeof(PackedDescriptor));
  layout_.store_descriptor(first.index(), {table_address, bytes, id, 0});
  next_avail_.advance(1, layout_.size());
  make_available(first,
                 static_cast<std::uint16_t>(kDescriptorIndirect | available_bits(first.wrap())));
}

void DriverQueue::PackedImpl::make_available(PackedPlace first, std::uint16_t flags) {
  if (first == published_avail_) {
    first_flags_ = flags;
  } else {
    layout_.flags(first.index()).store(flags, std::memory_order_release);
  }
}

// One half of a handshake whose other half is DeviceQueue::enable_kicks(); see there.
bool DriverQueue::PackedImpl::publish() {
  const PackedPlace before = std::exchange(published_avail_, next_avail_);
  if (before == next_avail_) return false;
  layout_.flags(before.index()).store(first_flags_, std::memory_order_seq_cst);
  return wants_packed_event(layout_.device_event().load(std::memory_order_seq_cst), event_index,
                            before, next_avail_, layout_.size());
}

// A device that writes nonsense costs at most one turn for each entry, and its own place in the
// ring. In order, the entries of a batch behind its first are not written, and not read.
std::optional<DriverQueue::Used> DriverQueue::PackedImpl::take_used() {
  if (batch) return go_on_behind(hand_out(*batch));
  for (std::uint16_t turn = 0; turn < layout_.size(); ++turn) {
    const std::uint16_t flags = layout_.flags(next_used_.index()).load(std::memory_order_acquire);
    if (!is_used(flags, next_used_.wrap())) return std::nullopt;
    const PackedDescriptor used = layout_.load_descriptor(next_used_.index(), flags);
    if (given_out(used.id)) {
      // Without the flag nothing was written and the length has no meaning (2.8.4).
      const bool has_length = (flags & kDescriptorWrite) != 0;
      return go_on_behind(hand_out({used.id, has_length ? used.length : 0}));
    }
    ++bogus_used;
    next_used_.advance(1, layout_.size());
  }
  return std::nullopt;
}

// The other half of DeviceQueue::publish().
bool DriverQueue::PackedImpl::enable_interrupts() {
  const std::uint32_t event =
      event_index ? event_word(kEventSpecific, next_used_) : event_word(kEventEnable);
  layout_.driver_event().store(event, std::memory_order_seq_cst);
  interrupts_enabled = true;
  const std::uint16_t flags = layout_.flags(next_used_.index()).load(std::memory_order_seq_cst);
  return batch.has_value() || is_used(flags, next_used_.wrap());
}

void DriverQueue::PackedImpl::disable_interrupts() {
  if (!std::exchange(interrupts_enabled, false)) return;
  layout_.driver_event().store(event_word(kEventDisable));
}

}  // namespace vballoon
