// SPDX-License-Identifier: MIT
// What the guest wants of its balloon: pages back when it is out of memory, and others in their
// place when compaction wants just these.
#include <algorithm>

#include "guest/balloon_driver_impl.h"

namespace vballoon::sim {
namespace {

// What Linux gives back at a time.
constexpr std::uint64_t kPagesOnOom = 256;

bool overlap(PageRange a, PageRange b) { return a.first < b.end() && b.first < a.end(); }

}  // namespace

// Begins to move the next block out of the range; false when there is none any more, or no place
// for it. The new block takes the place of the old one in the list at once.
bool BalloonDriver::Impl::begin_move() {
  auto block = last_passed ? allocator.next(*last_passed) : allocator.first(balloon);
  while (block && !overlap(block->pages(), *moving_out_of)) {
    last_passed = block;
    block = allocator.next(*block);
  }
  const auto place = block ? pages.allocate_outside(*moving_out_of, block->order) : std::nullopt;
  if (!place) {
    moving_out_of.reset();
    return false;
  }
  allocator.push(leaving, allocator.exchange_next(balloon, last_passed, *place));
  last_passed = place;
  lap_start = options.clock();
  state = State::kMovingIn;
  spoken = &queues_for(place->order);
  spoken->reporter->add(place->pages());
  return true;
}

// Waits for the operation under way, as only somebody may who cannot go on without it.
bool BalloonDriver::Impl::finish_now() {
  while (!go_on(stepped_at)) {
    if (needs_reset() || !options.let_device_answer || !options.let_device_answer()) return false;
  }
  return true;
}

std::uint64_t BalloonDriver::Impl::out_of_memory() {
  if (course != Course::kRunning || !finish_now() || balloon.empty()) return 0;
  const std::uint64_t before = balloon.pages;
  last_passed.reset();  // it may leave
  begin_deflating(std::min(kPagesOnOom, before), for_pages);
  (void)finish_now();
  return leaving.empty() ? before - balloon.pages : 0;
}

void BalloonDriver::Impl::adjust_managed_pages(std::int64_t count) {
  if (options.kernel == nullptr || standard_features().has(Feature::kDeflateOnOom)) return;
  options.kernel->adjust_managed_pages(count);
}

bool BalloonDriver::migrate_out_of(PageRange pages) {
  Impl& driver = *impl_;
  const bool idle = driver.course == Impl::Course::kRunning && driver.state == Impl::State::kIdle &&
                    !driver.moving_out_of;
  if (!idle) return false;
  driver.moving_out_of = pages;
  driver.last_passed.reset();
  return true;
}

}  // namespace vballoon::sim
