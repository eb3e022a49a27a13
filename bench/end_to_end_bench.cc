// SPDX-License-Identifier: MIT
// What does a resize take from the new target to the last byte, in each dialect and with both ways
// of notifying: many pages at once (by page), and a few (by resize)?
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/page_ranges.h"
#include "vballoon/discarder.h"
#include "vballoon/sim/machine.h"

namespace {

using vballoon::Dialect;
using vballoon::GuestMemory;
using vballoon::PageRange;
using vballoon::PageRanges;
using vballoon::RegionLayout;
using vballoon::sim::Block;
using vballoon::sim::Machine;
using vballoon::sim::MachineOptions;
using vballoon::sim::NotifyMode;
using vballoon::sim::PageAllocator;
using vballoon::sim::ResizeReport;

constexpr std::uint64_t kGuestPages = (256 << 20) >> vballoon::kPageShift;
constexpr std::uint64_t kInflatePages = kGuestPages / 8 * 7;

class Guest {
 public:
  Guest(std::int64_t dialect, std::int64_t notify) {
    MachineOptions options;
    options.device.dialect = static_cast<Dialect>(dialect);
    options.notify = static_cast<NotifyMode>(notify);
    touch({0, kGuestPages});
    machine_ =
        Machine::start(memory_, allocator_, vballoon::make_kernel_discarder(), options).value();
  }

  ResizeReport resize(std::uint64_t pages) { return machine_->resize(pages).value(); }

  // Empties the balloon and uses its pages again, so that there is something to give back.
  void refill() {
    PageRanges balloon;
    machine_->driver().for_each_block([&](Block block) { balloon.push_back(block.pages()); });
    resize(0);
    for (const PageRange& run : balloon) touch(run);
  }

  void touch(PageRange pages) {
    std::byte* const host = memory_->host(pages.first << vballoon::kPageShift, pages.bytes());
    for (std::uint64_t at = 0; at < pages.bytes(); at += vballoon::kPageSize) {
      host[at] = std::byte{1};
    }
  }

 private:
  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, kGuestPages << vballoon::kPageShift}},
                            {vballoon::Backing::kAnonymous, vballoon::ThpMode::kOff})
          .value();
  PageAllocator allocator_{PageRanges{{0, kGuestPages}}};
  std::unique_ptr<Machine> machine_;
};

double seconds(std::chrono::nanoseconds time) {
  return std::chrono::duration<double>(time).count();
}

// The stages of all resizes that were timed, by page.
class Stages {
 public:
  void add(const ResizeReport& report) {
    pages_ += static_cast<double>(report.pages);
    allocate_ += seconds(report.stages.allocate);
    send_ += seconds(report.stages.send);
    translate_ += seconds(report.stages.translate);
    discard_ += seconds(report.stages.discard);
  }
  void report_to(benchmark::State& state) const {
    state.counters["allocate_s_per_page"] = allocate_ / pages_;
    state.counters["send_s_per_page"] = send_ / pages_;
    state.counters["translate_s_per_page"] = translate_ / pages_;
    state.counters["discard_s_per_page"] = discard_ / pages_;
  }

 private:
  double pages_ = 0;
  double allocate_ = 0;
  double send_ = 0;
  double translate_ = 0;
  double discard_ = 0;
};

void Inflate(benchmark::State& state) {
  Guest guest(state.range(0), state.range(1));
  Stages stages;
  for (auto _ : state) {
    const ResizeReport report = guest.resize(kInflatePages);
    state.SetIterationTime(seconds(report.wall));
    stages.add(report);
    guest.refill();
  }
  stages.report_to(state);
}

void Deflate(benchmark::State& state) {
  Guest guest(state.range(0), state.range(1));
  Stages stages;
  for (auto _ : state) {
    guest.resize(kInflatePages);
    const ResizeReport report = guest.resize(0);
    state.SetIterationTime(seconds(report.wall));
    stages.add(report);
  }
  stages.report_to(state);
}

// Until the driver saw its last answer: for a few pages the waiting is what costs.
void SmallInflate(benchmark::State& state) {
  Guest guest(state.range(0), state.range(1));
  const auto pages = static_cast<std::uint64_t>(state.range(2));
  double bytes = 0;
  double messages = 0;
  for (auto _ : state) {
    const ResizeReport report = guest.resize(pages);
    state.SetIterationTime(seconds(report.guest));
    bytes += static_cast<double>(report.device.queue_bytes);
    messages += static_cast<double>(report.driver.messages);
    guest.refill();
  }
  const auto mean = benchmark::Counter::kAvgIterations;
  state.counters["bytes"] = benchmark::Counter(bytes, mean);
  state.counters["messages"] = benchmark::Counter(messages, mean);
}

const std::vector<std::int64_t> kDialects{static_cast<std::int64_t>(Dialect::kStandard),
                                          static_cast<std::int64_t>(Dialect::kPageBitmap),
                                          static_cast<std::int64_t>(Dialect::kScatterGather)};
const std::vector<std::int64_t> kNotify{static_cast<std::int64_t>(NotifyMode::kDirect),
                                        static_cast<std::int64_t>(NotifyMode::kEventfd)};

BENCHMARK(Inflate)
    ->ArgNames({"dialect", "eventfd"})
    ->ArgsProduct({kDialects, kNotify})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(Deflate)
    ->ArgNames({"dialect", "eventfd"})
    ->ArgsProduct({kDialects, kNotify})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(SmallInflate)
    ->ArgNames({"dialect", "eventfd", "pages"})
    ->ArgsProduct({kDialects, kNotify, {1, 16, 64, 256, 4096}})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
