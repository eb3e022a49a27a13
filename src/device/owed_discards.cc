// SPDX-License-Identifier: MIT
#include "device/owed_discards.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "device/host_runs.h"

namespace vballoon {
namespace {

// A deflate of a page in the kernel waits for the call: it should be over in some milliseconds.
constexpr std::uint64_t kMaxBytes = std::uint64_t{64} << 20;
constexpr std::size_t kMaxRuns = 1024;

PageRange guest_pages(const MemoryRegion& region, PageRange dense) {
  return {region.pages().first + (dense.first - region.first_page_index), dense.count};
}

}  // namespace

OwedDiscards::OwedDiscards(const GuestMemory& memory, Ledger& ledger)
    : memory_(&memory), ledger_(ledger) {
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
  const std::uint64_t base = region.first_page_index;
  const std::uint64_t end = base + region.pages().count;
  const std::uint64_t granule = region.host_page_bytes >> kPageShift;
  while (!full()) {
    PageRange run = ledger_.next_owed(cursor_, end);
    cursor_ = run.end();
    if (run.count == 0) return;
    if (granule == 1) {
      run.count = std::min(run.count, (kMaxBytes - taken_bytes_) >> kPageShift);
      cursor_ = run.end();
      take_run(region, run);
      continue;
    }
    const std::uint64_t first = base + (run.first - base) / granule * granule;
    cursor_ = first + granule;
    if (ledger_.all_ballooned({first, granule})) take_run(region, {first, granule});
  }
}

void OwedDiscards::take_run(const MemoryRegion& region, PageRange dense) {
  const PageRange pages = guest_pages(region, dense);
  runs_.push_back(host_run(region, pages));
  pages_.push_back(pages);
  taken_bytes_ += dense.bytes();
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

void OwedDiscards::use(const GuestMemory& memory) {
  assert(!in_kernel());
  memory_ = &memory;
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
