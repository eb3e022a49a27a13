// SPDX-License-Identifier: MIT
#include "limit.h"

#include <fmt/format.h>

#include <array>
#include <chrono>

#include "machine_facts.h"
#include "oracle.h"
#include "sizes.h"

namespace vballoon::tool {

Result<double> measure_limit(const CompareOptions& options, std::uint64_t bytes, const Tick& tick) {
  const std::uint64_t unit = options.backing == Backing::kHugetlb ? kHugePageBytes : kPageSize;
  const std::array layout{RegionLayout{0, (bytes + unit - 1) / unit * unit}};
  auto memory = GuestMemory::allocate(layout, {options.backing, options.thp});
  if (!memory) return tl::unexpected(memory.error());
  if (!Oracle(*memory, options.seed).mark_all(tick)) return 0.0;

  const MemoryRegion& region = (*memory)->regions().front();
  const std::array runs{HostRun{region.host, region.bytes, &region}};
  const auto discarder = make_kernel_discarder({.strategy = DiscardStrategy::kMerged});
  DiscardReport report;
  const auto begin = std::chrono::steady_clock::now();
  discarder->discard(runs, report);
  const auto end = std::chrono::steady_clock::now();
  if (!report.failures.empty()) {
    return fail(Errc::kDiscardFailed, fmt::format("{} in one call", format_bytes(region.bytes)),
                report.failures.front().os_error);
  }
  return to_ms(end - begin);
}

}  // namespace vballoon::tool
