// SPDX-License-Identifier: MIT
#include "device/owed_discards.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "device/granules.h"
#include "device/host_runs.h"

namespace vballoon {
namespace {

// A deflate of a page in the kernel waits for the call: it should be over in some milliseconds.
constexpr std::uint64_t kMaxBytes = std::uint64_t{64} << 20;
constexpr std::size_t kMaxRuns = 1024;

PageRange guest_pages(const MemoryRegion& region, PageRange dense) {
  return {region.pages().first + (dense.first - region.first_page_index), dense.count};
}
PageRange dense_pages(const MemoryRegion& region, PageRange pages) {
  return {region.first_page_index + (pages.first - region.pages().first), pages.count};
}

}  // namespace

OwedDiscards::OwedDiscards(const GuestMemory& memory, Ledger& ledger, HugePagePolicy policy)
    : memory_(&memory), ledger_(ledger), policy_(policy) {
  runs_.reserve(kMaxRuns);
  pages_.reserve(kMaxRuns);
}

bool OwedDiscards::full() const { return runs_.size() == kMaxRuns || taken_bytes_ >= kMaxBytes; }

std::span<const HostRun> OwedDiscards::take() {
  runs_.clear();
  pages_.clear();
  taken_bytes_ = 0;
  for (;;) {
    if (cursor_ == 0) added_ = false;
    for (const MemoryRegion& region : memory_->regions()) {
      const std::uint64_t end = region.first_page_index + region.pages().count;
      if (cursor_ >= end || full()) continue;
      cursor_ = std::max(cursor_, region.first_page_index);
      take_from(region);
    }
    if (!runs_.empty()) return runs_;
    cursor_ = 0;
    if (!added_) return runs_;
  }
}

// From the cursor to the end of the region, or until there is enough.
void OwedDiscards::take_from(const MemoryRegion& region) {
  const std::uint64_t end = region.first_page_index + region.pages().count;
  const Granules granules = granules_of(region, policy_);
  while (!full()) {
    const PageRange run = ledger_.next_owed(cursor_, end);
    cursor_ = run.end();
    if (run.count == 0) return;
    const auto [before, inside, behind] = granules.cut(guest_pages(region, run));
    if (before.count != 0 || inside.count == 0) {
      PageRange pages = before.count != 0 ? before : behind;
      pages.count = std::min(pages.count, (kMaxBytes - taken_bytes_) >> kPageShift);
      take_run(region, pages);
      cursor_ = dense_pages(region, pages).end();
      continue;
    }
    const PageRange whole = granules.of(inside.first);
    const bool complete = ledger_.all_ballooned(dense_pages(region, whole));
    const PageRange part{inside.first, std::min(inside.end(), whole.end()) - inside.first};
    if (complete || !granules.only_whole) take_run(region, complete ? whole : part);
    cursor_ = dense_pages(region, complete || granules.only_whole ? whole : part).end();
  }
}

// Runs that follow one another are one: a pass goes from one huge page to the next.
void OwedDiscards::take_run(const MemoryRegion& region, PageRange pages) {
  taken_bytes_ += pages.bytes();
  if (!runs_.empty() && runs_.back().region == &region && pages_.back().end() == pages.first) {
    pages_.back().count += pages.count;
    runs_.back().length += pages.bytes();
    return;
  }
  runs_.push_back(host_run(region, pages));
  pages_.push_back(pages);
}

std::uint64_t OwedDiscards::settle(std::vector<DiscardFailure> failures) {
  const std::uint64_t paid = settle_runs(runs_, failures, ledger_, [](PageRange) {});
  runs_.clear();
  pages_.clear();
  return paid;
}

void OwedDiscards::restart() {
  cursor_ = 0;
  added_ = false;
}

void OwedDiscards::use(const GuestMemory& memory, HugePagePolicy policy) {
  assert(!in_kernel());
  memory_ = &memory;
  policy_ = policy;
  restart();
}

// Both ascend.
bool OwedDiscards::in_kernel(std::span<const PageRange> pages) const {
  auto run = pages_.begin();
  for (const PageRange& range : pages) {
    while (run != pages_.end() && run->end() <= range.first) ++run;
    if (run == pages_.end()) return false;
    if (run->first < range.end()) return true;
  }
  return false;
}

}  // namespace vballoon
