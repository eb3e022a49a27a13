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
// What the Windows driver waits for an answer.
constexpr nanoseconds kPatience = std::chrono::seconds(1);

}  // namespace

// Of older messages come the answers that were waited for no longer.
void BalloonDriver::Impl::take_answers() {
  while (const auto used = queue().take_used()) {
    if (used->token >= last_message && unanswered != 0) --unanswered;
  }
}

// Whether every buffer of the message is back, or waited for no longer, and there is room for
// another message. If not, an interrupt will come.
bool BalloonDriver::Impl::answered(nanoseconds now) {
  do {
    take_answers();
    if (now >= waits_until) unanswered = 0;
    if (unanswered == 0 && queue().free_descriptors() != 0) return true;
  } while (queue().enable_interrupts());
  return false;
}

bool BalloonDriver::Impl::post_next(nanoseconds now) {
  const std::uint16_t before = queue().free_descriptors();
  if (!reporter->post(queue(), posted + 1)) return false;
  const auto descriptors = static_cast<std::uint64_t>(before - queue().free_descriptors());
  unanswered = dialect == Dialect::kScatterGather ? descriptors : 1;
  last_message = posted + 1;
  posted += unanswered;
  if (windows()) waits_until = now + kPatience;
  counters.messages += unanswered;
  if (queue().publish()) kick(queue_index());
  return true;
}

// Goes on with the operation that is under way, if any; false as long as an answer is missing.
bool BalloonDriver::Impl::go_on(nanoseconds now) {
  while (state != State::kIdle) {
    // The answer to a message also ends the time that was spent on it.
    if (!answered(now)) return false;
    const bool more = post_next(now);
    counters.times.messages += lap();
    if (more) continue;
    counters.times.last_answer = lap_start;
    if (state == State::kMovingIn) {
      state = State::kMovingOut;
      reporter->add(*allocator.newest(leaving));
    } else {
      finish();
    }
  }
  return true;
}

DriverWait BalloonDriver::Impl::wait_for_answer() const {
  const bool patient = waits_until == nanoseconds::max();
  return {DriverWait::Kind::kUsedBuffer, patient ? nanoseconds(0) : waits_until};
}

// Takes pages from the guest, largest blocks first, until it has what the operation may have or
// until memory is short.
void BalloonDriver::Impl::begin_inflating(nanoseconds now, std::uint64_t count) {
  lap_start = options.clock();
  state = State::kInflating;
  const bool reversed = dialect == Dialect::kStandard && options.pfn_order == PfnOrder::kReversed;
  count = std::min(count, reporter->max_pages());
  unsigned order = reporter->max_order();
  while (count != 0) {
    order = std::min(order, static_cast<unsigned>(std::bit_width(count)) - 1);
    const auto block = pages.allocate_for_balloon(order);
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
    count -= block->pages().count;
    if (reversed) {
      arriving.push_back(*block);
    } else {
      enter(*block);
    }
  }
  for (const Block& block : arriving | std::views::reverse) enter(block);
  arriving.clear();
  counters.times.allocator += lap();
}

void BalloonDriver::Impl::enter(Block block) {
  allocator.push(balloon, block);
  reporter->add(block);
  adjust_managed_pages(-static_cast<std::int64_t>(block.pages().count));
}

// Takes the newest pages out of the balloon; they are freed when the device has been told, or at
// once by a driver that does not mind (5.5.6.1 lets it, without MUST_TELL_HOST).
void BalloonDriver::Impl::begin_deflating(std::uint64_t count) {
  lap_start = options.clock();
  state = State::kDeflating;
  count = std::min(count, reporter->max_pages());
  while (count != 0) {
    const Block block = *allocator.pop(balloon);
    if (block.pages().count > count) {
      split_off(block, count);
      break;
    }
    allocator.push(leaving, block);
    reporter->add(block);
    count -= block.pages().count;
  }
  if (windows() && !standard_features().has(Feature::kMustTellHost)) free_leaving();
  counters.times.allocator += lap();
}

// Takes some pages of a block out of the balloon and leaves the others there.
void BalloonDriver::Impl::split_off(Block block, std::uint64_t count) {
  while (count != 0) {
    const Block lower{block.first, block.order - 1};
    const Block upper{block.first + lower.pages().count, lower.order};
    if (count < lower.pages().count) {
      allocator.push(balloon, upper);
      block = lower;
      continue;
    }
    allocator.push(leaving, lower);
    reporter->add(lower);
    count -= lower.pages().count;
    block = upper;
  }
  allocator.push(balloon, block);
}

void BalloonDriver::Impl::free_leaving() {
  if (state == State::kDeflating) {
    adjust_managed_pages(static_cast<std::int64_t>(leaving.pages));
  }
  pages.free_all(leaving);
}

// All messages of the operation are answered.
void BalloonDriver::Impl::finish() {
  lap_start = options.clock();
  free_leaving();
  counters.times.allocator += lap();
  if (state == State::kMovingOut) {
    ++counters.migrated;
  } else {
    device.write_config(kActualOffset, static_cast<std::uint32_t>(balloon.pages));
  }
  state = State::kIdle;
}

// Follows the target as far as that goes now.
DriverWait BalloonDriver::Impl::resize(nanoseconds now) {
  for (;;) {
    if (!go_on(now)) return wait_for_answer();
    if (moving_out_of && begin_move()) continue;
    const std::uint64_t target = device.read_config(kNumPagesOffset);
    if (target == balloon.pages) reached = target;
    if (target == reached) return {DriverWait::Kind::kConfigChange, {}};
    reached.reset();
    if (target < balloon.pages) {
      short_of_memory = false;
      begin_deflating(balloon.pages - target);
      continue;
    }
    if (short_of_memory && now < retry_at) return {DriverWait::Kind::kTime, retry_at};
    short_of_memory = false;
    begin_inflating(now, target - balloon.pages);
  }
}

}  // namespace vballoon::sim
