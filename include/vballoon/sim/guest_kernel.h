// SPDX-License-Identifier: MIT
// Who uses the memory of the simulated guest, and what is done when it is short.    room: guest
//
// Processes with anonymous memory, files in a page cache, swap, kswapd, reclaim by whoever needs
// memory, shrinkers, and the out-of-memory handling, over a PageAllocator. As in Linux
//  - an allocation that finds less free memory than the low watermark wakes kswapd, which reclaims
//    up to the high one when run_kswapd() gives it the processor;
//  - one that would go below the minimum reclaims by itself (a stall) and, if nothing can be
//    reclaimed, asks the OOM notifiers; if those have nothing either, the largest process is
//    killed;
//  - an allocation of more than two pages that finds no block moves pages of processes and files
//    out of the way first (compaction);
//  - reclaim looks at pages from the oldest on, gives used ones a second chance, writes dirty ones
//    first, and takes anonymous ones only if there is room in the swap.
// Disks answer at once, and a dirty page that reclaim has met is clean when it is met again.
// The statistics count what happened here. One thread at a time, that of the allocator.
#ifndef VBALLOON_SIM_GUEST_KERNEL_H_
#define VBALLOON_SIM_GUEST_KERNEL_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "vballoon/balloon_registers.h"
#include "vballoon/export.h"
#include "vballoon/guest_memory.h"
#include "vballoon/sim/compactor.h"
#include "vballoon/sim/memory_statistics.h"
#include "vballoon/sim/page_allocator.h"
#include "vballoon/sim/page_poison.h"
#include "vballoon/sim/watermarks.h"

namespace vballoon::sim {

// Somebody who keeps pages that are not urgently needed, as the driver keeps hinted ones. Neither
// of these two may allocate.
class VBALLOON_EXPORT Shrinker {
 public:
  virtual ~Shrinker() = default;
  // Pages that it could give back.
  [[nodiscard]] virtual std::uint64_t count() const = 0;
  // Gives back about that many; returns how many it did.
  virtual std::uint64_t scan(std::uint64_t pages) = 0;
};

// Somebody who gives pages back before a process is killed, as a balloon with DEFLATE_ON_OOM.
class VBALLOON_EXPORT OomNotifier {
 public:
  virtual ~OomNotifier() = default;
  // Gives pages back; returns how many. With 0 it has nothing more to give.
  virtual std::uint64_t out_of_memory() = 0;
};

// What an allocation does when memory is short.
enum class AllocationEffort : std::uint8_t {
  kFreeOnly,  // nothing, and it does not wake kswapd (a free page hint)
  kCompact,   // moves pages and takes none away (a block of the balloon's)
  kNoRetry,   // reclaims once (the balloon)
  kFull,      // reclaims for as long as that helps; up to order 3 also the out-of-memory handling
};

using ProcessId = std::uint32_t;  // never used again
using FileId = std::uint32_t;     // chosen by the caller

struct GuestKernelOptions {
  std::uint64_t swap_pages = 0;
  // Fills pages of processes and files with what belongs there, so that damaged_pages() can tell;
  // null: their contents are left alone. The zones of the allocator lie in that memory.
  std::shared_ptr<const GuestMemory> memory = nullptr;
  PagePoison* poison = nullptr;  // sees all that is allocated and freed through the kernel
  bool compaction = true;
};

class VBALLOON_EXPORT GuestKernel {
 public:
  // `allocator` and the poison must outlive the kernel.
  explicit GuestKernel(PageAllocator& allocator, const GuestKernelOptions& options = {});
  GuestKernel(const GuestKernel&) = delete;
  GuestKernel& operator=(const GuestKernel&) = delete;
  ~GuestKernel();

  // Memory of the kernel and its drivers.
  [[nodiscard]] std::optional<Block> allocate(unsigned order, AllocationEffort effort);
  void free(Block block);

  // Processes, by what start_process() returned. `first` and `count` are pages of their memory,
  // which begins at 0: for each page below the last one used there is an entry.
  [[nodiscard]] ProcessId start_process();
  // Uses pages; each that is not there costs a fault and an allocation. False when the process was
  // killed, by this or before, or when there was no memory.
  bool touch(ProcessId process, std::uint32_t first, std::uint32_t count);
  void unmap(ProcessId process, std::uint32_t first, std::uint32_t count);
  // Allocates up to that many huge pages (order 9) for the process, which has them until it ends;
  // stops at the first that cannot be had. Returns how many. They are not filled.
  std::uint64_t take_huge_pages(ProcessId process, std::uint64_t count);
  void exit(ProcessId process);
  [[nodiscard]] bool alive(ProcessId process) const;
  [[nodiscard]] std::uint64_t resident_pages(ProcessId process) const;  // without huge pages

  // Files, with pages as those of processes. A page that is read and not in the cache is a major
  // fault, as in a mapped file; one that is written is whole and dirty. False when there was no
  // memory.
  bool read_file(FileId file, std::uint32_t first, std::uint32_t count);
  bool write_file(FileId file, std::uint32_t first, std::uint32_t count);
  // Writes all dirty pages; returns how many.
  std::uint64_t sync();
  [[nodiscard]] std::uint64_t dirty_pages() const;

  // As writing that number to /proc/sys/vm/drop_caches: takes the pages of files that are clean out
  // of the cache, asks the shrinkers for all that they have. Returns how many pages were freed.
  std::uint64_t drop_caches(CacheKinds kinds);

  // Lets kswapd run. Returns whether it was awake.
  bool run_kswapd();
  [[nodiscard]] bool kswapd_awake() const;

  // Each must outlive its registration.
  void register_shrinker(Shrinker& shrinker);
  void unregister_shrinker(Shrinker& shrinker);
  void register_oom_notifier(OomNotifier& notifier);
  void unregister_oom_notifier(OomNotifier& notifier);

  // Changes how many pages count as the guest's: a balloon lowers that unless it would give them
  // back on OOM.
  void adjust_managed_pages(std::int64_t pages);

  [[nodiscard]] MemoryStatistics statistics() const;
  [[nodiscard]] const CompactionCounters& compaction() const;
  [[nodiscard]] const Watermarks& watermarks() const;
  // Resident pages that do not hold what the kernel put there; 0 without memory.
  [[nodiscard]] std::uint64_t damaged_pages() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SIM_GUEST_KERNEL_H_
