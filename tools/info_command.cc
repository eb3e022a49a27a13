// SPDX-License-Identifier: MIT
#include "info_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <nlohmann/json.hpp>
#include <vector>

#include "figures.h"
#include "machine_facts.h"
#include "oracle.h"
#include "outcome.h"
#include "sizes.h"
#include "vballoon/discarder.h"

namespace vballoon::tool {
namespace {

constexpr std::uint64_t kProbeBytes = 64 * kMiB;
constexpr int kProbes = 3;

// Nanoseconds a page to discard every other page of fresh memory; the median of some tries.
Result<double> scattered_ns(DiscardStrategy strategy) {
  std::vector<double> times;
  for (int probe = 0; probe < kProbes; ++probe) {
    const std::array layout{RegionLayout{0, kProbeBytes}};
    const auto memory = GuestMemory::allocate(layout, {Backing::kAnonymous, ThpMode::kOff});
    if (!memory) return tl::unexpected(memory.error());
    static_cast<void>(Oracle(*memory, 1).mark_all([](double) { return true; }));
    const MemoryRegion& region = (*memory)->regions().front();
    std::vector<HostRun> runs;
    for (std::uint64_t at = 0; at < region.bytes; at += 2 * kPageSize) {
      runs.push_back({region.host + at, kPageSize, &region});
    }
    const auto discarder = make_kernel_discarder({.strategy = strategy});
    DiscardReport report;
    const auto begin = std::chrono::steady_clock::now();
    discarder->discard(runs, report);
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
    times.push_back(took.count() / static_cast<double>(runs.size()));
  }
  return median_of(std::move(times));
}

}  // namespace

int run_info(bool json, std::FILE* out) {
  const MachineFacts facts = read_machine_facts();
  const auto single = scattered_ns(DiscardStrategy::kPerPage);
  const auto vectored = scattered_ns(DiscardStrategy::kVectored);
  if (!single || !vectored) {
    fmt::print(stderr, "error: {}\n", (single ? vectored.error() : single.error()).message());
    return kExitFailed;
  }
  if (json) {
    const nlohmann::ordered_json document{
        {"schema", "vballoon.info/1"},
        {"kernel", facts.kernel},
        {"processor", facts.processor},
        {"processors", facts.processors},
        {"memory_bytes", facts.memory_bytes},
        {"available_bytes", facts.available_bytes},
        {"transparent_huge_pages", facts.transparent_huge_pages},
        {"huge_pages_total", facts.huge_pages_total},
        {"huge_pages_free", facts.huge_pages_free},
        {"vectored_discard", facts.vectored_discard},
        {"healing", facts.healing},
        {"scattered_discard_ns_per_page", {{"per-page", *single}, {"vectored", *vectored}}}};
    fmt::print(out, "{}\n", document.dump(2));
    return kExitDone;
  }
  fmt::print(out, "kernel                  {}\n", facts.kernel);
  fmt::print(out, "processor               {} x {}\n", facts.processors, facts.processor);
  fmt::print(out, "memory                  {}, {} available\n", format_bytes(facts.memory_bytes),
             format_bytes(facts.available_bytes));
  fmt::print(out, "transparent huge pages  {}\n", facts.transparent_huge_pages);
  fmt::print(out, "pool of huge pages      {} of {} pages of 2 MiB free\n", facts.huge_pages_free,
             facts.huge_pages_total);
  fmt::print(out, "vectored discard        {}\n",
             facts.vectored_discard ? "yes" : "no (Linux 6.13 or later has it)");
  fmt::print(out, "split huge pages heal   {}\n",
             facts.healing ? "yes" : "no (Linux 6.14 or later on x86-64, with huge pages)");
  fmt::print(out,
             "scattered pages         {:.0f} ns each one by one, {:.0f} ns vectored: {:.1f}x\n",
             *single, *vectored, *single / *vectored);
  return kExitDone;
}

}  // namespace vballoon::tool
