// SPDX-License-Identifier: MIT
// Following the target: one operation at a time, message by message.
#include <algorithm>
#include <bit>
#include <ranges>

#include "guest/balloon_driver_impl.h"
#include "vballoon/balloon_registers.h"

namespace vballoon::sim {
namespace {

using std::chrono::nanoseconds;

// What Linux waits after a failed allocation.
constexpr nanoseconds kBackOff = std::chrono::milliseconds(200);

}  // namespace

// Whether every buffer of the message is back. If not, an interrupt will come.
bool BalloonDriver::Impl::answered() {
  do {
    while (queue().take_used()) {
    }
    if (queue().free_descriptors() == queue().size()) return true;
  } while (queue().enable_interrupts());
  return false;
}

bool BalloonDriver::Impl::post_next() {
  const std::uint16_t index = state == State::kInflating ? kInflateQueue : kDeflateQueue;
  const std::uint16_t before = queue().free_descriptors();
  if (!reporter->post(queue())) return false;
  const auto descriptors = static_cast<std::uint64_t>(before - queue().free_descriptors());
  counters.messages += dialect == Dialect::kScatterGather ? descriptors : 1;
  if (queue().publish()) kick(index);
  return true;
}

// Begins the operation that brings the balloon nearer to its target.
void BalloonDriver::Impl::begin(nanoseconds now, std::uint64_t target) {
  lap_start = options.clock();
  if (target > balloon.pages) {
    state = State::kInflating;
    inflate(now, target - balloon.pages);
  } else {
    state = State::kDeflating;
    deflate(balloon.pages - target);
  }
  counters.times.allocator += lap();
}

// Takes pages from the allocator, largest blocks first, until it has what the operation may have
// or until memory is short.
void BalloonDriver::Impl::inflate(nanoseconds now, std::uint64_t pages) {
  const bool reversed = dialect == Dialect::kStandard && options.pfn_order == PfnOrder::kReversed;
  pages = std::min(pages, reporter->max_pages());
  unsigned order = reporter->max_order();
  while (pages != 0) {
    order = std::min(order, static_cast<unsigned>(std::bit_width(pages)) - 1);
    const auto block = allocator.allocate(order, options.reserve_pages);
    if (!block && order == 0) {
      ++counters.failed_allocations;
      short_of_memory = true;
      retry_at = now + kBackOff;
      break;
    }
    if (!block) {
      --order;
      continue;
    }
    ++counters.allocations_by_order[order];
    pages -= block->pages().count;
    if (reversed) {
      arriving.push_back(*block);
    } else {
      enter(*block);
    }
  }
  for (const Block& block : arriving | std::views::reverse) enter(block);
  arriving.clear();
}

void BalloonDriver::Impl::enter(Block block) {
  allocator.push(balloon, block);
  reporter->add(block);
}

// Takes the newest pages out of the balloon; they are freed when the device has been told.
void BalloonDriver::Impl::deflate(std::uint64_t pages) {
  pages = std::min(pages, reporter->max_pages());
  while (pages != 0) {
    const Block block = *allocator.pop(balloon);
    if (block.pages().count > pages) {
      split_off(block, pages);
      return;
    }
    allocator.push(leaving, block);
    reporter->add(block);
    pages -= block.pages().count;
  }
}

// Takes some pages of a block out of the balloon and leaves the others there.
void BalloonDriver::Impl::split_off(Block block, std::uint64_t pages) {
  while (pages != 0) {
    const Block lower{block.first, block.order - 1};
    const Block upper{block.first + lower.pages().count, lower.order};
    if (pages < lower.pages().count) {
      allocator.push(balloon, upper);
      block = lower;
      continue;
    }
    allocator.push(leaving, lower);
    reporter->add(lower);
    pages -= lower.pages().count;
    block = upper;
  }
  allocator.push(balloon, block);
}

// All messages of the operation are answered.
void BalloonDriver::Impl::finish() {
  lap_start = options.clock();
  while (const auto block = allocator.pop(leaving)) allocator.free(*block);
  counters.times.allocator += lap();
  device.write_config(kActualOffset, static_cast<std::uint32_t>(balloon.pages));
  state = State::kIdle;
}

// Follows the target as far as that goes now.
DriverWait BalloonDriver::Impl::resize(nanoseconds now) {
  for (;;) {
    if (state != State::kIdle) {
      // The answer to a message also ends the time that was spent on it.
      if (!answered()) return {DriverWait::Kind::kUsedBuffer, {}};
      const bool posted = post_next();
      counters.times.messages += lap();
      if (posted) continue;
      counters.times.last_answer = lap_start;
      finish();
    }
    const std::uint64_t target = device.read_config(kNumPagesOffset);
    if (target == balloon.pages) return {DriverWait::Kind::kConfigChange, {}};
    if (target > balloon.pages && short_of_memory && now < retry_at) {
      return {DriverWait::Kind::kTime, retry_at};
    }
    short_of_memory = false;
    begin(now, target);
  }
}

}  // namespace vballoon::sim
