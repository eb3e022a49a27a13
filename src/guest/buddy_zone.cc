// SPDX-License-Identifier: MIT
#include "guest/buddy_zone.h"

#include <algorithm>

namespace vballoon::sim {
namespace {

constexpr std::uint64_t kLargestBlock = std::uint64_t{1} << kMaxOrder;

constexpr std::uint64_t align_down(std::uint64_t pages) { return pages & ~(kLargestBlock - 1); }

// Of two buddies below the largest order at most one is free by itself. Twice the room that the
// blocks need makes sure that a full stack is at least half stale, so that dropping stale slots
// costs each push a constant.
constexpr std::size_t slots_for(std::uint64_t numbers, unsigned order) {
  return 2 * (numbers >> std::min(order + 1, kMaxOrder));
}

}  // namespace

BuddyZone::BuddyZone(PageRange pages) : pages_(pages), origin_(align_down(pages.first)) {
  const std::uint64_t numbers = align_down(pages.end() - origin_ + kLargestBlock - 1);
  heads_.resize(numbers, kNothing);
  links_.resize(numbers);
  for (unsigned order = 0; order <= kMaxOrder; ++order) {
    stacks_[order].slots.resize(slots_for(numbers, order));
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

// Gathers the current slots at the end of the stack, the newest first, then moves them to its
// beginning.
void BuddyZone::drop_stale_slots(unsigned order) {
  FreeStack& stack = stacks_[order];
  std::uint32_t first_kept = stack.size;
  for (std::uint32_t slot = stack.size; slot-- > 0;) {
    const std::uint32_t number = stack.slots[slot];
    if (heads_[number] != head(kFree, order)) continue;
    heads_[number] = head(kKept, order);
    stack.slots[--first_kept] = number;
  }
  for (std::uint32_t slot = first_kept; slot < stack.size; ++slot) {
    const std::uint32_t number = stack.slots[slot];
    heads_[number] = head(kFree, order);
    stack.slots[slot - first_kept] = number;
  }
  stack.size -= first_kept;
  assert(stack.size == stack.live);
}

}  // namespace vballoon::sim
