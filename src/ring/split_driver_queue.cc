// SPDX-License-Identifier: MIT
#include "ring/split_driver_queue.h"

#include <atomic>
#include <cassert>
#include <cstddef>
#include <utility>

namespace vballoon {
namespace {

// The descriptor of piece `index` of a buffer; `next` is where the piece behind it lies.
Descriptor describe(const Pieces& pieces, std::size_t index, std::uint16_t next) {
  const bool last = pieces.is_last(index);
  const int flags =
      (pieces.is_writable(index) ? kDescriptorWrite : 0) | (last ? 0 : kDescriptorNext);
  return {pieces[index].address, pieces[index].length, static_cast<std::uint16_t>(flags),
          last ? std::uint16_t{0} : next};
}

}  // namespace

std::unique_ptr<DriverQueue::Impl> DriverQueue::SplitImpl::make(
    std::shared_ptr<const GuestMemory> memory, const QueueConfig& config) {
  const auto layout = SplitLayout::locate(*memory, config);
  if (!layout) return nullptr;
  return std::make_unique<SplitImpl>(std::move(memory), *layout, config);
}

DriverQueue::SplitImpl::SplitImpl(std::shared_ptr<const GuestMemory> guest_memory,
                                  const SplitLayout& split_layout, const QueueConfig& config)
    : Impl(std::move(guest_memory), config), layout_(split_layout) {
  clear_rings();
}

void DriverQueue::SplitImpl::clear_rings() const {
  for (std::uint16_t i = 0; i < layout_.size(); ++i) {
    layout_.store_descriptor(i, {});
    layout_.avail_head(i).store(0);
    layout_.store_used(i, {});
  }
  layout_.avail_flags().store(0);
  layout_.avail_index().store(0);
  layout_.used_event().store(0);
  layout_.used_flags().store(0);
  layout_.used_index().store(0);
  layout_.avail_event().store(0);
}

void DriverQueue::SplitImpl::add(const Pieces& pieces, std::uint64_t token) {
  const std::size_t count = pieces.count();
  std::uint16_t index = first_free;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint16_t next = entries[index].next;
    layout_.store_descriptor(index, describe(pieces, i, next));
    index = next;
  }
  const std::uint16_t head = take_entries(pieces, static_cast<std::uint16_t>(count), token);
  layout_.avail_head(next_avail_++).store(head);
}

void DriverQueue::SplitImpl::add_indirect(const Pieces& pieces, std::uint64_t table_address,
                                          std::uint64_t token) {
  const std::size_t count = pieces.count();
  for (std::size_t i = 0; i < count; ++i) {
    const Descriptor descriptor = describe(pieces, i, static_cast<std::uint16_t>(i + 1));
    [[maybe_unused]] const bool inside = memory->write(table_address + i * sizeof(Descriptor),
                                                       std::as_bytes(std::span(&descriptor, 1)));
    assert(inside);
  }
  const std::uint16_t head = take_entries(pieces, 1, token);
  const auto bytes = static_cast<std::uint32_t>(count * sizeof(Descriptor));
  layout_.store_descriptor(head, {table_address, bytes, kDescriptorIndirect, 0});
  layout_.avail_head(next_avail_++).store(head);
}

// One half of a handshake whose other half is DeviceQueue::enable_kicks(); see there.
bool DriverQueue::SplitImpl::publish() {
  const std::uint16_t now = next_avail_;
  const std::uint16_t before = std::exchange(published_avail_, now);
  if (before == now) return false;
  layout_.avail_index().store(now, std::memory_order_seq_cst);
  if (event_index) {
    return passes_event(layout_.avail_event().load(std::memory_order_seq_cst), now, before);
  }
  return (layout_.used_flags().load(std::memory_order_seq_cst) & kUsedNoNotify) == 0;
}

// A device that writes nonsense costs at most one turn for each of the 65535 entries that its index
// can claim. In order, the entries of a batch behind its first are not written, and not read.
std::optional<DriverQueue::Used> DriverQueue::SplitImpl::take_used() {
  if (next_used_ == seen_used_) seen_used_ = layout_.used_index().load(std::memory_order_acquire);
  while (next_used_ != seen_used_) {
    const std::uint16_t at = next_used_++;
    if (batch) return hand_out(*batch).used;
    const UsedElement element = layout_.load_used(at);
    if (given_out(element.id)) {
      return hand_out({static_cast<std::uint16_t>(element.id), element.length}).used;
    }
    ++bogus_used;
  }
  return std::nullopt;
}

// The other half of DeviceQueue::publish().
bool DriverQueue::SplitImpl::enable_interrupts() {
  if (event_index) {
    layout_.used_event().store(next_used_, std::memory_order_seq_cst);
  } else {
    layout_.avail_flags().store(0, std::memory_order_seq_cst);
  }
  interrupts_enabled = true;
  return layout_.used_index().load(std::memory_order_seq_cst) != next_used_;
}

void DriverQueue::SplitImpl::disable_interrupts() {
  if (!std::exchange(interrupts_enabled, false)) return;
  if (event_index) {
    // An entry that is already behind us: the device passes it again after 65535 others.
    layout_.used_event().store(static_cast<std::uint16_t>(next_used_ - 1));
  } else {
    layout_.avail_flags().store(kAvailNoInterrupt);
  }
}

}  // namespace vballoon
