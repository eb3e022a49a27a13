// SPDX-License-Identifier: MIT
// The buddies of one zone, and the links of the lists that its allocated blocks lie on.
#ifndef VBALLOON_SRC_GUEST_BUDDY_ZONE_H_
#define VBALLOON_SRC_GUEST_BUDDY_ZONE_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "vballoon/page_range.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::sim {

// What is asked for each page stands inline here: it is the inner loop of the simulated guest.
//
// Pages are numbered from the last multiple of the largest block at or before the zone, up to the
// first such multiple behind it. So a buddy is found by its number alone, and numbers that have no
// page need no check: they never head a free block.
class BuddyZone {
 public:
  explicit BuddyZone(PageRange pages);

  [[nodiscard]] Pfn end() const { return pages_.end(); }
  [[nodiscard]] std::uint32_t numbers() const { return static_cast<std::uint32_t>(heads_.size()); }
  [[nodiscard]] std::uint32_t number_of(Pfn pfn) const {
    return static_cast<std::uint32_t>(pfn - origin_);
  }
  [[nodiscard]] Pfn pfn_of(std::uint32_t number) const { return origin_ + number; }

  [[nodiscard]] bool can_allocate(unsigned order) const { return nonempty() >> order != 0; }
  // Requires can_allocate(order).
  [[nodiscard]] Block allocate(unsigned order);
  void free(Block block);

  // What free page reporting needs; see PageAllocator. The three in the middle require a free block
  // of the order.
  [[nodiscard]] std::uint64_t free_pages() const;
  [[nodiscard]] FreeBlock head_of_free_list(unsigned order) const;
  void rotate_free_list(unsigned order);
  [[nodiscard]] Block isolate(unsigned order) { return {pfn_of(pop(order)), order}; }
  bool put_back(Block block, bool reported);
  [[nodiscard]] std::uint32_t take_freed_orders();

  // Puts an allocated block on a list before `next`, or takes it off.
  void enlist(Block block, std::uint32_t next);
  void delist(Block block) { heads_[number_of(block.first)] = kNothing; }
  // The block that begins at a listed page, and what enlist() was told.
  [[nodiscard]] Block listed(Pfn first) const;
  [[nodiscard]] std::uint32_t next_of_listed(Pfn first) const { return links_[number_of(first)]; }

  [[nodiscard]] bool is_free(Pfn pfn) const;
  [[nodiscard]] std::optional<Block> free_block_around(Pfn pfn) const;
  // Requires a free block.
  void take(Block block) { remove(number_of(block.first), block.order); }
  [[nodiscard]] std::uint64_t free_blocks(unsigned order) const { return stacks_[order].live; }
  // Whether all of the block is allocated and none of it on a list.
  [[nodiscard]] bool is_taken(Block block) const;

 private:
  // What the page with this number heads: a free block or one on a list, and of which order.
  using Head = std::uint8_t;
  static constexpr Head kNothing = 0;
  static constexpr Head kFree = 0x10;
  static constexpr Head kListed = 0x20;
  static constexpr Head kKept = 0x40;      // a free block whose current slot was found
  static constexpr Head kReported = 0x80;  // beside kFree: the host has been told
  static constexpr Head kOrderMask = 0x0f;

  // The free blocks of one order, the newest last. A block that merges away leaves a stale slot
  // behind: taking it out would touch memory far from the block and cost most of the time of a
  // free. Of the slots that name a free block the newest is current, the others are stale.
  // A stack whose size is no power of two would cost a free noticeably more.
  struct alignas(32) FreeStack {
    std::unique_ptr<std::uint32_t[]> slots;
    std::uint32_t bottom = 0;  // above 0 once a block came in as the oldest
    std::uint32_t size = 0;    // the slots in use are [bottom, size)
    std::uint32_t live = 0;    // current slots
    std::uint32_t capacity = 0;
  };

  static constexpr unsigned kFreedShift = 16;
  [[nodiscard]] std::uint32_t nonempty() const { return orders_ & ((1u << kFreedShift) - 1); }

  static Head head(Head kind, unsigned order) { return static_cast<Head>(kind | order); }
  // Whether the page heads a free block of the order, reported or not.
  [[nodiscard]] bool heads_free(std::uint32_t number, unsigned order) const {
    const Head found = heads_[number];
    return found == head(kFree, order) || found == head(kFree | kReported, order);
  }

  [[nodiscard]] Block merge(Block block);
  void push(std::uint32_t number, unsigned order);
  void push_oldest(std::uint32_t number, unsigned order, Head mark);
  void remove(std::uint32_t number, unsigned order);
  std::uint32_t pop(unsigned order);
  void drop_stale_slots(unsigned order, std::uint32_t new_bottom);
  // Room for new slots at both ends of a stack, half of what is free each.
  [[nodiscard]] static std::uint32_t middle_of(const FreeStack& stack) {
    return (stack.capacity - stack.live) / 2;
  }
  // In an aged guest the blocks of a stack lie far apart; asking for them some pops ahead halves
  // the time of an allocation.
  static constexpr std::uint32_t kPopsAhead = 8;
  void prefetch(std::uint32_t number) const { __builtin_prefetch(&heads_[number], 1); }
  [[nodiscard]] Head head_of_block_around(std::uint32_t number) const;

  PageRange pages_;
  Pfn origin_;
  // Bit k: there is a free block of order k. Bit 16 + k: a free ended in one, since somebody asked.
  // One word, as a free writes both.
  std::uint32_t orders_ = 0;
  std::vector<Head> heads_;
  std::vector<std::uint32_t> links_;  // of a listed block, what comes next
  std::array<FreeStack, kMaxOrder + 1> stacks_;
};

inline Block BuddyZone::allocate(unsigned order) {
  unsigned found = order + static_cast<unsigned>(std::countr_zero(orders_ >> order));
  const std::uint32_t number = pop(found);
  while (found > order) {
    --found;
    push(number + (1u << found), found);
  }
  return {pfn_of(number), order};
}

inline void BuddyZone::free(Block block) {
  block = merge(block);
  push(number_of(block.first), block.order);
  orders_ |= 1u << block.order << kFreedShift;
}

// Takes the free buddies of a block off their lists, of the larger blocks too that come of it;
// returns the block that all are together.
inline Block BuddyZone::merge(Block block) {
  std::uint32_t number = number_of(block.first);
  unsigned order = block.order;
  while (order < kMaxOrder) {
    const std::uint32_t buddy = number ^ (1u << order);
    if (!heads_free(buddy, order)) break;
    remove(buddy, order);
    number &= ~(1u << order);
    ++order;
  }
  return {pfn_of(number), order};
}

inline void BuddyZone::push(std::uint32_t number, unsigned order) {
  FreeStack& stack = stacks_[order];
  if (stack.size == stack.capacity) {
    drop_stale_slots(order, stack.bottom == 0 ? 0 : middle_of(stack));
  }
  heads_[number] = head(kFree, order);
  stack.slots[stack.size++] = number;
  ++stack.live;
  orders_ |= 1u << order;
}

inline void BuddyZone::remove(std::uint32_t number, unsigned order) {
  FreeStack& stack = stacks_[order];
  heads_[number] = kNothing;
  if (--stack.live == 0) {
    stack.bottom = 0;
    stack.size = 0;
    orders_ &= ~(1u << order);
  }
}

inline std::uint32_t BuddyZone::pop(unsigned order) {
  FreeStack& stack = stacks_[order];
  assert(stack.live > 0);
  do --stack.size;
  while (!heads_free(stack.slots[stack.size], order));
  const std::uint32_t number = stack.slots[stack.size];
  prefetch(stack.slots[stack.size - std::min(stack.size, kPopsAhead)]);
  remove(number, order);
  return number;
}

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_BUDDY_ZONE_H_
