// SPDX-License-Identifier: MIT
#include "guest/hint_sender.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <span>
#include <vector>

#include "wire/little_endian.h"

namespace vballoon::sim {
namespace {

constexpr std::size_t kIdBytes = 4;
constexpr std::size_t kStartOffset = 0;
constexpr std::size_t kStopOffset = 4;

}  // namespace

HintSender::HintSender(DriverQueue& queue, DmaBuffer buffer, PageAllocator& allocator,
                       DriverPages& pages)
    : queue_(&queue), buffer_(buffer), allocator_(allocator), pages_(pages) {
  assert(queue.size() >= 2);
}

HintSender::~HintSender() { scan(std::numeric_limits<std::uint64_t>::max()); }

void HintSender::send(std::size_t offset, std::uint32_t id, Token token) {
  store_le(buffer_.bytes.data() + offset, id);
  const GuestBuffer message{buffer_.address + offset, kIdBytes};
  [[maybe_unused]] const bool added = queue_->add(std::span(&message, 1), {}, token);
  assert(added);
}

void HintSender::begin(std::uint32_t command) {
  active_ = command;
  sending_ = true;
  send(kStartOffset, command, kStartToken);
}

// False when the ring is full: but for the entry that is kept for the STOP that ends the round.
bool HintSender::send_blocks() {
  while (const auto block = pages_.allocate_to_hint()) {
    if (queue_->free_descriptors() <= 1) {
      pages_.free(*block);
      return false;
    }
    const PageRange pages = block->pages();
    const GuestBuffer buffer{pages.first << kPageShift, static_cast<std::uint32_t>(pages.bytes())};
    [[maybe_unused]] const bool added = queue_->add({}, std::span(&buffer, 1), kBlockToken);
    assert(added);
    allocator_.push(held_, *block);
  }
  return true;
}

HintSender::Progress HintSender::step(std::uint32_t command) {
  do {
    while (queue_->take_used()) {
    }
  } while (queue_->enable_interrupts());
  const bool all_used = queue_->free_descriptors() == queue_->size();
  if (command == kHintDone) scan(std::numeric_limits<std::uint64_t>::max());
  if (!sending_) {
    const bool wanted = command != kHintStop && command != kHintDone && command != active_;
    if (!wanted) return {};
    // The buffers with the ids are the device's until it has used them.
    if (!all_used) return {.waits = true};
    begin(command);
  }
  if (command == active_ && !send_blocks()) return {queue_->publish(), true};
  send(kStopOffset, kHintStop, kStopToken);
  sending_ = false;
  // Another round may be wanted already.
  return {queue_->publish(), command != active_ && command != kHintStop && command != kHintDone};
}

// Blocks come back, to be named again if the round goes on. Without its id the device knows nothing
// of the round.
void HintSender::queue_was_reset() {
  while (queue_->take_used()) {
  }
  const std::vector<std::uint64_t> lost = queue_->unused();
  if (lost.empty()) return;
  const auto is_lost = [&](Token token) { return std::ranges::find(lost, token) != lost.end(); };
  scan(std::numeric_limits<std::uint64_t>::max());
  if (is_lost(kStopToken)) sending_ = true;
  if (is_lost(kStartToken)) {
    sending_ = false;
    active_ = kHintStop;
  }
}

std::uint64_t HintSender::scan(std::uint64_t pages) {
  std::uint64_t freed = 0;
  while (freed < pages) {
    const auto block = allocator_.pop(held_);
    if (!block) break;
    pages_.free(*block);
    freed += block->pages().count;
  }
  return freed;
}

}  // namespace vballoon::sim
