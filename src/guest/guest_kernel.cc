// SPDX-License-Identifier: MIT
#include "vballoon/sim/guest_kernel.h"

#include <algorithm>
#include <cassert>
#include <utility>
#include <vector>

#include "guest/user_pages.h"

namespace vballoon::sim {
namespace {

constexpr unsigned kHugePageOrder = 9;
// Above this order nobody is killed for a block: Linux's PAGE_ALLOC_COSTLY_ORDER.
constexpr unsigned kCostlyOrder = 3;
// Reclaim begins with 1/4096 of each list and doubles that up to all of it.
constexpr unsigned kFirstPriority = 12;
// What reclaim looks at least at in a list, and what an allocation asks it for.
constexpr std::uint64_t kReclaimPages = 32;

}  // namespace

struct GuestKernel::Impl final : PageMover {
  // What one of the two who reclaim did, in pages.
  struct Reclaimed {
    std::uint64_t scanned = 0;
    std::uint64_t taken = 0;
  };

  Impl(PageAllocator& allocator_in, const GuestKernelOptions& options)
      : allocator(allocator_in),
        watermarks(guest_watermarks(allocator_in.zones())),
        poison(options.poison),
        compaction(options.compaction),
        pages(options.memory, options.swap_pages) {}

  [[nodiscard]] std::optional<Block> take(unsigned order, std::uint64_t watermark);
  [[nodiscard]] std::optional<Block> allocate(unsigned order, AllocationEffort effort);
  [[nodiscard]] std::optional<Block> take_compacted(unsigned order);
  [[nodiscard]] std::optional<Block> allocate_slowly(unsigned order, AllocationEffort effort);
  void free(Block block);
  bool move(Pfn from, Pfn to) override;

  std::uint64_t reclaim(std::uint64_t goal, Reclaimed& who);
  std::uint64_t shrink(PageKind kind, unsigned priority, std::uint64_t goal, Reclaimed& who);
  std::uint64_t ask_shrinkers(unsigned priority);
  [[nodiscard]] bool handle_out_of_memory();

  [[nodiscard]] bool touch(ProcessId process, std::uint32_t index);
  [[nodiscard]] bool use_file(FileId file, std::uint32_t index, bool write);
  void end_process(ProcessId process);
  [[nodiscard]] std::uint64_t available_pages() const;

  PageAllocator& allocator;
  const Watermarks watermarks;
  PagePoison* const poison;
  const bool compaction;
  UserPages pages;
  Compactor compactor{allocator, *this};
  std::vector<Shrinker*> shrinkers;
  std::vector<OomNotifier*> oom_notifiers;
  std::int64_t managed_adjustment = 0;
  bool kswapd_awake = false;

  Reclaimed by_kswapd;
  Reclaimed by_allocations;
  std::uint64_t faults = 0;
  std::uint64_t major_faults = 0;
  std::uint64_t swapped_in = 0;
  std::uint64_t swapped_out = 0;
  std::uint64_t huge_pages = 0;
  std::uint64_t failed_huge_pages = 0;
  std::uint64_t oom_kills = 0;
  std::uint64_t stalls = 0;
};

std::optional<Block> GuestKernel::Impl::take(unsigned order, std::uint64_t watermark) {
  const std::optional<Block> block = allocator.allocate(order, watermark);
  if (block && poison != nullptr) poison->check(block->pages());
  return block;
}

void GuestKernel::Impl::free(Block block) {
  if (poison != nullptr) poison->fill(block.pages());
  allocator.free(block);
}

std::optional<Block> GuestKernel::Impl::allocate(unsigned order, AllocationEffort effort) {
  if (effort == AllocationEffort::kFreeOnly) return take(order, watermarks.min);
  if (const auto block = take(order, watermarks.low)) return block;
  kswapd_awake = true;
  if (const auto block = take(order, watermarks.min)) return block;
  if (const auto block = take_compacted(order)) return block;
  return effort == AllocationEffort::kCompact ? std::nullopt : allocate_slowly(order, effort);
}

std::optional<Block> GuestKernel::Impl::take_compacted(unsigned order) {
  if (!compaction || !compactor.make_room(order, watermarks.min)) return std::nullopt;
  return take(order, watermarks.min);
}

// What the allocator holds for it was free, and what it gives back will be.
bool GuestKernel::Impl::move(Pfn from, Pfn to) {
  if (!pages.has(from)) return false;
  if (poison != nullptr) poison->check({to, 1});
  pages.move(from, to);
  if (poison != nullptr) poison->fill({from, 1});
  return true;
}

// Each round frees something or ends it, so the rounds end.
std::optional<Block> GuestKernel::Impl::allocate_slowly(unsigned order, AllocationEffort effort) {
  for (;;) {
    ++stalls;
    const std::uint64_t goal = std::max(kReclaimPages, std::uint64_t{1} << order);
    const bool progress = reclaim(goal, by_allocations) != 0;
    if (const auto block = take(order, watermarks.min)) return block;
    if (const auto block = take_compacted(order)) return block;
    if (effort == AllocationEffort::kNoRetry) return std::nullopt;
    if (progress) continue;
    if (order > kCostlyOrder || !handle_out_of_memory()) return std::nullopt;
    if (const auto block = take(order, watermarks.min)) return block;
  }
}

// Frees that many pages or all it can; returns how many.
std::uint64_t GuestKernel::Impl::reclaim(std::uint64_t goal, Reclaimed& who) {
  std::uint64_t freed = 0;
  for (unsigned priority = kFirstPriority + 1; priority-- > 0 && freed < goal;) {
    freed += shrink(PageKind::kFile, priority, goal - freed, who);
    if (freed < goal) freed += shrink(PageKind::kAnonymous, priority, goal - freed, who);
    if (freed < goal) freed += ask_shrinkers(priority);
  }
  return freed;
}

// Looks at the oldest pages of a list.
std::uint64_t GuestKernel::Impl::shrink(PageKind kind, unsigned priority, std::uint64_t goal,
                                        Reclaimed& who) {
  const std::uint64_t size = pages.count(kind);
  std::uint64_t freed = 0;
  for (std::uint64_t scan = std::min(size, std::max(size >> priority, kReclaimPages));
       scan > 0 && freed < goal; --scan) {
    if (kind == PageKind::kAnonymous && pages.free_swap_pages() == 0) break;
    ++who.scanned;
    const std::optional<Pfn> pfn = pages.reclaim_oldest(kind);
    if (!pfn) continue;
    if (kind == PageKind::kAnonymous) ++swapped_out;
    ++who.taken;
    ++freed;
    free({*pfn, 0});
  }
  return freed;
}

std::uint64_t GuestKernel::Impl::ask_shrinkers(unsigned priority) {
  std::uint64_t freed = 0;
  for (Shrinker* shrinker : shrinkers) {
    const std::uint64_t all = shrinker->count();
    const std::uint64_t scan = std::min(all, std::max(all >> priority, kReclaimPages));
    if (scan != 0) freed += shrinker->scan(scan);
  }
  return freed;
}

// Whether anything was freed.
bool GuestKernel::Impl::handle_out_of_memory() {
  std::uint64_t freed = 0;
  for (OomNotifier* notifier : oom_notifiers) freed += notifier->out_of_memory();
  if (freed != 0) return true;

  const std::optional<ProcessId> victim = pages.largest_process();
  if (!victim) return false;
  ++oom_kills;
  end_process(*victim);
  return true;
}

bool GuestKernel::Impl::touch(ProcessId process, std::uint32_t index) {
  if (!pages.alive(process)) return false;
  if (pages.use(PageKind::kAnonymous, process, index, false)) return true;
  ++faults;
  const auto block = allocate(0, AllocationEffort::kFull);
  if (!block) return false;
  if (!pages.alive(process)) {  // it was the one to be killed for this
    free(*block);
    return false;
  }
  if (pages.is_swapped(process, index)) {
    ++major_faults;
    ++swapped_in;
  }
  pages.map({.pfn = block->first, .owner = process, .index = index, .kind = PageKind::kAnonymous});
  return true;
}

bool GuestKernel::Impl::use_file(FileId file, std::uint32_t index, bool write) {
  if (pages.use(PageKind::kFile, file, index, write)) return true;
  if (!write) {
    ++faults;
    ++major_faults;
  }
  const auto block = allocate(0, AllocationEffort::kFull);
  if (!block) return false;
  pages.map({.pfn = block->first, .owner = file, .index = index, .dirty = write});
  return true;
}

void GuestKernel::Impl::end_process(ProcessId process) {
  pages.end(process, [this](Pfn pfn) { free({pfn, 0}); });
  while (const auto block = allocator.pop(pages.huge_pages(process))) free(*block);
}

// What Linux estimates: free memory but for what stays free, and the page cache but for what is
// likely in use.
std::uint64_t GuestKernel::Impl::available_pages() const {
  const std::uint64_t unused = allocator.free_pages();
  const std::uint64_t cache = pages.count(PageKind::kFile);
  return unused - std::min(unused, watermarks.high) + cache - std::min(cache / 2, watermarks.low);
}

GuestKernel::GuestKernel(PageAllocator& allocator, const GuestKernelOptions& options)
    : impl_(std::make_unique<Impl>(allocator, options)) {}
GuestKernel::~GuestKernel() = default;

std::optional<Block> GuestKernel::allocate(unsigned order, AllocationEffort effort) {
  return impl_->allocate(order, effort);
}
void GuestKernel::free(Block block) { impl_->free(block); }

ProcessId GuestKernel::start_process() { return impl_->pages.start_process(); }

bool GuestKernel::touch(ProcessId process, std::uint32_t first, std::uint32_t count) {
  for (std::uint32_t i = 0; i < count; ++i) {
    if (!impl_->touch(process, first + i)) return false;
  }
  return alive(process);
}

void GuestKernel::unmap(ProcessId process, std::uint32_t first, std::uint32_t count) {
  if (!alive(process)) return;
  impl_->pages.unmap(process, first, count, [this](Pfn pfn) { free({pfn, 0}); });
}

std::uint64_t GuestKernel::take_huge_pages(ProcessId process, std::uint64_t count) {
  std::uint64_t taken = 0;
  while (taken < count && alive(process)) {
    const auto block = allocate(kHugePageOrder, AllocationEffort::kFull);
    if (!block) {
      ++impl_->failed_huge_pages;
      break;
    }
    impl_->allocator.push(impl_->pages.huge_pages(process), *block);
    ++taken;
  }
  impl_->huge_pages += taken;
  return taken;
}

void GuestKernel::exit(ProcessId process) {
  if (alive(process)) impl_->end_process(process);
}
bool GuestKernel::alive(ProcessId process) const { return impl_->pages.alive(process); }
std::uint64_t GuestKernel::resident_pages(ProcessId process) const {
  return impl_->pages.resident_pages(process);
}

bool GuestKernel::read_file(FileId file, std::uint32_t first, std::uint32_t count) {
  for (std::uint32_t i = 0; i < count; ++i) {
    if (!impl_->use_file(file, first + i, false)) return false;
  }
  return true;
}

bool GuestKernel::write_file(FileId file, std::uint32_t first, std::uint32_t count) {
  for (std::uint32_t i = 0; i < count; ++i) {
    if (!impl_->use_file(file, first + i, true)) return false;
  }
  return true;
}

std::uint64_t GuestKernel::sync() { return impl_->pages.write_dirty_pages(); }
std::uint64_t GuestKernel::dirty_pages() const { return impl_->pages.dirty_pages(); }

std::uint64_t GuestKernel::drop_caches(CacheKinds kinds) {
  const auto wants = [kinds](CacheKinds kind) {
    return (static_cast<unsigned>(kinds) & static_cast<unsigned>(kind)) != 0;
  };
  const std::uint64_t before = impl_->allocator.free_pages();
  if (wants(CacheKinds::kPageCache)) {
    impl_->pages.drop_clean_files([this](Pfn pfn) { free({pfn, 0}); });
  }
  if (wants(CacheKinds::kSlab)) (void)impl_->ask_shrinkers(0);
  return impl_->allocator.free_pages() - before;
}

// Sleeps in the end, also when it can do no more: the next allocation that is short wakes it.
bool GuestKernel::run_kswapd() {
  if (!std::exchange(impl_->kswapd_awake, false)) return false;
  for (;;) {
    const std::uint64_t unused = impl_->allocator.free_pages();
    if (unused >= impl_->watermarks.high) break;
    if (impl_->reclaim(impl_->watermarks.high - unused, impl_->by_kswapd) == 0) break;
  }
  return true;
}
bool GuestKernel::kswapd_awake() const { return impl_->kswapd_awake; }

void GuestKernel::register_shrinker(Shrinker& shrinker) { impl_->shrinkers.push_back(&shrinker); }
void GuestKernel::unregister_shrinker(Shrinker& shrinker) {
  std::erase(impl_->shrinkers, &shrinker);
}
void GuestKernel::register_oom_notifier(OomNotifier& notifier) {
  impl_->oom_notifiers.push_back(&notifier);
}
void GuestKernel::unregister_oom_notifier(OomNotifier& notifier) {
  std::erase(impl_->oom_notifiers, &notifier);
}

void GuestKernel::adjust_managed_pages(std::int64_t pages) { impl_->managed_adjustment += pages; }

MemoryStatistics GuestKernel::statistics() const {
  using enum MemoryStatistic;
  const Impl& k = *impl_;
  const auto bytes = [](std::uint64_t pages) { return pages << kPageShift; };
  MemoryStatistics s;
  s[kSwapIn] = bytes(k.swapped_in);
  s[kSwapOut] = bytes(k.swapped_out);
  s[kMajorFaults] = k.major_faults;
  s[kMinorFaults] = k.faults;
  s[kFreeMemory] = bytes(k.allocator.free_pages());
  s[kTotalMemory] =
      bytes(k.allocator.total_pages() + static_cast<std::uint64_t>(k.managed_adjustment));
  s[kAvailableMemory] = bytes(k.available_pages());
  s[kCaches] = bytes(k.pages.count(PageKind::kFile));
  s[kHugetlbAllocations] = k.huge_pages;
  s[kHugetlbFailures] = k.failed_huge_pages;
  s[kOomKills] = k.oom_kills;
  s[kAllocationStalls] = k.stalls;
  s[kAsyncScan] = bytes(k.by_kswapd.scanned);
  s[kDirectScan] = bytes(k.by_allocations.scanned);
  s[kAsyncReclaim] = bytes(k.by_kswapd.taken);
  s[kDirectReclaim] = bytes(k.by_allocations.taken);
  return s;
}

const CompactionCounters& GuestKernel::compaction() const { return impl_->compactor.counters(); }
const Watermarks& GuestKernel::watermarks() const { return impl_->watermarks; }
std::uint64_t GuestKernel::damaged_pages() const { return impl_->pages.damaged_pages(); }

}  // namespace vballoon::sim
