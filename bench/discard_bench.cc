// SPDX-License-Identifier: MIT
// What does it cost to give memory back, for each strategy, pattern of runs and kind of memory,
// and how much more when another thread of the process is running (its TLB must be flushed)?
//
// Only the discard is timed. Each iteration starts from memory that was just mapped and touched:
// huge pages that were once given back in pieces would not come back.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "vballoon/discarder.h"
#include "vballoon/guest_memory.h"

namespace vballoon {
namespace {

constexpr std::uint64_t kBytes = std::uint64_t{32} << 20;
constexpr std::uint64_t kBusyBytes = std::uint64_t{16} << 20;
constexpr std::size_t kMessagePages = 256;  // what a classic driver sends at once
constexpr int kIterations = 2;

// How the memory is cut into runs, and the runs into calls of discard().
struct Pattern {
  const char* name;
  std::uint64_t run_bytes;
  std::uint64_t stride_bytes;
  std::size_t runs_a_call;
};
constexpr std::uint64_t kPiece = std::uint64_t{4} << 20;
constexpr std::array kPatterns{
    Pattern{"contiguous", kBytes, kBytes, 1},
    Pattern{"every_other_page", kPageSize, 2 * kPageSize, kBytes / kPageSize / 2},
    Pattern{"pieces_of_4MiB", kPiece, kPiece, kBytes / kPiece},
    Pattern{"messages_of_256_pages", kPageSize, kPageSize, kMessagePages},
};

// Of huge pages that only go back whole.
constexpr std::uint64_t kHugePage = std::uint64_t{2} << 20;
constexpr std::array kHugePatterns{
    Pattern{"contiguous", kBytes, kBytes, 1},
    Pattern{"every_other_2MiB", kHugePage, 2 * kHugePage, kBytes / kHugePage / 2},
    Pattern{"pieces_of_4MiB", kPiece, kPiece, kBytes / kPiece},
};

struct Memory {
  const char* name;
  AllocateOptions options;
  std::span<const Pattern> patterns;
};
constexpr std::array kMemories{
    Memory{"anonymous/thp:off", {Backing::kAnonymous, ThpMode::kOff}, kPatterns},
    Memory{"anonymous/thp:on", {Backing::kAnonymous, ThpMode::kOn}, kPatterns},
    Memory{"memfd/thp:off", {Backing::kMemfd, ThpMode::kOff}, kPatterns},
    Memory{"hugetlb/thp:off", {Backing::kHugetlb, ThpMode::kOff}, kHugePatterns},
};

std::shared_ptr<const GuestMemory> map(std::uint64_t bytes, const AllocateOptions& options) {
  return GuestMemory::allocate(std::array{RegionLayout{0, bytes}}, options).value();
}

void touch(const GuestMemory& memory) {
  const MemoryRegion& region = memory.regions()[0];
  for (std::uint64_t at = 0; at < region.bytes; at += kPageSize) region.host[at] = std::byte{1};
}

std::vector<HostRun> runs_of(const GuestMemory& memory, const Pattern& pattern) {
  const MemoryRegion& region = memory.regions()[0];
  std::vector<HostRun> runs;
  for (std::uint64_t at = 0; at < region.bytes; at += pattern.stride_bytes) {
    runs.push_back({region.host + at, pattern.run_bytes, &region});
  }
  return runs;
}

// A vCPU that keeps touching memory of its own.
class BusyThread {
 public:
  ~BusyThread() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::shared_ptr<const GuestMemory> memory_ = map(kBusyBytes, {});
  std::thread thread_{[this] {
    while (!stop_) touch(*memory_);
  }};
};

void run(benchmark::State& state, DiscardStrategy strategy, const Pattern& pattern,
         const AllocateOptions& options) {
  if (const auto memory = GuestMemory::allocate(std::array{RegionLayout{0, kBytes}}, options);
      !memory) {
    state.SkipWithError(memory.error().message().c_str());  // no huge pages reserved
    return;
  }
  const auto discarder = make_kernel_discarder({strategy});
  DiscardReport report;
  for (auto _ : state) {
    const auto memory = map(kBytes, options);
    touch(*memory);
    const std::vector<HostRun> runs = runs_of(*memory, pattern);

    const auto start = std::chrono::steady_clock::now();
    for (std::span<const HostRun> rest(runs); !rest.empty();) {
      const std::size_t count = std::min(pattern.runs_a_call, rest.size());
      discarder->discard(rest.first(count), report);
      rest = rest.subspan(count);
    }
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    state.SetIterationTime(elapsed.count());
  }
  const auto pages = static_cast<double>(report.freed_bytes >> kPageShift);
  state.counters["time_a_page"] =
      benchmark::Counter(pages, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["calls"] =
      benchmark::Counter(static_cast<double>(report.calls), benchmark::Counter::kAvgIterations);
  if (!report.failures.empty()) state.SkipWithError("the kernel refused a discard");
}

void add(DiscardStrategy strategy, const Pattern& pattern, const Memory& memory, bool busy) {
  const std::string name = "Discard/strategy:" + std::string(to_string(strategy)) +
                           "/pattern:" + pattern.name + "/backing:" + memory.name +
                           "/busy:" + (busy ? "yes" : "no");
  benchmark::RegisterBenchmark(name.c_str(),
                               [=](benchmark::State& state) {
                                 const auto vcpu = busy ? std::make_unique<BusyThread>() : nullptr;
                                 run(state, strategy, pattern, memory.options);
                               })
      ->UseManualTime()
      ->Iterations(kIterations)
      ->Unit(benchmark::kMillisecond);
}

[[maybe_unused]] const bool added = [] {
  for (const Memory& memory : kMemories) {
    for (const Pattern& pattern : memory.patterns) {
      for (const bool busy : {false, true}) {
        for (const auto strategy :
             {DiscardStrategy::kPerPage, DiscardStrategy::kMerged, DiscardStrategy::kVectored}) {
          add(strategy, pattern, memory, busy);
        }
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace vballoon
