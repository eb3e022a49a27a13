// SPDX-License-Identifier: MIT
#include "guest/buddy_zone.h"

#include <algorithm>
#include <cstring>
#include <span>

namespace vballoon::sim {
namespace {

constexpr std::uint64_t kLargestBlock = std::uint64_t{1} << kMaxOrder;

constexpr std::uint64_t align_down(std::uint64_t pages) { return pages & ~(kLargestBlock - 1); }

// Of two buddies below the largest order at most one is free by itself. Twice the room that the
// blocks need makes sure that a full stack is at least half stale, so that dropping stale slots
// costs each push a constant; also when a quarter of the room is kept free at either end.
constexpr std::uint32_t slots_for(std::uint64_t numbers, unsigned order) {
  return static_cast<std::uint32_t>(2 * (numbers >> std::min(order + 1, kMaxOrder)));
}

}  // namespace

BuddyZone::BuddyZone(PageRange pages) : pages_(pages), origin_(align_down(pages.first)) {
  const std::uint64_t numbers = align_down(pages.end() - origin_ + kLargestBlock - 1);
  heads_.resize(numbers, kNothing);
  links_.resize(numbers);
  for (unsigned order = 0; order <= kMaxOrder; ++order) {
    const std::uint32_t slots = slots_for(numbers, order);
    stacks_[order].slots = std::make_unique<std::uint32_t[]>(slots);
    stacks_[order].capacity = slots;
  }
  for (Pfn pfn = pages.first; pfn < pages.end();) {
    const int alignment = std::countr_zero(pfn | kLargestBlock);
    const int size = static_cast<int>(std::bit_width(pages.end() - pfn)) - 1;
    const Block block{pfn, static_cast<unsigned>(std::min(alignment, size))};
    free(block);
    pfn = block.pages().end();
  }
}

void BuddyZone::enlist(Block block, std::uint32_t next) {
  const std::uint32_t number = number_of(block.first);
  heads_[number] = head(kListed, block.order);
  links_[number] = next;
}

Block BuddyZone::listed(Pfn first) const {
  const Head head = heads_[number_of(first)];
  assert((head & kListed) != 0);
  return {first, static_cast<unsigned>(head & kOrderMask)};
}

bool BuddyZone::is_free(Pfn pfn) const {
  if (pfn < pages_.first || pfn >= pages_.end()) return false;
  return (head_of_block_around(number_of(pfn)) & kFree) != 0;
}

std::optional<Block> BuddyZone::free_block_around(Pfn pfn) const {
  if (!is_free(pfn)) return std::nullopt;
  const auto order = static_cast<unsigned>(head_of_block_around(number_of(pfn)) & kOrderMask);
  const Pfn offset = number_of(pfn) & ((1u << order) - 1);
  return Block{pfn - offset, order};
}

bool BuddyZone::is_taken(Block block) const {
  const bool inside = pages_.first <= block.first && block.pages().end() <= pages_.end();
  if (!inside || block.order > kMaxOrder || block.first % block.pages().count != 0) return false;

  const std::uint32_t number = number_of(block.first);
  const auto first = heads_.begin() + number;
  return head_of_block_around(number) == kNothing &&
         std::all_of(first, first + static_cast<std::ptrdiff_t>(block.pages().count),
                     [](Head head) { return head == kNothing; });
}

// The head of the free or listed block in which the page lies, or kNothing.
BuddyZone::Head BuddyZone::head_of_block_around(std::uint32_t number) const {
  for (unsigned order = 0; order <= kMaxOrder; ++order) {
    const Head head = heads_[number >> order << order];
    if (head != kNothing && (head & kOrderMask) >= order) return head;
  }
  return kNothing;
}

// Gathers the current slots at the end of the stack, the newest first, then moves them to where
// they are to begin.
void BuddyZone::drop_stale_slots(unsigned order, std::uint32_t new_bottom) {
  FreeStack& stack = stacks_[order];
  std::uint32_t first_kept = stack.size;
  for (std::uint32_t slot = stack.size; slot-- > stack.bottom;) {
    const std::uint32_t number = stack.slots[slot];
    if (!heads_free(number, order)) continue;
    heads_[number] ^= kFree | kKept;
    stack.slots[--first_kept] = number;
  }
  const std::span kept(stack.slots.get() + first_kept, stack.size - first_kept);
  for (const std::uint32_t number : kept) heads_[number] ^= kFree | kKept;
  assert(kept.size() == stack.live);
  std::memmove(stack.slots.get() + new_bottom, kept.data(), kept.size_bytes());
  stack.bottom = new_bottom;
  stack.size = new_bottom + stack.live;
}

// A stale slot that names this block would be newer than the one that it gets, so there must be
// none.
void BuddyZone::push_oldest(std::uint32_t number, unsigned order, Head mark) {
  FreeStack& stack = stacks_[order];
  if (stack.bottom == 0 || stack.size - stack.bottom != stack.live) {
    drop_stale_slots(order, middle_of(stack));
  }
  heads_[number] = static_cast<Head>(head(kFree, order) | mark);
  stack.slots[--stack.bottom] = number;
  ++stack.live;
  orders_ |= 1u << order;
}

std::uint32_t BuddyZone::take_freed_orders() {
  const std::uint32_t freed = orders_ >> kFreedShift;
  orders_ = nonempty();
  return freed;
}

std::uint64_t BuddyZone::free_pages() const {
  std::uint64_t pages = 0;
  for (unsigned order = 0; order <= kMaxOrder; ++order) pages += free_blocks(order) << order;
  return pages;
}

FreeBlock BuddyZone::head_of_free_list(unsigned order) const {
  const FreeStack& stack = stacks_[order];
  assert(stack.live > 0);
  std::uint32_t slot = stack.size - 1;
  while (!heads_free(stack.slots[slot], order)) --slot;
  const std::uint32_t number = stack.slots[slot];
  return {{pfn_of(number), order}, (heads_[number] & kReported) != 0};
}

void BuddyZone::rotate_free_list(unsigned order) {
  const bool reported = head_of_free_list(order).reported;
  push_oldest(pop(order), order, reported ? kReported : kNothing);
}

bool BuddyZone::put_back(Block block, bool reported) {
  const Block merged = merge(block);
  const bool marked = reported && merged.order == block.order;
  push_oldest(number_of(merged.first), merged.order, marked ? kReported : kNothing);
  return marked;
}

}  // namespace vballoon::sim
