// SPDX-License-Identifier: MIT
// What does it save to have a guest drop its page cache before an inflate that wants three quarters
// of its memory, all of which is cache? The times are of the request and the inflate; file pages
// that were used once, or again.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/page_ranges.h"
#include "vballoon/discarder.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/sim/machine.h"

namespace vballoon {
namespace {

constexpr std::uint32_t kGuestPages = (1 << 30) >> kPageShift;
constexpr std::uint32_t kFreePages = (32 << 20) >> kPageShift;

// A guest whose memory is full of a file.
class Guest {
 public:
  explicit Guest(bool used_again) {
    touch_all();  // before the driver writes its rings
    sim::MachineOptions options;
    options.device.dialect = Dialect::kPageBitmap;
    options.device.guest_requests = true;
    options.device.features = options.device.features.with(Feature::kStatsVq);
    options.driver.features = options.device.features;
    options.driver.kernel = &kernel_;
    options.notify = sim::NotifyMode::kDirect;
    machine_ = sim::Machine::start(memory_, allocator_, make_kernel_discarder(), options).value();
    for (int i = 0; i < (used_again ? 2 : 1); ++i) {
      (void)kernel_.read_file(1, 0, kGuestPages - kFreePages);
    }
  }

  void drop_cache() {
    (void)machine_->device().request_cache_drop(CacheKinds::kPageCache);
    while (machine_->device().cache_drop_pending()) {
      machine_->settle();
      (void)machine_->driver().step(std::chrono::nanoseconds(0));
    }
  }
  std::uint64_t inflate() { return machine_->resize(kGuestPages / 4 * 3).value().pages; }
  sim::MemoryStatistics statistics() const { return kernel_.statistics(); }

 private:
  void touch_all() {
    std::byte* const host = memory_->host(0, std::uint64_t{kGuestPages} << kPageShift);
    for (std::uint64_t page = 0; page < kGuestPages; ++page)
      host[page << kPageShift] = std::byte{1};
  }

  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(
          std::vector<RegionLayout>{{0, std::uint64_t{kGuestPages} << kPageShift}},
          {Backing::kAnonymous, ThpMode::kOff})
          .value();
  sim::PageAllocator allocator_{PageRanges{{0, kGuestPages}}};
  sim::GuestKernel kernel_{allocator_};
  std::unique_ptr<sim::Machine> machine_;
};

void InflateFullOfCache(benchmark::State& state) {
  std::uint64_t pages = 0;
  std::uint64_t stalls = 0;
  std::uint64_t scanned = 0;
  for (auto _ : state) {
    Guest guest(state.range(0) != 0);
    const auto begin = std::chrono::steady_clock::now();
    if (state.range(1) != 0) guest.drop_cache();
    pages += guest.inflate();
    state.SetIterationTime(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    stalls += guest.statistics()[sim::MemoryStatistic::kAllocationStalls];
    scanned += guest.statistics()[sim::MemoryStatistic::kDirectScan] >> kPageShift;
  }
  const auto mean = benchmark::Counter::kAvgIterations;
  state.counters["pages"] = benchmark::Counter(static_cast<double>(pages), mean);
  state.counters["stalls"] = benchmark::Counter(static_cast<double>(stalls), mean);
  state.counters["scanned"] = benchmark::Counter(static_cast<double>(scanned), mean);
}
BENCHMARK(InflateFullOfCache)
    ->ArgNames({"used_again", "dropped"})
    ->ArgsProduct({{0, 1}, {0, 1}})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace vballoon
