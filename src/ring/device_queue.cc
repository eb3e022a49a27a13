// SPDX-License-Identifier: MIT
#include "vballoon/device_queue.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "ring/device_queue_impl.h"
#include "ring/packed_device_queue.h"
#include "ring/split_device_queue.h"

namespace vballoon {

DeviceQueue::Impl::Impl(std::shared_ptr<const GuestMemory> memory, AddressTranslator translator,
                        const QueueConfig& config)
    : event_index_(config.event_index),
      indirect_(config.indirect),
      guest_memory_(std::move(memory)),
      translator_(std::move(translator)),
      memory_(*guest_memory_, translator_),
      in_order_(config.in_order),
      slots_(config.size),
      buffers_(std::size_t{2} * config.size) {
  for (auto& slot : slots_) slot.queue = this;
}

void DeviceQueue::Impl::retire(std::unique_ptr<Impl> impl) {
  if (impl == nullptr || !impl->holds_chains()) return;
  Impl& held = *impl;
  held.self_ = std::move(impl);
}

bool DeviceQueue::Impl::has_room() const {
  return slots_used_ < slots_.size() && buffers_used_ <= slots_.size();
}

Result<std::optional<DescriptorChain>> DeviceQueue::Impl::pop() {
  if (!has_room()) return std::nullopt;
  DescriptorChain::Slot& slot = slots_[slots_used_];
  slot.chain = {};
  Taken taken{slot.entry, slot.chain, std::span(buffers_).subspan(buffers_used_)};
  switch (take_next(taken)) {
    case Take::kNothing:
      return std::nullopt;
    case Take::kBroken:
      broken_ = true;
      return fail(taken.error);
    case Take::kMalformed:
      refuse(slot);
      return fail(taken.error);
    case Take::kChain:
      break;
  }
  slot.first_buffer = buffers_used_;
  slot.number = ++chains_taken_;
  slot.held = true;
  slot.cursor = {};
  ++slots_used_;
  buffers_used_ += slot.chain.readable + slot.chain.writable;
  return DescriptorChain(&slot);
}

// In order, a malformed chain waits in its slot for those in front of it.
void DeviceQueue::Impl::refuse(DescriptorChain::Slot& slot) {
  ++chains_taken_;
  if (!in_order_ || !holds_chains()) return put_used(slot.entry, 0);
  slot.first_buffer = buffers_used_;
  slot.written = 0;
  slot.held = false;
  ++slots_used_;
}

std::vector<HeldChain> DeviceQueue::Impl::held() const {
  std::vector<HeldChain> chains;
  for (std::size_t i = slots_answered_; i < slots_used_; ++i) {
    const DescriptorChain::Slot& slot = slots_[i];
    if (!slot.held && !in_order_) continue;  // on the used ring; only its slot is not free yet
    chains.push_back({slot.entry.id, slot.entry.entries,
                      slot.held ? std::nullopt : std::optional(slot.written)});
  }
  return chains;
}

Result<std::vector<DescriptorChain>> DeviceQueue::Impl::retake(std::span<const HeldChain> chains) {
  assert(chains_taken_ == 0);
  const bool waits =
      std::ranges::any_of(chains, [](const HeldChain& c) { return c.written.has_value(); });
  if (!may_hold(chains) || chains.size() > slots_.size() || (waits && !in_order_)) {
    return fail(Errc::kBadQueueConfig);
  }
  std::vector<DescriptorChain> taken;
  taken.reserve(chains.size());  // one that is given up half-way would be returned
  for (const HeldChain& chain : chains) {
    DescriptorChain::Slot& slot = slots_[slots_used_++];
    slot.entry = {.id = chain.id, .entries = chain.entries};
    slot.chain = {};
    slot.number = 0;  // never the one taken last: where it was available is not known
    ++chains_taken_;
    slot.written = chain.written.value_or(0);
    slot.held = !chain.written;
    if (slot.held) taken.push_back(DescriptorChain(&slot));
  }
  settle();
  return taken;
}

void DeviceQueue::Impl::answer(const DescriptorChain::Slot& slot) {
  if (self_ == nullptr) put_used(slot.entry, slot.written);
}

void DeviceQueue::Impl::give_back(DescriptorChain::Slot& slot, std::uint32_t written) {
  assert(slot.held);
  slot.held = false;
  slot.written = written;
  if (!in_order_) answer(slot);
  settle();
}

bool DeviceQueue::Impl::release(DescriptorChain::Slot& slot) {
  assert(slot.held);
  if (self_ == nullptr) {
    if (slot.number != chains_taken_) return false;
    // Nothing was taken behind it, so it is on top of the stacks.
    untake(slot.entry);
    --chains_taken_;
    --slots_used_;
    buffers_used_ = slot.first_buffer;
  }
  slot.held = false;
  settle();
  return true;
}

// Frees the slots that are done; in order, answers before that what has waited long enough.
void DeviceQueue::Impl::settle() {
  if (in_order_) {
    while (slots_answered_ != slots_used_ && !slots_[slots_answered_].held) {
      answer(slots_[slots_answered_++]);
    }
    if (slots_answered_ == slots_used_) slots_answered_ = slots_used_ = buffers_used_ = 0;
  } else {
    while (slots_used_ != 0 && !slots_[slots_used_ - 1].held) {
      --slots_used_;
      buffers_used_ = slots_[slots_used_].first_buffer;
    }
  }
  // The last chain of a retired use takes it along.
  if (slots_used_ == 0) self_.reset();
}

DeviceQueue::DeviceQueue() = default;

DeviceQueue::DeviceQueue(DeviceQueue&& other) noexcept = default;

DeviceQueue& DeviceQueue::operator=(DeviceQueue&& other) noexcept {
  if (this != &other) {
    reset();
    impl_ = std::move(other.impl_);
  }
  return *this;
}

DeviceQueue::~DeviceQueue() { reset(); }

Result<void> DeviceQueue::start(std::shared_ptr<const GuestMemory> memory,
                                const QueueConfig& config, const QueuePosition& position,
                                AddressTranslator translator) {
  assert(memory != nullptr);
  reset();
  impl_ = config.packed
              ? PackedImpl::make(std::move(memory), std::move(translator), config, position)
              : SplitImpl::make(std::move(memory), std::move(translator), config, position);
  if (impl_ == nullptr) return fail(Errc::kBadQueueConfig);
  return {};
}

void DeviceQueue::reset() { Impl::retire(std::move(impl_)); }

bool DeviceQueue::ready() const { return impl_ != nullptr && !impl_->broken(); }

QueuePosition DeviceQueue::position() const {
  assert(ready());
  return impl_->position();
}

std::vector<HeldChain> DeviceQueue::held() const {
  assert(ready());
  return impl_->held();
}

Result<std::vector<DescriptorChain>> DeviceQueue::retake(std::span<const HeldChain> chains) {
  if (!ready()) return fail(Errc::kQueueNotReady);
  return impl_->retake(chains);
}

Result<std::optional<DescriptorChain>> DeviceQueue::pop() {
  if (!ready()) return fail(Errc::kQueueNotReady);
  return impl_->pop();
}

bool DeviceQueue::publish() { return impl_ != nullptr && impl_->publish(); }

bool DeviceQueue::enable_kicks() { return ready() && impl_->enable_kicks() && impl_->has_room(); }

void DeviceQueue::disable_kicks() {
  if (ready()) impl_->disable_kicks();
}

}  // namespace vballoon
