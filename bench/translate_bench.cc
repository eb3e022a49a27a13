// SPDX-License-Identifier: MIT
// What does it cost to turn a guest page into host memory, and how does that grow with the number
// of regions, for pages in order and at random? No memory is touched: the regions are made up.
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "base/page_ranges.h"
#include "vballoon/guest_memory.h"

namespace vballoon {
namespace {

constexpr std::uint64_t kRegionPages = 16384;  // 64 MiB
constexpr std::uint64_t kHolePages = 16;
constexpr std::size_t kRanges = 4096;

std::shared_ptr<const GuestMemory> memory_of(std::uint64_t region_count) {
  std::vector<BorrowedRegion> regions;
  for (std::uint64_t i = 0; i < region_count; ++i) {
    const std::uint64_t address = i * (kRegionPages + kHolePages) << kPageShift;
    regions.push_back({.guest_address = address,
                       .bytes = kRegionPages << kPageShift,
                       .host = reinterpret_cast<std::byte*>((std::uintptr_t{1} << 44) + address)});
  }
  return GuestMemory::borrow(regions).value();
}

// Single pages all over the memory.
PageRanges ranges_of(const GuestMemory& memory, bool random) {
  std::mt19937_64 random_number(1);
  PageRanges ranges;
  for (std::size_t i = 0; i < kRanges; ++i) {
    const std::uint64_t index =
        random ? random_number() % memory.page_count() : i * memory.page_count() / kRanges;
    const MemoryRegion& region = memory.regions()[index / kRegionPages];
    ranges.push_back({region.pages().first + index % kRegionPages, 1});
  }
  return ranges;
}

void Translate(benchmark::State& state) {
  const auto memory = memory_of(static_cast<std::uint64_t>(state.range(0)));
  const PageRanges ranges = ranges_of(*memory, state.range(1) != 0);
  std::vector<HostRun> runs;
  for (auto _ : state) {
    runs.clear();
    for (const PageRange range : ranges) memory->translate(range, runs);
    benchmark::DoNotOptimize(runs.data());
    benchmark::ClobberMemory();
  }
  state.counters["time_a_page"] = benchmark::Counter(
      kRanges, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}
BENCHMARK(Translate)
    ->ArgNames({"regions", "random"})
    ->ArgsProduct({{1, 2, 8, 64, 512}, {0, 1}})
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace vballoon
