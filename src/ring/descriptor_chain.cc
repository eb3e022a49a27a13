// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cassert>
#include <limits>
#include <utility>

#include "ring/device_queue_impl.h"
#include "vballoon/device_queue.h"

namespace vballoon {

DescriptorChain::DescriptorChain(DescriptorChain&& other) noexcept
    : slot_(std::exchange(other.slot_, nullptr)) {}

DescriptorChain& DescriptorChain::operator=(DescriptorChain&& other) noexcept {
  if (this != &other) {
    if (slot_ != nullptr) complete();
    slot_ = std::exchange(other.slot_, nullptr);
  }
  return *this;
}

DescriptorChain::~DescriptorChain() {
  if (slot_ != nullptr) complete();
}

std::span<const GuestBuffer> DescriptorChain::readable() const {
  assert(slot_ != nullptr);
  return std::span(slot_->queue->buffers()).subspan(slot_->first_buffer, slot_->chain.readable);
}

std::span<const GuestBuffer> DescriptorChain::writable() const {
  assert(slot_ != nullptr);
  return std::span(slot_->queue->buffers())
      .subspan(slot_->first_buffer + slot_->chain.readable, slot_->chain.writable);
}

std::uint64_t DescriptorChain::readable_bytes() const {
  assert(slot_ != nullptr);
  return slot_->chain.readable_bytes;
}

Result<void> DescriptorChain::read(std::uint64_t offset, std::span<std::byte> out) const {
  assert(offset <= readable_bytes() && out.size() <= readable_bytes() - offset);
  const auto buffers = readable();
  auto& [buffer_index, bytes_before] = slot_->cursor;
  if (offset < bytes_before) slot_->cursor = {};
  while (!out.empty()) {
    const GuestBuffer& buffer = buffers[buffer_index];
    const std::uint64_t skip = offset - bytes_before;
    if (skip >= buffer.length) {
      bytes_before += buffer.length;
      ++buffer_index;
      continue;
    }
    // A buffer must not come round to the start of guest memory.
    if (buffer.address > std::numeric_limits<std::uint64_t>::max() - buffer.length) {
      return fail(Errc::kAddressOutOfRange);
    }
    const auto part = out.first(std::min<std::uint64_t>(out.size(), buffer.length - skip));
    if (!slot_->queue->guest_memory().read(buffer.address + skip, part)) {
      return fail(Errc::kAddressOutOfRange);
    }
    offset += part.size();
    out = out.subspan(part.size());
  }
  return {};
}

std::uint64_t DescriptorChain::writable_bytes() const {
  std::uint64_t bytes = 0;
  for (const GuestBuffer& buffer : writable()) bytes += buffer.length;
  return bytes;
}

Result<void> DescriptorChain::write(std::span<const std::byte> in) {
  assert(in.size() <= writable_bytes());
  for (const GuestBuffer& buffer : writable()) {
    const auto part = in.first(std::min<std::size_t>(in.size(), buffer.length));
    if (!slot_->queue->guest_memory().write(buffer.address, part)) {
      return fail(Errc::kAddressOutOfRange);
    }
    in = in.subspan(part.size());
  }
  return {};
}

bool DescriptorChain::release() {
  assert(slot_ != nullptr);
  if (!slot_->queue->release(*slot_)) return false;
  slot_ = nullptr;
  return true;
}

void DescriptorChain::complete(std::uint32_t written) {
  assert(slot_ != nullptr);
  Slot& slot = *std::exchange(slot_, nullptr);
  slot.queue->give_back(slot, written);
}

}  // namespace vballoon
