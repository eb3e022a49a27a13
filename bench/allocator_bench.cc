// SPDX-License-Identifier: MIT
// What does the simulated guest's page allocator itself cost for each page? It is stage a of the
// way of a page and must stay far below the cost of the stages that are measured with it.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include "vballoon/page_range.h"
#include "vballoon/sim/aging.h"
#include "vballoon/sim/page_allocator.h"

namespace {

using vballoon::PageRange;
using vballoon::sim::age_guest;
using vballoon::sim::Block;
using vballoon::sim::GuestAge;
using vballoon::sim::PageAllocator;

constexpr std::uint64_t kSeed = 1;
constexpr std::uint64_t kPagesPerGib = 1 << 18;

enum class FreeOrder : std::uint8_t { kAsAllocated, kReversed, kRandom };

PageAllocator make_guest(std::int64_t gib) {
  const PageRange zones[] = {{0, static_cast<std::uint64_t>(gib) * kPagesPerGib}};
  return PageAllocator(zones);
}

void allocate_all(PageAllocator& allocator, unsigned order, std::vector<Block>& blocks) {
  while (const std::optional<Block> block = allocator.allocate(order)) blocks.push_back(*block);
}

void free_all(PageAllocator& allocator, std::vector<Block>& blocks) {
  for (const Block& block : blocks) allocator.free(block);
  blocks.clear();
}

void arrange(std::vector<Block>& blocks, FreeOrder order) {
  if (order == FreeOrder::kReversed) std::ranges::reverse(blocks);
  if (order == FreeOrder::kRandom) std::ranges::shuffle(blocks, std::mt19937_64(kSeed));
}

void report_pages(benchmark::State& state, std::uint64_t pages) {
  state.counters["s_per_page"] = benchmark::Counter(
      static_cast<double>(pages), benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.SetItemsProcessed(static_cast<std::int64_t>(pages));
}

void BM_Allocate(benchmark::State& state) {
  PageAllocator allocator = make_guest(state.range(0));
  (void)age_guest(allocator, static_cast<GuestAge>(state.range(1)), kSeed);
  const auto order = static_cast<unsigned>(state.range(2));
  std::vector<Block> blocks;
  blocks.resize(allocator.free_pages());  // touched before it is timed
  blocks.clear();
  std::uint64_t pages = 0;
  for (auto _ : state) {
    allocate_all(allocator, order, blocks);
    state.PauseTiming();
    pages += blocks.size() << order;
    free_all(allocator, blocks);
    state.ResumeTiming();
  }
  report_pages(state, pages);
}
BENCHMARK(BM_Allocate)
    ->Name("Allocate")
    ->ArgNames({"gib", "age", "order"})
    ->ArgsProduct({{1, 8},
                   {static_cast<int>(GuestAge::kIdle), static_cast<int>(GuestAge::kFragmented),
                    static_cast<int>(GuestAge::kAged)},
                   {0}})
    ->Args({8, static_cast<int>(GuestAge::kIdle), 10})
    ->Args({8, static_cast<int>(GuestAge::kAged), 10})
    ->Unit(benchmark::kMillisecond);

void BM_Free(benchmark::State& state) {
  PageAllocator allocator = make_guest(state.range(0));
  (void)age_guest(allocator, static_cast<GuestAge>(state.range(1)), kSeed);
  std::vector<Block> blocks;
  blocks.resize(allocator.free_pages());  // touched before it is timed
  blocks.clear();
  std::uint64_t pages = 0;
  for (auto _ : state) {
    state.PauseTiming();
    allocate_all(allocator, 0, blocks);
    arrange(blocks, static_cast<FreeOrder>(state.range(2)));
    pages += blocks.size();
    state.ResumeTiming();
    free_all(allocator, blocks);
  }
  report_pages(state, pages);
}
BENCHMARK(BM_Free)
    ->Name("Free")
    ->ArgNames({"gib", "age", "sequence"})
    ->ArgsProduct({{1, 8},
                   {static_cast<int>(GuestAge::kIdle), static_cast<int>(GuestAge::kFragmented),
                    static_cast<int>(GuestAge::kAged)},
                   {static_cast<int>(FreeOrder::kAsAllocated),
                    static_cast<int>(FreeOrder::kReversed), static_cast<int>(FreeOrder::kRandom)}})
    ->Unit(benchmark::kMillisecond);

}  // namespace
