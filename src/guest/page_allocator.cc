// SPDX-License-Identifier: MIT
#include "vballoon/sim/page_allocator.h"

#include <algorithm>
#include <cassert>
#include <ranges>

#include "guest/buddy_zone.h"

namespace vballoon::sim {
namespace {

constexpr std::uint32_t kEndOfList = UINT32_MAX;

// The zone that `key` lies in, by its first page or by its first number. There are a handful of
// zones, and nearly all pages lie in the last one.
template <typename Zones, typename Start, typename Key>
auto& zone_from(Zones& zones, Start start, Key key) {
  auto* zone = &zones.back();
  while (key < zone->*start) --zone;
  return *zone;
}

}  // namespace

// A list may cross zones, so it names a block by a number that is unique over all of them.
struct PageAllocator::Zone {
  [[nodiscard]] std::uint32_t name_of(Pfn pfn) const { return base + buddies.number_of(pfn); }
  [[nodiscard]] Block listed(std::uint32_t name) const {
    return buddies.listed(buddies.pfn_of(name - base));
  }

  Pfn first;
  std::uint32_t base;
  BuddyZone buddies;
};

PageAllocator::PageAllocator(std::span<const PageRange> zones)
    : ranges_(zones.begin(), zones.end()) {
  std::uint64_t base = 0;
  zones_.reserve(zones.size());
  for (const PageRange& range : ranges_) {
    assert(range.count > 0 && (zones_.empty() || zones_.back().buddies.end() <= range.first));
    zones_.push_back({range.first, static_cast<std::uint32_t>(base), BuddyZone(range)});
    base += zones_.back().buddies.numbers();
    free_pages_ += range.count;
  }
  assert(base < kEndOfList);
}

PageAllocator::~PageAllocator() = default;

std::optional<Block> PageAllocator::allocate(unsigned order, std::uint64_t reserve) {
  assert(order <= kMaxOrder);
  const std::uint64_t pages = std::uint64_t{1} << order;
  if (free_pages_ < pages || free_pages_ - pages < reserve) return std::nullopt;

  for (auto& zone : zones_ | std::views::reverse) {
    if (!zone.buddies.can_allocate(order)) continue;
    free_pages_ -= pages;
    return zone.buddies.allocate(order);
  }
  return std::nullopt;
}

void PageAllocator::free(Block block) {
  BuddyZone& zone = zone_from(zones_, &Zone::first, block.first).buddies;
  assert(zone.is_taken(block));
  zone.free(block);
  free_pages_ += block.pages().count;
}

void PageAllocator::push(PageList& list, Block block) {
  Zone& zone = zone_from(zones_, &Zone::first, block.first);
  assert(zone.buddies.is_taken(block));
  zone.buddies.enlist(block, list.first);
  list.first = zone.name_of(block.first);
  if (list.empty()) list.last = list.first;
  list.pages += block.pages().count;
}

void PageAllocator::append(PageList& list, Block block) {
  if (list.empty()) return push(list, block);
  Zone& zone = zone_from(zones_, &Zone::first, block.first);
  assert(zone.buddies.is_taken(block));
  zone.buddies.enlist(block, kEndOfList);
  Zone& last_zone = zone_from(zones_, &Zone::base, list.last);
  const Block last = last_zone.listed(list.last);
  list.last = zone.name_of(block.first);
  last_zone.buddies.enlist(last, list.last);
  list.pages += block.pages().count;
}

std::optional<Block> PageAllocator::pop(PageList& list) {
  if (list.empty()) return std::nullopt;

  Zone& zone = zone_from(zones_, &Zone::base, list.first);
  const Block block = zone.listed(list.first);
  list.first = zone.buddies.next_of_listed(block.first);
  list.pages -= block.pages().count;
  zone.buddies.delist(block);
  return block;
}

std::optional<Block> PageAllocator::first(const PageList& list) const {
  if (list.empty()) return std::nullopt;
  return zone_from(zones_, &Zone::base, list.first).listed(list.first);
}

std::optional<Block> PageAllocator::next(Block block) const {
  const Zone& zone = zone_from(zones_, &Zone::first, block.first);
  const std::uint32_t name = zone.buddies.next_of_listed(block.first);
  if (name == kEndOfList) return std::nullopt;
  return zone_from(zones_, &Zone::base, name).listed(name);
}

// Takes blocks until one fits. Those in between go back in the opposite order, so that what was not
// split lies in its list as before.
std::optional<Block> PageAllocator::allocate_outside(PageRange avoid, unsigned order,
                                                     std::uint64_t reserve) {
  PageList inside;
  std::optional<Block> block;
  for (;;) {
    block = allocate(order, reserve - std::min(reserve, inside.pages));
    if (!block) break;
    const PageRange pages = block->pages();
    if (pages.end() <= avoid.first || avoid.end() <= pages.first) break;
    push(inside, *block);
  }
  while (const std::optional<Block> back = pop(inside)) free(*back);
  return block;
}

std::optional<Block> PageAllocator::free_block_around(Pfn page) const {
  return zone_from(zones_, &Zone::first, page).buddies.free_block_around(page);
}

void PageAllocator::take_free_block(Block block) {
  zone_from(zones_, &Zone::first, block.first).buddies.take(block);
  free_pages_ -= block.pages().count;
}

bool PageAllocator::has_free_block(std::size_t zone, unsigned order) const {
  return zones_[zone].buddies.can_allocate(order);
}

Block PageAllocator::exchange_next(PageList& list, std::optional<Block> before, Block replacement) {
  const Block old = before ? *next(*before) : *first(list);
  Zone& zone = zone_from(zones_, &Zone::first, replacement.first);
  Zone& old_zone = zone_from(zones_, &Zone::first, old.first);
  assert(zone.buddies.is_taken(replacement));
  const std::uint32_t old_name = old_zone.name_of(old.first);
  zone.buddies.enlist(replacement, old_zone.buddies.next_of_listed(old.first));
  old_zone.buddies.delist(old);
  const std::uint32_t name = zone.name_of(replacement.first);
  if (before) {
    zone_from(zones_, &Zone::first, before->first).buddies.enlist(*before, name);
  } else {
    list.first = name;
  }
  if (list.last == old_name) list.last = name;
  list.pages += replacement.pages().count - old.pages().count;
  return old;
}

std::uint64_t PageAllocator::total_pages() const {
  std::uint64_t pages = 0;
  for (const PageRange& range : ranges_) pages += range.count;
  return pages;
}

std::uint64_t PageAllocator::free_pages() const { return free_pages_; }

BlocksByOrder PageAllocator::free_blocks_by_order() const {
  BlocksByOrder sum{};
  for (const Zone& zone : zones_) {
    for (unsigned order = 0; order <= kMaxOrder; ++order) {
      sum[order] += zone.buddies.free_blocks(order);
    }
  }
  return sum;
}

bool PageAllocator::is_free(Pfn pfn) const {
  return std::ranges::any_of(zones_, [pfn](const Zone& zone) { return zone.buddies.is_free(pfn); });
}

std::span<const PageRange> PageAllocator::zones() const { return ranges_; }

std::uint64_t PageAllocator::free_pages(std::size_t zone) const {
  return zones_[zone].buddies.free_pages();
}

std::uint64_t PageAllocator::free_blocks(std::size_t zone, unsigned order) const {
  return zones_[zone].buddies.free_blocks(order);
}

std::optional<FreeBlock> PageAllocator::head_of_free_list(std::size_t zone, unsigned order) const {
  if (free_blocks(zone, order) == 0) return std::nullopt;
  return zones_[zone].buddies.head_of_free_list(order);
}

void PageAllocator::rotate_free_list(std::size_t zone, unsigned order) {
  zones_[zone].buddies.rotate_free_list(order);
}

Block PageAllocator::isolate_free_block(std::size_t zone, unsigned order) {
  const Block block = zones_[zone].buddies.isolate(order);
  free_pages_ -= block.pages().count;
  return block;
}

bool PageAllocator::put_back(Block block, bool reported) {
  BuddyZone& zone = zone_from(zones_, &Zone::first, block.first).buddies;
  assert(zone.is_taken(block));
  free_pages_ += block.pages().count;
  return zone.put_back(block, reported);
}

std::uint32_t PageAllocator::take_freed_orders() {
  std::uint32_t orders = 0;
  for (Zone& zone : zones_) orders |= zone.buddies.take_freed_orders();
  return orders;
}

}  // namespace vballoon::sim
