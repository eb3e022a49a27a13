// SPDX-License-Identifier: MIT
// Pages as runs of host memory and back, and what a ledger books when the kernel has had them.
#ifndef VBALLOON_SRC_DEVICE_HOST_RUNS_H_
#define VBALLOON_SRC_DEVICE_HOST_RUNS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "device/ledger.h"
#include "vballoon/discarder.h"
#include "vballoon/guest_memory.h"
#include "vballoon/page_range.h"

namespace vballoon {

inline HostRun host_run(const MemoryRegion& region, PageRange pages) {
  return {region.host + ((pages.first << kPageShift) - region.guest_address),
          static_cast<std::size_t>(pages.bytes()), &region};
}

// By the index in the dense table over all regions.
inline PageRange dense_pages(const HostRun& run) {
  const auto offset = static_cast<std::uint64_t>(run.address - run.region->host);
  return {run.region->first_page_index + (offset >> kPageShift), run.length >> kPageShift};
}

// Pays for runs, which ascend, but for the parts that the kernel refused: these go to
// on_refused(pages). Returns how many pages were owed and no longer are. Both ascend once the
// failures are sorted, so that one pass over each is enough, however many there are.
template <typename OnRefused>
std::uint64_t settle_runs(std::span<const HostRun> runs, std::vector<DiscardFailure>& failures,
                          Ledger& ledger, OnRefused on_refused) {
  const auto first_page = [](const DiscardFailure& f) { return dense_pages(f.run).first; };
  std::ranges::sort(failures, {}, first_page);
  std::uint64_t paid = 0;
  auto failure = failures.begin();
  for (const HostRun& run : runs) {
    const PageRange pages = dense_pages(run);
    std::uint64_t paid_up_to = pages.first;
    for (; failure != failures.end() && first_page(*failure) < pages.end(); ++failure) {
      const PageRange refused = dense_pages(failure->run);
      paid += ledger.settle({paid_up_to, refused.first - paid_up_to});
      on_refused(refused);
      paid_up_to = refused.end();
    }
    paid += ledger.settle({paid_up_to, pages.end() - paid_up_to});
  }
  return paid;
}

}  // namespace vballoon

#endif  // VBALLOON_SRC_DEVICE_HOST_RUNS_H_
