// SPDX-License-Identifier: MIT
// The page allocator of the simulated guest: buddies, as in Linux.                room: guest
//
// Orders 0 to 10 of 4 KiB pages over several zones, with what matters of Linux's behaviour:
// the smallest sufficient order first, the lower half of a split block is used, a freed block
// merges with its free buddy, free lists are LIFO. All memory (13 bytes a page) is taken once;
// nothing is taken from the C++ heap afterwards. One thread at a time.
#ifndef VBALLOON_SIM_PAGE_ALLOCATOR_H_
#define VBALLOON_SIM_PAGE_ALLOCATOR_H_

#include <array>
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
// memory: the newest first. Holds blocks of any order.
struct PageList {
  std::uint32_t newest = UINT32_MAX;  // the allocator's number for the first page of a block
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

  // Lists of allocated blocks, each on one list at most: push in front, pop the newest.
  void push(PageList& list, Block block);
  [[nodiscard]] std::optional<Block> pop(PageList& list);
  // The block that pop() would give, and the one behind `block` in its list.
  [[nodiscard]] std::optional<Block> newest(const PageList& list) const;
  [[nodiscard]] std::optional<Block> next(Block block) const;

  [[nodiscard]] std::uint64_t total_pages() const;
  [[nodiscard]] std::uint64_t free_pages() const;
  [[nodiscard]] BlocksByOrder free_blocks_by_order() const;
  [[nodiscard]] bool is_free(Pfn pfn) const;  // false outside the zones
  [[nodiscard]] std::span<const PageRange> zones() const;

 private:
  struct Zone;

  std::vector<Zone> zones_;
  std::vector<PageRange> ranges_;
  std::uint64_t free_pages_ = 0;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SIM_PAGE_ALLOCATOR_H_
