// SPDX-License-Identifier: MIT
// Compaction: makes large free blocks out of small ones by moving pages.            room: guest
//
// As Linux does for a request that it cannot meet: one scanner goes up from the beginning of a zone
// and looks for pages that can be moved, another comes down from its end and takes free pages for
// them, until a block is free or the two meet. Both go on where they were the next time, and begin
// again after they have met. Free blocks of a huge page and more are left whole. One thread at a
// time, that of the allocator.
#ifndef VBALLOON_SIM_COMPACTOR_H_
#define VBALLOON_SIM_COMPACTOR_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "vballoon/export.h"
#include "vballoon/page_range.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::sim {

// Who knows what single pages of the guest are used for.
class VBALLOON_EXPORT PageMover {
 public:
  virtual ~PageMover() = default;
  // Uses `to`, which is allocated for it, instead of `from`, with the same content; false when
  // `from` is none of its pages, or cannot be moved. `from` is then free to be given back.
  virtual bool move(Pfn from, Pfn to) = 0;
};

struct CompactionCounters {
  std::uint64_t attempts = 0;
  std::uint64_t successes = 0;  // of those: a block was free in the end
  std::uint64_t moved_pages = 0;
};

class VBALLOON_EXPORT Compactor {
 public:
  // Both must outlive the compactor.
  Compactor(PageAllocator& allocator, PageMover& mover);

  // Moves pages until a block of the order is free; false when none comes of it.
  bool compact(unsigned order);
  // The same for an allocation that found no block and has to leave `reserve` pages free. Moves
  // nothing for a block of up to two pages, nor where memory is too short for the block anyway.
  bool make_room(unsigned order, std::uint64_t reserve);

  [[nodiscard]] const CompactionCounters& counters() const { return counters_; }

 private:
  // Where the two scanners of a zone are.
  struct Scanners {
    Pfn next_to_move = 0;
    Pfn free_end = 0;  // behind the next block of pages to take free ones from
  };

  [[nodiscard]] bool compact_zone(std::size_t zone, unsigned order);
  void empty_block(std::size_t zone);
  [[nodiscard]] bool take_targets(std::size_t zone);
  void give_targets_back(std::size_t zone);

  PageAllocator& allocator_;
  PageMover& mover_;
  std::vector<Scanners> scanners_;  // by zone
  std::vector<Pfn> targets_;        // taken for pages that are to be moved
  CompactionCounters counters_;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SIM_COMPACTOR_H_
