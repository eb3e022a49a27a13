// SPDX-License-Identifier: MIT
#include "vballoon/device_queue.h"

#include <atomic>
#include <cassert>
#include <span>
#include <utility>

#include "ring/device_queue_impl.h"

namespace vballoon {

DeviceQueue::Impl::Impl(std::shared_ptr<const GuestMemory> memory, const SplitLayout& layout,
                        const QueueConfig& config)
    : memory_(std::move(memory)),
      layout_(layout),
      event_index_(config.event_index),
      indirect_(config.indirect),
      slots_(config.size),
      buffers_(std::size_t{2} * config.size) {
  for (auto& slot : slots_) slot.queue = this;
}

void DeviceQueue::Impl::retire(std::unique_ptr<Impl> impl) {
  if (impl == nullptr || impl->slots_used_ == 0) return;
  Impl& held = *impl;
  held.self_ = std::move(impl);
}

bool DeviceQueue::Impl::has_room() const {
  return slots_used_ < slots_.size() && buffers_used_ <= layout_.size();
}

tl::unexpected<Error> DeviceQueue::Impl::break_queue(Errc reason) {
  broken_ = true;
  return fail(reason);
}

// Reads avail.idx only when all that was seen is taken: the driver's cache line stays with it.
Result<bool> DeviceQueue::Impl::look_for_available() {
  if (next_avail_ != seen_avail_) return true;
  seen_avail_ = layout_.avail_index().load(std::memory_order_acquire);
  if (static_cast<std::uint16_t>(seen_avail_ - next_avail_) > layout_.size()) {
    return break_queue(Errc::kAvailIndexOutOfRange);
  }
  return next_avail_ != seen_avail_;
}

Result<std::optional<DescriptorChain>> DeviceQueue::Impl::pop() {
  if (!has_room()) return std::nullopt;
  const Result<bool> available = look_for_available();
  if (!available) return tl::unexpected(available.error());
  if (!*available) return std::nullopt;

  const std::uint16_t head = layout_.avail_head(next_avail_).load();
  if (head >= layout_.size()) return break_queue(Errc::kDescriptorIndexOutOfRange);
  ++next_avail_;

  WalkedChain chain;
  const auto error = walk_chain(*memory_, layout_, indirect_, head,
                                std::span(buffers_).subspan(buffers_used_), chain);
  if (error) {
    put_used(head, 0);
    return fail(*error);
  }
  DescriptorChain::Slot& slot = slots_[slots_used_++];
  slot = {.queue = this,
          .chain = chain,
          .first_buffer = buffers_used_,
          .head = head,
          .held = true,
          .cursor = {}};
  buffers_used_ += chain.readable + chain.writable;
  return DescriptorChain(&slot);
}

void DeviceQueue::Impl::give_back(DescriptorChain::Slot& slot, std::uint32_t written) {
  assert(slot.held);
  if (self_ == nullptr) put_used(slot.head, written);
  slot.held = false;
  while (slots_used_ != 0 && !slots_[slots_used_ - 1].held) {
    --slots_used_;
    buffers_used_ = slots_[slots_used_].first_buffer;
  }
  // The last chain of a retired use takes it along.
  if (slots_used_ == 0) self_.reset();
}

void DeviceQueue::Impl::put_used(std::uint16_t head, std::uint32_t written) {
  layout_.store_used(next_used_++, {head, written});
}

// Storing the index and then reading what the driver waits for is one half of a handshake whose
// other half is DriverQueue::enable_interrupts(). All four accesses are seq_cst, so that at least
// one side sees the other's store (docs/decisions/0003-kick-suppression.md).
bool DeviceQueue::Impl::publish() {
  const std::uint16_t before = std::exchange(published_used_, next_used_);
  if (before == next_used_) return false;
  layout_.used_index().store(next_used_, std::memory_order_seq_cst);
  if (event_index_) {
    return passes_event(layout_.used_event().load(std::memory_order_seq_cst), next_used_, before);
  }
  return (layout_.avail_flags().load(std::memory_order_seq_cst) & kAvailNoInterrupt) == 0;
}

// The other half of DriverQueue::publish().
bool DeviceQueue::Impl::enable_kicks() {
  if (event_index_) {
    layout_.avail_event().store(next_avail_, std::memory_order_seq_cst);
  } else {
    layout_.used_flags().store(0, std::memory_order_seq_cst);
  }
  kicks_enabled_ = true;
  return layout_.avail_index().load(std::memory_order_seq_cst) != next_avail_;
}

void DeviceQueue::Impl::disable_kicks() {
  if (!std::exchange(kicks_enabled_, false)) return;
  if (event_index_) {
    // An entry that is already behind us: the driver passes it again after 65535 others.
    layout_.avail_event().store(static_cast<std::uint16_t>(next_avail_ - 1));
  } else {
    layout_.used_flags().store(kUsedNoNotify);
  }
}

DeviceQueue::DeviceQueue() = default;

DeviceQueue::~DeviceQueue() { reset(); }

Result<void> DeviceQueue::start(std::shared_ptr<const GuestMemory> memory,
                                const QueueConfig& config) {
  assert(memory != nullptr);
  reset();
  const auto layout = SplitLayout::locate(*memory, config);
  if (!layout) return fail(Errc::kBadQueueConfig);
  impl_ = std::make_unique<Impl>(std::move(memory), *layout, config);
  return {};
}

void DeviceQueue::reset() { Impl::retire(std::move(impl_)); }

bool DeviceQueue::ready() const { return impl_ != nullptr && !impl_->broken(); }

Result<std::optional<DescriptorChain>> DeviceQueue::pop() {
  if (!ready()) return fail(Errc::kQueueNotReady);
  return impl_->pop();
}

bool DeviceQueue::publish() { return impl_ != nullptr && impl_->publish(); }

bool DeviceQueue::enable_kicks() { return ready() && impl_->enable_kicks(); }

void DeviceQueue::disable_kicks() {
  if (ready()) impl_->disable_kicks();
}

}  // namespace vballoon
