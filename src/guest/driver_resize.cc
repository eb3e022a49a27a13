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
  if (!spoken->reporter->post(queue(), posted + 1)) return false;
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
      spoken->reporter->add(allocator.first(leaving)->pages());
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

// The largest blocks that the dialect can make use of.
unsigned BalloonDriver::Impl::max_order() const {
  if (dialect == Dialect::kScatterGather) return options.chunk_order;
  return dialect == Dialect::kContPages ? kMaxOrder : 0;
}

// Takes pages from the guest until it has what the operation may have or until memory is short. In
// the dialect with queues for blocks the first one decides over which queue they are named.
void BalloonDriver::Impl::begin_inflating(nanoseconds now, std::uint64_t count) {
  lap_start = options.clock();
  state = State::kInflating;
  // There the order only falls until the target has been reached.
  if (!for_blocks.reporter) order = max_order();
  const auto first = take_from_guest(now, count);
  spoken = &queues_for(first ? first->order : 0);
  count = std::min(count, spoken->reporter->max_pages());
  std::uint64_t runs = spoken->reporter->max_runs();
  const bool reversed = for_blocks.reporter ||
                        (dialect == Dialect::kStandard && options.pfn_order == PfnOrder::kReversed);
  const auto arrive = [&](const std::optional<Block>& taken) {
    if (!taken) return false;
    // Each member as it was stored a moment ago: to read it as a part of something larger would
    // wait for the store, and cost more than to take the block.
    const Block block{taken->first, taken->order};
    if (reversed) {
      arriving.push_back(block);
    } else {
      enter(block);
    }
    count -= block.pages().count;
    --runs;
    return count != 0 && runs != 0;
  };
  bool more = arrive(first);
  while (more) more = arrive(take_from_guest(now, count));
  for (const Block& arrived : arriving | std::views::reverse) enter(arrived);
  arriving.clear();
  counters.times.allocator += lap();
  if (options.faithful) name_windows_again();
}

// Names all of the balloon that lies in the windows of the operation. The pages of the operation
// are some of them.
void BalloonDriver::Impl::name_windows_again() {
  const PageRange windows = spoken->reporter->windows();
  if (windows.count == 0) return;
  for (auto block = allocator.first(balloon); block; block = allocator.next(*block)) {
    if (block->first >= windows.first && block->first < windows.end()) {
      spoken->reporter->add(block->pages());
    }
  }
}

// The largest block of at most that many pages; nullopt when memory is short.
std::optional<Block> BalloonDriver::Impl::take_from_guest(nanoseconds now, std::uint64_t most) {
  order = std::min(order, static_cast<unsigned>(std::bit_width(most)) - 1);
  const bool wants_blocks = dialect == Dialect::kContPages;
  std::optional<Block> block = pages.allocate_for_balloon(order, wants_blocks);
  while (!block && order != 0) block = pages.allocate_for_balloon(--order, wants_blocks);
  if (block) {
    ++counters.allocations_by_order[order];
  } else {
    ++counters.failed_allocations;
    short_of_memory = true;
    retry_at = now + kBackOff;
  }
  return block;
}

// What leaves the balloon is the newest, but where blocks have queues of their own the oldest: one
// after the other they came from ascending addresses, and become one run again.
void BalloonDriver::Impl::enter(Block block) {
  if (for_blocks.reporter) {
    allocator.append(balloon, block);
  } else {
    allocator.push(balloon, block);
  }
  spoken->reporter->add(block.pages());
  adjust_managed_pages(-static_cast<std::int64_t>(block.pages().count));
}

// Takes pages out of the balloon; they are freed when the device has been told, or at once by a
// driver that does not mind (5.5.6.1 lets it, without MUST_TELL_HOST).
void BalloonDriver::Impl::begin_deflating(std::uint64_t count, PageQueues& over) {
  lap_start = options.clock();
  state = State::kDeflating;
  spoken = &over;
  count = std::min(count, over.reporter->max_pages());
  for (std::uint64_t runs = over.reporter->max_runs(); count != 0 && runs != 0; --runs) {
    const PageRange run = take_from_balloon(std::min(count, over.reporter->max_run_pages()));
    over.reporter->add(run);
    count -= run.count;
  }
  if (windows() && !standard_features().has(Feature::kMustTellHost)) free_leaving();
  counters.times.allocator += lap();
}

// At most that many pages: a block, and over queues for blocks all that continue it.
PageRange BalloonDriver::Impl::take_from_balloon(std::uint64_t most) {
  PageRange run = leave(most).pages();
  while (spoken == &for_blocks && run.count < most && !balloon.empty() &&
         allocator.first(balloon)->first == run.end()) {
    run.count += leave(most - run.count).pages().count;
  }
  return run;
}

// Takes the first block out of the balloon, or as much of it as there may be.
Block BalloonDriver::Impl::leave(std::uint64_t most) {
  Block block = *allocator.pop(balloon);
  while (block.pages().count > most) {
    --block.order;
    allocator.push(balloon, {block.first + block.pages().count, block.order});
  }
  allocator.push(leaving, block);
  return block;
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
  } else if (!emptying) {
    write_actual();
  }
  state = State::kIdle;
}

void BalloonDriver::Impl::write_actual() {
  device.write_config(kActualOffset, static_cast<std::uint32_t>(balloon.pages));
}

// Follows the target as far as that goes now.
DriverWait BalloonDriver::Impl::resize(nanoseconds now) {
  for (;;) {
    if (!go_on(now)) return wait_for_answer();
    if (moving_out_of && begin_move()) continue;
    const std::uint64_t target = device.read_config(kNumPagesOffset);
    if (target == balloon.pages) {
      reached = target;
      order = kMaxOrder;
    }
    if (target == reached) return {DriverWait::Kind::kConfigChange, {}};
    reached.reset();
    if (target < balloon.pages) {
      short_of_memory = false;
      begin_deflating(balloon.pages - target, for_blocks.reporter ? for_blocks : for_pages);
      continue;
    }
    if (short_of_memory && now < retry_at) return {DriverWait::Kind::kTime, retry_at};
    short_of_memory = false;
    begin_inflating(now, target - balloon.pages);
  }
}

}  // namespace vballoon::sim
