// SPDX-License-Identifier: MIT
// What does the simulated guest's page allocator itself cost for each page? It is stage a of the
// way of a page and must stay far below the cost of the stages that are measured with it.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <random>
#include <utility>
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

const std::vector<std::int64_t> kAges{static_cast<int>(GuestAge::kIdle),
                                      static_cast<int>(GuestAge::kFragmented),
                                      static_cast<int>(GuestAge::kAged)};
const std::vector<std::int64_t> kFreeOrders{static_cast<int>(FreeOrder::kAsAllocated),
                                            static_cast<int>(FreeOrder::kReversed),
                                            static_cast<int>(FreeOrder::kRandom)};

std::array<PageRange, 1> make_zone(std::int64_t gib) {
  return {PageRange{0, static_cast<std::uint64_t>(gib) * kPagesPerGib}};
}

// Takes every block of the order that there is and counts them.
std::uint64_t drain(PageAllocator& allocator, unsigned order) {
  std::uint64_t blocks = 0;
  while (const std::optional<Block> block = allocator.allocate(order)) {
    benchmark::DoNotOptimize(block->first);
    ++blocks;
  }
  return blocks;
}

std::vector<Block> take_all_pages(PageAllocator& allocator) {
  std::vector<Block> blocks;
  while (const std::optional<Block> block = allocator.allocate(0)) blocks.push_back(*block);
  return blocks;
}

void arrange(std::vector<Block>& blocks, FreeOrder order) {
  if (order == FreeOrder::kReversed) std::ranges::reverse(blocks);
  if (order == FreeOrder::kRandom) std::ranges::shuffle(blocks, std::mt19937_64(kSeed));
}

void report_pages(benchmark::State& state, std::uint64_t pages) {
  state.counters["s_per_page"] = benchmark::Counter(
      static_cast<double>(pages), benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

// Each iteration ages a guest anew, so that each takes the same blocks in the same order. As that
// takes longer than what is timed, the iterations are few and fixed.
void Allocate(benchmark::State& state) {
  const auto age = static_cast<GuestAge>(state.range(1));
  const auto order = static_cast<unsigned>(state.range(2));
  std::uint64_t pages = 0;
  for (auto _ : state) {
    state.PauseTiming();
    std::optional<PageAllocator> allocator(std::in_place, make_zone(state.range(0)));
    (void)age_guest(*allocator, age, kSeed);
    state.ResumeTiming();
    pages += drain(*allocator, order) << order;
    state.PauseTiming();
    allocator.reset();
    state.ResumeTiming();
  }
  report_pages(state, pages);
}
BENCHMARK(Allocate)
    ->ArgNames({"gib", "age", "order"})
    ->ArgsProduct({{1, 8}, kAges, {0}})
    ->Args({8, static_cast<int>(GuestAge::kIdle), 10})
    ->Iterations(5)
    ->Unit(benchmark::kMillisecond);

void Free(benchmark::State& state) {
  PageAllocator allocator(make_zone(state.range(0)));
  (void)age_guest(allocator, static_cast<GuestAge>(state.range(1)), kSeed);
  std::vector<Block> blocks = take_all_pages(allocator);
  arrange(blocks, static_cast<FreeOrder>(state.range(2)));
  std::uint64_t pages = 0;
  for (auto _ : state) {
    for (const Block& block : blocks) allocator.free(block);
    state.PauseTiming();
    pages += drain(allocator, 0);
    state.ResumeTiming();
  }
  report_pages(state, pages);
}
BENCHMARK(Free)
    ->ArgNames({"gib", "age", "sequence"})
    ->ArgsProduct({{1, 8}, kAges, kFreeOrders})
    ->Unit(benchmark::kMillisecond);

}  // namespace
