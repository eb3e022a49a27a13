// SPDX-License-Identifier: MIT
#include "device/page_messages.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "device/granules.h"

namespace vballoon {
void PageMessages::use(const GuestMemory& memory, HugePagePolicy policy) {
  memory_ = &memory;
  policy_ = policy;
}

std::uint64_t PageMessages::order() {
  return std::exchange(ordered_, true) ? 0 : reader.order_batch();
}

// Where a range is cut so that about `pages` pages stand in front: not in a huge page that goes
// only as a whole, and not in a hole. A bitmap can name 2^52 pages, and what lies outside guest
// memory must not be gone through piece by piece.
Pfn PageMessages::cut_in(PageRange range, std::uint64_t pages) const {
  const MemoryRegion* const region = memory_->find_or_next(range.first + pages);
  if (region == nullptr) return range.end();
  Pfn cut = std::max(range.first + pages, region->pages().first);
  const Granules granules = granules_of(*region, policy_);
  if (granules.only_whole && granules.has(cut)) {
    const PageRange whole = granules.of(cut);
    cut = whole.first > range.first ? whole.first : whole.end();
  }
  return std::min(range.end(), cut);
}

std::span<const PageRange> PageMessages::next_portion(std::uint64_t pages) {
  assert(pending() && ordered_);
  auto& batch = reader.batch();
  if (rest_) batch[dealt_] = *std::exchange(rest_, std::nullopt);
  const std::size_t first = dealt_;
  // What spans no more than that cannot name more, and needs no counting.
  if (batch.back().end() - batch[first].first <= pages) {
    dealt_ = batch.size();
    return std::span(batch).subspan(first);
  }
  std::uint64_t left = std::max<std::uint64_t>(pages, 1);
  while (dealt_ < batch.size() && batch[dealt_].count <= left) left -= batch[dealt_++].count;
  if (dealt_ == batch.size() || (left == 0 && dealt_ > first)) {
    return std::span(batch).subspan(first, dealt_ - first);
  }
  PageRange& range = batch[dealt_];
  const Pfn cut = cut_in(range, left);
  if (cut == range.end()) {
    ++dealt_;
    return std::span(batch).subspan(first, dealt_ - first);
  }
  rest_ = PageRange{cut, range.end() - cut};
  range.count = cut - range.first;
  return std::span(batch).subspan(first, dealt_ + 1 - first);
}

void PageMessages::clear_batch() {
  reader.batch().clear();
  dealt_ = 0;
  rest_.reset();
  ordered_ = false;
}

void PageMessages::forget_pages() {
  reader.stop();
  clear_batch();
}

void PageMessages::put_back() {
  if (!current) return;
  // Nothing is taken behind a message that is being read.
  [[maybe_unused]] const bool released = current->release();
  assert(released);
  current.reset();
  resume = reader.reading() ? reader.place() : resume.value_or(MessagePlace{});
  reader.stop();
}

PageRanges PageMessages::left() {
  const auto& batch = reader.batch();
  PageRanges ranges(batch.begin() + static_cast<std::ptrdiff_t>(dealt_), batch.end());
  if (rest_) ranges.front() = *rest_;
  return ranges;
}

void PageMessages::restore(std::span<const PageRange> left, std::optional<MessagePlace> place,
                           std::vector<DescriptorChain> held) {
  clear_batch();
  reader.batch().assign(left.begin(), left.end());
  ordered_ = !left.empty();
  resume = place;
  for (DescriptorChain& chain : held) read.push_back(std::move(chain));
}

void PageMessages::drop() {
  reader.stop();
  current.reset();
  resume.reset();
  read.clear();
  clear_batch();
}

}  // namespace vballoon
