// SPDX-License-Identifier: MIT
// Guest memory with a value in every page, and a discarder that lets no page go that may not.
//
// One mapping serves all inputs: only what was discarded is filled again. The driver's own pages,
// with rings and payloads, are never really discarded, so that a model of the driver stays true;
// they are watched like all others.
#ifndef VBALLOON_TESTS_FUZZ_WATCHED_MEMORY_H_
#define VBALLOON_TESTS_FUZZ_WATCHED_MEMORY_H_

#include <bitset>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "fuzz/guarded_memory.h"
#include "vballoon/discarder.h"
#include "vballoon/guest_memory.h"
#include "vballoon/page_range.h"

namespace vballoon::fuzz {

// Pages [0, 96), [128, 160) in host pages of four, [192, 256) with transparent huge pages of four,
// and [512, 584) of the driver.
inline constexpr Pfn kFourfold = 128;
inline constexpr Pfn kDriverPages = 512;
inline constexpr std::uint64_t kDriverPageCount = 72;
inline constexpr std::size_t kWatchedPages = 96 + 32 + 64 + kDriverPageCount;

// By the dense index of a page (MemoryRegion::first_page_index).
using WatchedPages = std::bitset<kWatchedPages>;

class WatchedMemory {
 public:
  WatchedMemory()
      : memory_(make_guarded_memory({{0, 96 * kPageSize},
                                     {kFourfold * kPageSize, 32 * kPageSize, 4 * kPageSize},
                                     {192 * kPageSize, 64 * kPageSize, kPageSize, 4 * kPageSize},
                                     {kDriverPages * kPageSize, kDriverPageCount * kPageSize}})) {
    check(memory_->page_count() == kWatchedPages, "the regions are as large as they should be");
    for (std::size_t page = 0; page < kWatchedPages; ++page) fill(page);
  }

  [[nodiscard]] const std::shared_ptr<const GuestMemory>& memory() const { return memory_; }

  // What of a range lies in guest memory.
  void add(PageRange range, WatchedPages& to) const {
    for (const MemoryRegion& region : memory_->regions()) {
      const PageRange pages = region.pages();
      const Pfn begin = std::max(range.first, pages.first);
      const Pfn end = std::min(range.end(), pages.end());
      for (Pfn pfn = begin; pfn < end; ++pfn) to.set(region.first_page_index + pfn - pages.first);
    }
  }
  [[nodiscard]] Pfn pfn_of(std::size_t page) const {
    const MemoryRegion& region = region_of(page);
    return region.pages().first + (page - region.first_page_index);
  }

  // Pages that a device hands over as free.
  [[nodiscard]] WatchedPages handed_over(std::span<const PageRange> pages) const {
    WatchedPages all;
    Pfn end = 0;
    for (const PageRange& range : pages) {
      check(range.count != 0 && range.first >= end, "free pages ascend");
      end = range.end();
      const std::size_t before = all.count();
      add(range, all);
      check(all.count() == before + range.count, "free pages lie in guest memory");
    }
    return all;
  }

  // What may be discarded from now on.
  void allow(const WatchedPages& pages) { allowed_ = pages; }
  // So many runs to come are refused.
  void refuse(unsigned runs) { refusals_ = runs; }
  [[nodiscard]] std::uint64_t taken_bytes() const { return taken_bytes_; }

  void discard(Discarder& kernel, std::span<const HostRun> runs, DiscardReport& report) {
    WatchedPages named;
    std::vector<HostRun> pass_on;
    for (const HostRun& run : runs) {
      check_run(run, named);
      if (refusals_ != 0) {
        --refusals_;
        ++report.calls;
        report.failures.push_back({run, ENOMEM});
        continue;
      }
      taken_bytes_ += run.length;
      if (run.region->pages().first == kDriverPages) {
        report.freed_bytes += run.length;
      } else {
        pass_on.push_back(run);
      }
    }
    kernel.discard(pass_on, report);
  }

  // Begins with the next input: every page holds its value.
  void restart() {
    for (std::size_t page = 0; page < kWatchedPages - kDriverPageCount; ++page) {
      if (discarded_[page]) fill(page);
    }
    discarded_.reset();
    allowed_.reset();
    refusals_ = 0;
    taken_bytes_ = 0;
  }

  // The values are there, but for pages that were allowed to go.
  void check_values() const {
    for (std::size_t page = 0; page < kWatchedPages - kDriverPageCount; ++page) {
      if (discarded_[page]) continue;
      check(std::memcmp(host(page), value(page), kPageSize) == 0,
            "a page that was not named keeps its contents");
    }
  }

 private:
  [[nodiscard]] const MemoryRegion& region_of(std::size_t page) const {
    const auto regions = memory_->regions();
    std::size_t i = 0;
    while (page >= regions[i].first_page_index + regions[i].pages().count) ++i;
    return regions[i];
  }
  [[nodiscard]] std::byte* host(std::size_t page) const {
    const MemoryRegion& region = region_of(page);
    return region.host + ((page - region.first_page_index) << kPageShift);
  }
  // A page's worth of bytes; another for each page, as each begins elsewhere in a sequence.
  [[nodiscard]] static const std::byte* value(std::size_t page) {
    static const std::vector<std::byte> sequence = [] {
      std::vector<std::byte> bytes(kPageSize + 8 * kWatchedPages);
      std::uint64_t state = 1;
      for (std::byte& byte : bytes) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        byte = static_cast<std::byte>(state >> 56 | 1);
      }
      return bytes;
    }();
    return sequence.data() + 8 * page;
  }
  void fill(std::size_t page) { std::memcpy(host(page), value(page), kPageSize); }

  void check_run(const HostRun& run, WatchedPages& named) {
    const MemoryRegion& region = *run.region;
    const auto offset = static_cast<std::uint64_t>(run.address - region.host);
    check(run.length != 0 && offset < region.bytes && run.length <= region.bytes - offset,
          "a run lies in its region");
    check(offset % region.host_page_bytes == 0 && run.length % region.host_page_bytes == 0,
          "a run is made of host pages");
    const std::size_t first = region.first_page_index + (offset >> kPageShift);
    for (std::size_t page = first; page < first + (run.length >> kPageShift); ++page) {
      check(!named[page], "no two runs of a discard overlap");
      named.set(page);
      check(allowed_[page], "only a page that may be changed now is discarded");
      discarded_.set(page);
    }
  }

  const std::shared_ptr<const GuestMemory> memory_;
  WatchedPages allowed_;
  WatchedPages discarded_;
  unsigned refusals_ = 0;
  std::uint64_t taken_bytes_ = 0;
};

class WatchedDiscarder final : public Discarder {
 public:
  WatchedDiscarder(WatchedMemory& memory, DiscardStrategy strategy)
      : memory_(memory), kernel_(make_kernel_discarder({.strategy = strategy})) {}
  void discard(std::span<const HostRun> runs, DiscardReport& report) override {
    memory_.discard(*kernel_, runs, report);
  }

 private:
  WatchedMemory& memory_;
  const std::unique_ptr<Discarder> kernel_;
};

}  // namespace vballoon::fuzz

#endif  // VBALLOON_TESTS_FUZZ_WATCHED_MEMORY_H_
