// SPDX-License-Identifier: MIT
// The page allocator of the simulated guest: buddies, as in Linux.                room: guest
//
// Orders 0 to 10 of 4 KiB pages over several zones, with what matters of Linux's behaviour:
// the smallest sufficient order first, the lower half of a split block is used, a freed block
// merges with its free buddy, free lists are LIFO. All memory (13 bytes a page) is taken once;
// nothing is taken from the C++ heap afterwards. One thread at a time.
//
// Free page reporting walks the free lists from their heads, as allocations do. A free block may
// be marked as reported; it loses the mark when it is allocated, split or merged.
#ifndef VBALLOON_SIM_PAGE_ALLOCATOR_H_
#define VBALLOON_SIM_PAGE_ALLOCATOR_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vballoon/export.h"
#include "vballoon/page_range.h"

namespace vballoon::sim {

inline constexpr unsigned kMaxOrder = 10;  // 4 MiB
using BlocksByOrder = std::array<std::uint64_t, kMaxOrder + 1>;

// Pages of a list that its owner took from the allocator, threaded through the allocator's own
// memory. Holds blocks of any order.
struct PageList {
  std::uint32_t first = UINT32_MAX;  // the allocator's number for the first page of a block
  std::uint32_t last = UINT32_MAX;
  std::uint64_t pages = 0;

  [[nodiscard]] bool empty() const { return pages == 0; }
};

// A block of 2^order pages, aligned to its size.
struct Block {
  Pfn first = 0;
  unsigned order = 0;

  [[nodiscard]] PageRange pages() const { return {first, std::uint64_t{1} << order}; }
  friend bool operator==(const Block&, const Block&) = default;
};

struct FreeBlock {
  Block block;
  bool reported = false;  // the host has been told that it is free

  friend bool operator==(const FreeBlock&, const FreeBlock&) = default;
};

class VBALLOON_EXPORT PageAllocator {
 public:
  // Each zone is a range of at least one page, ascending, without overlap, at most 2^31 pages in
  // all (8 TiB). Allocation prefers the last zone (as Linux prefers the normal zone to DMA32), and
  // no block crosses the end of a zone. All pages are free, in blocks as large as their alignment
  // and the zone allow, freed from low to high as at boot.
  explicit PageAllocator(std::span<const PageRange> zones);
  PageAllocator(const PageAllocator&) = delete;
  PageAllocator& operator=(const PageAllocator&) = delete;
  ~PageAllocator();

  // A block of 2^order pages, or nullopt when no zone has one, or when fewer than `reserve` pages
  // would stay free. Requires order <= kMaxOrder.
  [[nodiscard]] std::optional<Block> allocate(unsigned order, std::uint64_t reserve = 0);

  // Frees a block that was allocated and is on no list; parts of one may be freed one by one.
  void free(Block block);

  // Lists of allocated blocks, each on one list at most: push in front, append behind all others,
  // pop the first.
  void push(PageList& list, Block block);
  void append(PageList& list, Block block);
  [[nodiscard]] std::optional<Block> pop(PageList& list);
  // The block that pop() would give, and the one behind `block` in its list.
  [[nodiscard]] std::optional<Block> first(const PageList& list) const;
  [[nodiscard]] std::optional<Block> next(Block block) const;

  // For compaction, which moves what is in a block to elsewhere so that the block becomes free.
  // As allocate(), but a block that does not touch `avoid`. Costs time in proportion to the free
  // pages there, and may leave the free lists in another order.
  [[nodiscard]] std::optional<Block> allocate_outside(PageRange avoid, unsigned order,
                                                      std::uint64_t reserve = 0);
  // The free block that a page lies in; nullopt for a page that is not free. One can be taken just
  // as it is.
  [[nodiscard]] std::optional<Block> free_block_around(Pfn page) const;
  void take_free_block(Block block);
  [[nodiscard]] bool has_free_block(std::size_t zone, unsigned order) const;  // or a larger one
  // Puts an allocated block that is on no list in the place of the one behind `before`, or of the
  // first one without `before`; returns the block that was there and is on no list now. There is
  // no way back along a list: whoever looks for blocks to exchange walks it and keeps the last two.
  Block exchange_next(PageList& list, std::optional<Block> before, Block replacement);

  [[nodiscard]] std::uint64_t total_pages() const;
  [[nodiscard]] std::uint64_t free_pages() const;
  [[nodiscard]] BlocksByOrder free_blocks_by_order() const;
  [[nodiscard]] bool is_free(Pfn pfn) const;  // false outside the zones
  [[nodiscard]] std::span<const PageRange> zones() const;

  // For free page reporting. `zone` is an index into zones().
  [[nodiscard]] std::uint64_t free_pages(std::size_t zone) const;
  [[nodiscard]] std::uint64_t free_blocks(std::size_t zone, unsigned order) const;
  // The head of a free list: what the next allocation of that order takes from the zone.
  [[nodiscard]] std::optional<FreeBlock> head_of_free_list(std::size_t zone, unsigned order) const;
  // Moves the head of a free list, which is not empty, to its tail. Constant, but for the first
  // time after blocks of the order merged: then it costs time in proportion to the list.
  void rotate_free_list(std::size_t zone, unsigned order);
  // Takes the head off a free list that is not empty; until put_back() it counts as allocated.
  [[nodiscard]] Block isolate_free_block(std::size_t zone, unsigned order);
  // Gives an isolated block back as free() does, but to the tail of a list and without counting as
  // freed; returns whether it is marked as reported: if `reported` and it did not merge. Costs what
  // rotate_free_list() costs.
  bool put_back(Block block, bool reported);
  // Bit k: since the last call a free() ended in a block of order k, merged as it came to be.
  [[nodiscard]] std::uint32_t take_freed_orders();

 private:
  struct Zone;

  std::vector<Zone> zones_;
  std::vector<PageRange> ranges_;
  std::uint64_t free_pages_ = 0;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SIM_PAGE_ALLOCATOR_H_
