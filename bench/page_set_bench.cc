// SPDX-License-Identifier: MIT
// What does a set of page numbers that may be anywhere in 64 bits cost a driver for each page, next
// to one bitmap over all of the guest?
//
// One operation of a driver: pages are added one by one as an allocator gives them, found run by
// run and removed. `sparse` is what the driver has, `flat` a bitmap that must be as long as guest
// memory ends, holes and all.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "base/page_set.h"
#include "guest/sparse_page_set.h"

namespace vballoon {
namespace {

constexpr std::uint64_t kGuestPages = std::uint64_t{8} << (30 - kPageShift);
constexpr std::uint64_t kPages = kGuestPages / 8;

// Where the adapters below differ.
struct Flat {
  PageSet set{kGuestPages};
  void add(Pfn page) { set.add(page); }
  void remove(PageRange pages) { set.remove(pages); }
  PageRange next_run(Pfn from) const { return set.next_run(from, kGuestPages); }
};
struct Sparse {
  sim::SparsePageSet set;
  void add(Pfn page) { set.add(page); }
  void remove(PageRange pages) { set.remove(pages); }
  PageRange next_run(Pfn from) const { return set.next_run(from, kGuestPages); }
};

std::vector<Pfn> make_pages(const std::string& pattern) {
  std::vector<Pfn> pages(kPages);
  const std::uint64_t step = pattern == "contiguous" ? 1 : pattern == "alternate" ? 2 : 8;
  for (std::uint64_t i = 0; i < kPages; ++i) pages[i] = i * step;
  if (pattern == "random") std::shuffle(pages.begin(), pages.end(), std::mt19937_64(1));
  return pages;
}

template <typename Set>
void Operation(benchmark::State& state, const std::string& pattern) {
  const std::vector<Pfn> pages = make_pages(pattern);
  Set set;
  for (auto _ : state) {
    for (const Pfn page : pages) set.add(page);
    for (PageRange run = set.next_run(0); run.count != 0; run = set.next_run(run.end())) {
      set.remove(run);
    }
  }
  state.counters["s_per_page"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * static_cast<double>(kPages),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

[[maybe_unused]] const bool registered = [] {
  for (const std::string pattern : {"contiguous", "alternate", "random"}) {
    benchmark::RegisterBenchmark(("Operation/set:flat/pattern:" + pattern).c_str(), Operation<Flat>,
                                 pattern);
    benchmark::RegisterBenchmark(("Operation/set:sparse/pattern:" + pattern).c_str(),
                                 Operation<Sparse>, pattern);
  }
  return true;
}();

}  // namespace
}  // namespace vballoon
