// SPDX-License-Identifier: MIT
#include "vballoon/sim/compactor.h"

#include <algorithm>

namespace vballoon::sim {
namespace {

// Pages that are looked at in one go, and the order of blocks that are not taken apart for them.
constexpr unsigned kPageBlockOrder = 9;
constexpr std::uint64_t kPageBlock = std::uint64_t{1} << kPageBlockOrder;
// Blocks of up to two pages are not worth moving others for.
constexpr unsigned kLargestUncompactedOrder = 1;

}  // namespace

Compactor::Compactor(PageAllocator& allocator, PageMover& mover)
    : allocator_(allocator), mover_(mover), scanners_(allocator.zones().size()) {
  targets_.reserve(kPageBlock);
}

bool Compactor::compact(unsigned order) {
  ++counters_.attempts;
  for (std::size_t zone = scanners_.size(); zone-- > 0;) {
    if (!compact_zone(zone, order)) continue;
    ++counters_.successes;
    return true;
  }
  return false;
}

bool Compactor::make_room(unsigned order, std::uint64_t reserve) {
  const std::uint64_t needed = (std::uint64_t{1} << order) + reserve;
  return order > kLargestUncompactedOrder && allocator_.free_pages() >= needed && compact(order);
}

// From where it stopped, and if it had not begun there, once more from the ends of the zone.
bool Compactor::compact_zone(std::size_t zone, unsigned order) {
  const PageRange pages = allocator_.zones()[zone];
  Scanners& at = scanners_[zone];
  bool whole = at.next_to_move >= at.free_end;
  for (;;) {
    if (at.next_to_move >= at.free_end) at = {pages.first, pages.end()};
    while (at.next_to_move < at.free_end) {
      empty_block(zone);
      if (!allocator_.has_free_block(zone, order)) continue;
      give_targets_back(zone);
      return true;
    }
    give_targets_back(zone);
    if (allocator_.has_free_block(zone, order)) return true;
    if (whole) return false;
    whole = true;
  }
}

// Moves what can be moved out of the next pages, up to the next multiple of their number.
void Compactor::empty_block(std::size_t zone) {
  Scanners& at = scanners_[zone];
  const Pfn end = std::min((at.next_to_move / kPageBlock + 1) * kPageBlock, at.free_end);
  while (at.next_to_move < end && at.next_to_move < at.free_end) {
    if (const auto free = allocator_.free_block_around(at.next_to_move)) {
      at.next_to_move = free->pages().end();
      continue;
    }
    if (targets_.empty() && !take_targets(zone)) return;
    const Pfn from = at.next_to_move++;
    if (!mover_.move(from, targets_.back())) continue;
    targets_.pop_back();
    allocator_.free({from, 0});
    ++counters_.moved_pages;
  }
}

// Takes the free pages of the highest block that has some, but for large free blocks; false when
// the scanners have met. The page in front of `first` is in use or of another block of pages, so
// that no small free block begins there.
bool Compactor::take_targets(std::size_t zone) {
  Scanners& at = scanners_[zone];
  while (targets_.empty()) {
    const Pfn first = std::max((at.free_end - 1) / kPageBlock * kPageBlock, at.next_to_move + 1);
    if (first >= at.free_end) {
      at.free_end = at.next_to_move;
      return false;
    }
    for (Pfn page = first; page < at.free_end;) {
      const auto free = allocator_.free_block_around(page);
      if (!free) {
        ++page;
        continue;
      }
      page = free->pages().end();
      if (free->order >= kPageBlockOrder) continue;
      allocator_.take_free_block(*free);
      for (Pfn taken = free->first; taken < page; ++taken) targets_.push_back(taken);
    }
    at.free_end = first;
  }
  return true;
}

// They are found again by the scanner of free pages.
void Compactor::give_targets_back(std::size_t zone) {
  Scanners& at = scanners_[zone];
  for (const Pfn page : targets_) {
    allocator_.free({page, 0});
    at.free_end = std::max(at.free_end, page + 1);
  }
  targets_.clear();
}

}  // namespace vballoon::sim
