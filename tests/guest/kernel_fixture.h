// SPDX-License-Identifier: MIT
// A guest kernel with 16 MiB: 4096 pages and the watermarks 128, 160 and 192.
#ifndef VBALLOON_TESTS_GUEST_KERNEL_FIXTURE_H_
#define VBALLOON_TESTS_GUEST_KERNEL_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "base/page_ranges.h"
#include "vballoon/guest_memory.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/sim/memory_statistics.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::testing {

inline constexpr std::uint32_t kKernelPages = 4096;
inline constexpr std::uint32_t kKernelMin = 128;
inline constexpr std::uint32_t kKernelLow = 160;
inline constexpr std::uint32_t kKernelHigh = 192;

struct KernelRig {
  explicit KernelRig(const sim::GuestKernelOptions& options = {}) : kernel(allocator, options) {}

  [[nodiscard]] std::uint64_t count(sim::MemoryStatistic tag) const {
    return kernel.statistics()[tag];
  }
  [[nodiscard]] std::uint64_t pages(sim::MemoryStatistic tag) const {
    return kernel.statistics()[tag] >> kPageShift;
  }
  // Reads pages of file 1, from its beginning, until that many pages are free.
  void fill_cache(std::uint32_t free_pages) {
    ASSERT_TRUE(kernel.read_file(1, 0, kKernelPages - free_pages));
  }
  // A process that has all but that many pages.
  sim::ProcessId fill_with_process(std::uint32_t free_pages) {
    const sim::ProcessId process = kernel.start_process();
    EXPECT_TRUE(kernel.touch(process, 0, kKernelPages - free_pages));
    return process;
  }

  sim::PageAllocator allocator{PageRanges{{0, kKernelPages}}};
  sim::GuestKernel kernel;
};

// The same with memory behind it.
[[nodiscard]] inline std::shared_ptr<const GuestMemory> kernel_memory() {
  return GuestMemory::allocate(
             std::vector<RegionLayout>{{0, std::uint64_t{kKernelPages} << kPageShift}})
      .value();
}

class GuestKernelTest : public ::testing::Test {
 protected:
  KernelRig rig_;
  sim::GuestKernel& kernel_ = rig_.kernel;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_GUEST_KERNEL_FIXTURE_H_
