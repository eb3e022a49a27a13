// SPDX-License-Identifier: MIT
// Tells whether a balloon did to guest memory what it said, by looking at the memory.
//
// Every page gets a value of its own; a page that was given back loses it, and no other may. What
// the kernel really took is read off the resident memory of the mappings, never off return codes.
#ifndef VBALLOON_TOOLS_ORACLE_H_
#define VBALLOON_TOOLS_ORACLE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>

#include "aged_pages.h"
#include "base/page_set.h"
#include "progress.h"
#include "vballoon/guest_memory.h"
#include "vballoon/result.h"
#include "vballoon/sim/machine.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::tool {

// Bytes of a memory's mappings that the kernel holds in RAM: mincore for private memory, the
// blocks of the file for shared.
[[nodiscard]] Result<std::uint64_t> resident_bytes(const GuestMemory& memory);

class Oracle {
 public:
  Oracle(std::shared_ptr<const GuestMemory> memory, std::uint64_t seed);

  // Touches every page and gives it its value; false when stopped.
  [[nodiscard]] bool mark_all(const Tick& tick);

  // Pages that the driver took for itself since `free_before` was made: they change.
  void except_driver_pages(const PageSet& free_before, const sim::PageAllocator& allocator);

  // What compaction moved, all of it, in order: a page holds the value of what was moved there.
  void pages_moved(std::span<const MovedPage> moves);

  // Call before and after an inflation. The latter returns what is wrong, or an empty text, as it
  // also does when stopped.
  [[nodiscard]] Result<void> before_inflate();
  [[nodiscard]] std::string after_inflate(const sim::BalloonDriver& driver,
                                          const sim::ResizeReport& report, const Tick& tick);

  // Uses the pages that came back and looks at all; returns what after_inflate() does.
  [[nodiscard]] std::string after_deflate(const sim::Machine& machine, const Tick& tick);

 private:
  [[nodiscard]] std::uint64_t value_of(Pfn pfn) const;
  // The page whose value this one holds.
  [[nodiscard]] Pfn origin_of(Pfn pfn) const;
  // Asks `tick` at every so many pages: whether to go on at this one.
  [[nodiscard]] bool go_on(const Tick& tick, std::uint64_t dense) const;
  [[nodiscard]] std::string find_changed_page(const Tick& tick) const;

  const std::shared_ptr<const GuestMemory> memory_;
  const std::uint64_t seed_;
  PageSet unknown_;                       // by dense index: pages of the driver
  PageSet ballooned_;                     // by dense index, as the driver says
  std::unordered_map<Pfn, Pfn> origins_;  // of the pages that others were moved to
  std::uint64_t resident_before_ = 0;
};

// The pages of a guest that are free now, by pfn.
[[nodiscard]] PageSet free_pages_of(const sim::PageAllocator& allocator);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_ORACLE_H_
