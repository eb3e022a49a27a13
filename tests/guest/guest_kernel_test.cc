// SPDX-License-Identifier: MIT
// Processes, files and the statistics of a guest with enough memory (src/guest/guest_kernel.cc,
// user_pages.cc).
#include "vballoon/sim/guest_kernel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "guest/kernel_fixture.h"
#include "vballoon/page_range.h"
#include "vballoon/sim/memory_statistics.h"
#include "vballoon/sim/page_allocator.h"
#include "vballoon/sim/page_poison.h"

namespace vballoon::sim {
namespace {

using ::testing::Each;
using testing::GuestKernelTest;
using testing::kernel_memory;
using testing::KernelRig;
using testing::kKernelHigh;
using testing::kKernelLow;
using testing::kKernelPages;
using enum MemoryStatistic;

TEST_F(GuestKernelTest, FreshGuestHasAllItsMemory) {
  EXPECT_EQ(rig_.pages(kTotalMemory), kKernelPages);
  EXPECT_EQ(rig_.pages(kFreeMemory), kKernelPages);
  EXPECT_EQ(rig_.pages(kAvailableMemory), kKernelPages - kKernelHigh);
}

TEST_F(GuestKernelTest, NothingElseHasHappenedInAFreshGuest) {
  MemoryStatistics statistics = kernel_.statistics();
  statistics[kTotalMemory] = statistics[kFreeMemory] = statistics[kAvailableMemory] = 0;

  EXPECT_THAT(statistics.values, Each(0u));
}

TEST_F(GuestKernelTest, PageTouchedForTheFirstTimeIsAFault) {
  EXPECT_TRUE(kernel_.touch(kernel_.start_process(), 0, 10));

  EXPECT_EQ(rig_.count(kMinorFaults), 10u);
  EXPECT_EQ(rig_.count(kMajorFaults), 0u);
  EXPECT_EQ(rig_.pages(kFreeMemory), kKernelPages - 10u);
}

TEST_F(GuestKernelTest, PageTouchedAgainIsNoFault) {
  const ProcessId process = kernel_.start_process();
  (void)kernel_.touch(process, 5, 10);

  EXPECT_TRUE(kernel_.touch(process, 0, 10));

  EXPECT_EQ(rig_.count(kMinorFaults), 15u);
}

TEST_F(GuestKernelTest, ProcessesHaveMemoryOfTheirOwn) {
  const ProcessId one = kernel_.start_process();
  const ProcessId other = kernel_.start_process();

  (void)kernel_.touch(one, 0, 10);
  (void)kernel_.touch(other, 0, 20);

  EXPECT_EQ(kernel_.resident_pages(one), 10u);
  EXPECT_EQ(kernel_.resident_pages(other), 20u);
}

TEST_F(GuestKernelTest, UnmappedPagesAreFree) {
  const ProcessId process = kernel_.start_process();
  (void)kernel_.touch(process, 0, 10);

  kernel_.unmap(process, 4, 1000);

  EXPECT_EQ(rig_.pages(kFreeMemory), kKernelPages - 4u);
  EXPECT_EQ(kernel_.resident_pages(process), 4u);
}

TEST_F(GuestKernelTest, EndedProcessHasNothing) {
  const ProcessId process = kernel_.start_process();
  (void)kernel_.touch(process, 0, 10);
  (void)kernel_.take_huge_pages(process, 2);

  kernel_.exit(process);

  EXPECT_EQ(rig_.pages(kFreeMemory), kKernelPages);
  EXPECT_FALSE(kernel_.alive(process));
}

TEST_F(GuestKernelTest, EndedProcessTouchesNothing) {
  const ProcessId process = kernel_.start_process();
  kernel_.exit(process);

  EXPECT_FALSE(kernel_.touch(process, 0, 1));
  EXPECT_EQ(kernel_.take_huge_pages(process, 1), 0u);

  EXPECT_EQ(rig_.pages(kFreeMemory), kKernelPages);
}

TEST_F(GuestKernelTest, FilePageThatIsReadIsAMajorFaultAndCached) {
  EXPECT_TRUE(kernel_.read_file(7, 0, 10));

  EXPECT_EQ(rig_.count(kMajorFaults), 10u);
  EXPECT_EQ(rig_.count(kMinorFaults), 10u);
  EXPECT_EQ(rig_.pages(kCaches), 10u);
}

TEST_F(GuestKernelTest, CachedFilePageIsReadWithoutAFault) {
  (void)kernel_.read_file(7, 0, 10);

  EXPECT_TRUE(kernel_.read_file(7, 5, 10));

  EXPECT_EQ(rig_.count(kMajorFaults), 15u);
}

TEST_F(GuestKernelTest, FilesAreApart) {
  (void)kernel_.read_file(7, 0, 10);
  (void)kernel_.read_file(8, 0, 10);

  EXPECT_EQ(rig_.pages(kCaches), 20u);
}

TEST_F(GuestKernelTest, WrittenFilePageIsCachedAndDirtyWithoutAFault) {
  EXPECT_TRUE(kernel_.write_file(7, 0, 10));

  EXPECT_EQ(rig_.pages(kCaches), 10u);
  EXPECT_EQ(kernel_.dirty_pages(), 10u);
  EXPECT_EQ(rig_.count(kMinorFaults), 0u);
}

TEST_F(GuestKernelTest, CachedPageThatIsWrittenIsDirtyOnce) {
  (void)kernel_.read_file(7, 0, 10);

  (void)kernel_.write_file(7, 0, 4);
  (void)kernel_.write_file(7, 2, 4);

  EXPECT_EQ(kernel_.dirty_pages(), 6u);
}

TEST_F(GuestKernelTest, SyncLeavesNoDirtyPage) {
  (void)kernel_.write_file(7, 0, 10);

  EXPECT_EQ(kernel_.sync(), 10u);

  EXPECT_EQ(kernel_.dirty_pages(), 0u);
  EXPECT_EQ(rig_.pages(kCaches), 10u);
}

TEST_F(GuestKernelTest, HalfOfTheCacheOrTheLowWatermarkOfItIsNotAvailable) {
  (void)kernel_.read_file(7, 0, 1000);
  const std::uint64_t with_much = rig_.pages(kAvailableMemory);
  KernelRig other;
  (void)other.kernel.read_file(7, 0, 10);

  EXPECT_EQ(with_much, kKernelPages - kKernelHigh - kKernelLow);
  EXPECT_EQ(other.pages(kAvailableMemory), kKernelPages - kKernelHigh - 5u);
}

TEST_F(GuestKernelTest, HugePagesAreCounted) {
  const ProcessId process = kernel_.start_process();

  EXPECT_EQ(kernel_.take_huge_pages(process, 3), 3u);

  EXPECT_EQ(rig_.count(kHugetlbAllocations), 3u);
  EXPECT_EQ(rig_.count(kHugetlbFailures), 0u);
  EXPECT_EQ(rig_.pages(kFreeMemory), kKernelPages - 3u * 512);
}

TEST_F(GuestKernelTest, HugePageThatCannotBeHadIsCountedAndEndsTheRequest) {
  const ProcessId process = kernel_.start_process();

  EXPECT_EQ(kernel_.take_huge_pages(process, 100), 7u);  // the eighth is below the minimum

  EXPECT_EQ(rig_.count(kHugetlbAllocations), 7u);
  EXPECT_EQ(rig_.count(kHugetlbFailures), 1u);
  EXPECT_EQ(rig_.count(kOomKills), 0u);
}

TEST_F(GuestKernelTest, BalloonLowersTheTotalAndNothingElse) {
  kernel_.adjust_managed_pages(-100);
  kernel_.adjust_managed_pages(30);

  EXPECT_EQ(rig_.pages(kTotalMemory), kKernelPages - 70u);
  EXPECT_EQ(rig_.pages(kFreeMemory), kKernelPages);
}

TEST_F(GuestKernelTest, MemoryOfADriverIsNotFreeUntilItIsGivenBack) {
  const std::optional<Block> block = kernel_.allocate(3, AllocationEffort::kNoRetry);
  const std::uint64_t meanwhile = rig_.pages(kFreeMemory);

  kernel_.free(*block);

  EXPECT_EQ(meanwhile, kKernelPages - 8u);
  EXPECT_EQ(rig_.pages(kFreeMemory), kKernelPages);
}

// A kernel that fills the pages of its processes and files.
class GuestContentsTest : public ::testing::Test {
 protected:
  // Takes all pages, as a host that should not.
  void zero_memory() const {
    for (Pfn pfn = 0; pfn < kKernelPages; ++pfn) {
      ASSERT_TRUE(memory_->write(pfn << kPageShift, std::array<std::byte, kPageSize>{}));
    }
  }

  std::shared_ptr<const GuestMemory> memory_ = kernel_memory();
  PagePoison poison_{memory_, kPagePoisonByte};
};

TEST_F(GuestContentsTest, PagesHoldWhatWasPutThere) {
  KernelRig rig({.memory = memory_});

  (void)rig.kernel.touch(rig.kernel.start_process(), 0, 10);
  (void)rig.kernel.read_file(0, 0, 10);

  EXPECT_EQ(rig.kernel.damaged_pages(), 0u);
}

TEST_F(GuestContentsTest, PagesThatTheHostTookAreDamaged) {
  KernelRig rig({.memory = memory_});
  (void)rig.kernel.touch(rig.kernel.start_process(), 0, 10);
  (void)rig.kernel.read_file(0, 0, 10);

  zero_memory();

  EXPECT_EQ(rig.kernel.damaged_pages(), 20u);
}

TEST_F(GuestContentsTest, PagesThatAreNotInUseCannotBeDamaged) {
  KernelRig rig({.memory = memory_});
  const ProcessId process = rig.kernel.start_process();
  (void)rig.kernel.touch(process, 0, 10);
  rig.kernel.exit(process);

  zero_memory();

  EXPECT_EQ(rig.kernel.damaged_pages(), 0u);
}

TEST_F(GuestContentsTest, WithoutMemoryNothingIsDamaged) {
  KernelRig rig;

  (void)rig.kernel.touch(rig.kernel.start_process(), 0, 10);

  EXPECT_EQ(rig.kernel.damaged_pages(), 0u);
}

TEST_F(GuestContentsTest, PoisonSeesPagesComeAndGo) {
  KernelRig rig({.memory = memory_, .poison = &poison_});
  poison_.fill_free_pages(rig.allocator);

  const ProcessId process = rig.kernel.start_process();
  (void)rig.kernel.touch(process, 0, 100);
  (void)rig.kernel.take_huge_pages(process, 1);
  rig.kernel.exit(process);
  rig.kernel.free(*rig.kernel.allocate(kMaxOrder, AllocationEffort::kFreeOnly));

  EXPECT_EQ(poison_.violations(), 0u);
}

TEST_F(GuestContentsTest, PoisonSeesWhatTheHostDidToAFreePage) {
  KernelRig rig({.memory = memory_, .poison = &poison_});
  poison_.fill_free_pages(rig.allocator);

  zero_memory();
  (void)rig.kernel.touch(rig.kernel.start_process(), 0, 3);

  EXPECT_EQ(poison_.violations(), 3u);
}

// ---- /proc/sys/vm/drop_caches -------------------------------------------------------------------

TEST_F(GuestKernelTest, DropOfThePageCacheTakesCleanPagesAndLeavesDirtyOnes) {
  ASSERT_TRUE(kernel_.read_file(1, 0, 100));
  ASSERT_TRUE(kernel_.write_file(2, 0, 10));

  EXPECT_EQ(kernel_.drop_caches(CacheKinds::kPageCache), 100u);

  EXPECT_EQ(rig_.pages(kCaches), 10u);
  EXPECT_EQ(kernel_.dirty_pages(), 10u);
  EXPECT_EQ(rig_.pages(kFreeMemory), kKernelPages - 10u);
}

TEST_F(GuestKernelTest, PagesThatWereWrittenToDiskCanBeDropped) {
  ASSERT_TRUE(kernel_.write_file(2, 0, 10));
  (void)kernel_.sync();

  EXPECT_EQ(kernel_.drop_caches(CacheKinds::kBoth), 10u);
}

TEST_F(GuestKernelTest, DropTakesPagesThatWereUsedLately) {
  ASSERT_TRUE(kernel_.read_file(1, 0, 100));
  ASSERT_TRUE(kernel_.read_file(1, 0, 100));

  EXPECT_EQ(kernel_.drop_caches(CacheKinds::kPageCache), 100u);
}

TEST_F(GuestKernelTest, DroppedPageIsReadFromDiskAgain) {
  ASSERT_TRUE(kernel_.read_file(1, 0, 100));
  (void)kernel_.drop_caches(CacheKinds::kPageCache);

  ASSERT_TRUE(kernel_.read_file(1, 0, 1));

  EXPECT_EQ(rig_.count(kMajorFaults), 101u);
}

TEST_F(GuestKernelTest, DropLeavesProcessesAlone) {
  const ProcessId process = kernel_.start_process();
  ASSERT_TRUE(kernel_.touch(process, 0, 10));

  EXPECT_EQ(kernel_.drop_caches(CacheKinds::kBoth), 0u);

  EXPECT_EQ(kernel_.resident_pages(process), 10u);
}

TEST_F(GuestKernelTest, DropOfTheSlabLeavesThePageCache) {
  ASSERT_TRUE(kernel_.read_file(1, 0, 100));

  EXPECT_EQ(kernel_.drop_caches(CacheKinds::kSlab), 0u);

  EXPECT_EQ(rig_.pages(kCaches), 100u);
}

}  // namespace
}  // namespace vballoon::sim
