// SPDX-License-Identifier: MIT
#include "vballoon/sim/page_reporting.h"

#include <cassert>

namespace vballoon::sim {
namespace {

using std::chrono::nanoseconds;

// A pass takes a sixteenth of a long list.
constexpr std::uint64_t kShareOfList = 16;

}  // namespace

PageReporting::PageReporting(PageAllocator& allocator, const PageReportingOptions& options)
    : allocator_(allocator),
      options_(options),
      watermarks_(zone_watermarks(allocator.zones())),
      first_entry_(options.capacity) {
  assert(options.min_order <= kMaxOrder);
  assert(options.capacity >= 1 && options.capacity <= kMaxReportBlocks);
}

PageReporting::~PageReporting() {
  for (const Block& block : batch()) allocator_.put_back(block, false);
}

ReportingWait PageReporting::step(nanoseconds now) {
  using Kind = ReportingWait::Kind;
  if (out_) return {Kind::kAnswer, {}};
  if (state_ == State::kIdle && large_block_was_freed()) {
    state_ = State::kRequested;
    due_ = now + options_.delay;
  }
  if (state_ == State::kRequested) {
    if (!due_) due_ = now + options_.delay;
    if (now >= *due_) begin_pass();
  }
  if (state_ == State::kActive) {
    if (fill_batch()) {
      out_ = true;
      return {Kind::kAnswer, {}};
    }
    end_pass(now);
  }
  return state_ == State::kIdle ? ReportingWait{} : ReportingWait{Kind::kTime, *due_};
}

std::span<const Block> PageReporting::batch() const {
  if (!out_) return {};
  return std::span(entries_).subspan(first_entry_, options_.capacity - first_entry_);
}

void PageReporting::answered(bool ok) {
  assert(out_);
  for (const Block& block : batch()) {
    allocator_.put_back(block, ok);
    if (ok) counters_.reported_pages += block.pages().count;
  }
  ++counters_.reports;
  first_entry_ = options_.capacity;
  out_ = false;
  if (!ok) {
    ++counters_.failed_reports;
    zone_ = allocator_.zones().size();
  } else if (order_ <= kMaxOrder) {
    // In the middle of a list, which may have changed since.
    --budget_;
    unvisited_ = allocator_.free_blocks(zone_, order_);
  }
}

// What was freed before is seen by this pass.
void PageReporting::begin_pass() {
  state_ = State::kActive;
  ++counters_.passes;
  another_pass_ = false;
  (void)large_block_was_freed();
  begin_zone(0);
}

// Goes to that zone, or the first one behind it that is not short of memory.
void PageReporting::begin_zone(std::size_t zone) {
  const std::uint64_t batch_pages = std::uint64_t{options_.capacity} << options_.min_order;
  while (zone < watermarks_.size() &&
         allocator_.free_pages(zone) <= watermarks_[zone].low + batch_pages) {
    ++zone;
  }
  zone_ = zone;
  if (zone_ < watermarks_.size()) begin_list(options_.min_order);
}

void PageReporting::begin_list(unsigned order) {
  order_ = order;
  if (order_ > kMaxOrder) return;
  const std::uint64_t share = options_.capacity * kShareOfList;
  unvisited_ = allocator_.free_blocks(zone_, order_);
  budget_ = static_cast<std::int64_t>((unvisited_ + share - 1) / share);
}

void PageReporting::end_pass(nanoseconds now) {
  if (large_block_was_freed() || another_pass_) {
    state_ = State::kRequested;
    due_ = now + options_.delay;
  } else {
    state_ = State::kIdle;
  }
}

// Goes on with the pass. True when the batch is to be sent, false when the pass is over.
bool PageReporting::fill_batch() {
  while (zone_ < watermarks_.size()) {
    for (; order_ <= kMaxOrder; begin_list(order_ + 1)) {
      if (walk_list()) return true;
    }
    // The batch is carried from list to list, but not to another zone.
    if (first_entry_ < options_.capacity) return true;
    begin_zone(zone_ + 1);
  }
  return false;
}

// Goes on with the list: once around, so that what is left to do ends up at its head. True when
// the batch is full and there is more to report.
bool PageReporting::walk_list() {
  for (; unvisited_ > 0; --unvisited_) {
    const std::optional<FreeBlock> head = allocator_.head_of_free_list(zone_, order_);
    assert(head.has_value());
    if (head->reported) {
      allocator_.rotate_free_list(zone_, order_);
      continue;
    }
    if (budget_ < 0) {
      another_pass_ = true;
      return false;
    }
    if (first_entry_ == 0) return true;
    const std::uint64_t kept_free = watermarks_[zone_].min + head->block.pages().count;
    if (allocator_.free_pages(zone_) <= kept_free) return false;
    entries_[--first_entry_] = allocator_.isolate_free_block(zone_, order_);
  }
  return false;
}

// Since this was asked last.
bool PageReporting::large_block_was_freed() {
  return allocator_.take_freed_orders() >> options_.min_order != 0;
}

}  // namespace vballoon::sim
