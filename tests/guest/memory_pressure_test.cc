// SPDX-License-Identifier: MIT
// What the guest does when memory is short: kswapd, reclaim, swap, shrinkers, OOM
// (src/guest/guest_kernel.cc, user_pages.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "guest/kernel_fixture.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/sim/memory_statistics.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::sim {
namespace {

using testing::GuestKernelTest;
using testing::kernel_memory;
using testing::KernelRig;
using testing::kKernelHigh;
using testing::kKernelLow;
using testing::kKernelMin;
using testing::kKernelPages;
using enum MemoryStatistic;

// Somebody with blocks of the guest, given back some at a time.
class Holder : public Shrinker, public OomNotifier {
 public:
  Holder(KernelRig& rig, unsigned order, std::uint64_t blocks, std::uint64_t blocks_a_step)
      : rig_(rig), blocks_a_step_(blocks_a_step) {
    while (blocks_.size() < blocks) {
      blocks_.push_back(*rig_.kernel.allocate(order, AllocationEffort::kFreeOnly));
    }
  }

  [[nodiscard]] std::uint64_t count() const override { return pages_of(blocks_); }
  std::uint64_t scan(std::uint64_t pages) override {
    scans.push_back(pages);
    return give_back(1);
  }
  std::uint64_t out_of_memory() override {
    ++calls;
    return give_back(blocks_a_step_);
  }

  std::vector<std::uint64_t> scans;
  int calls = 0;

 private:
  static std::uint64_t pages_of(const std::vector<Block>& blocks) {
    std::uint64_t pages = 0;
    for (const Block& block : blocks) pages += block.pages().count;
    return pages;
  }
  std::uint64_t give_back(std::uint64_t blocks) {
    const std::uint64_t before = count();
    for (; blocks > 0 && !blocks_.empty(); --blocks) {
      rig_.kernel.free(blocks_.back());
      blocks_.pop_back();
    }
    return before - count();
  }

  KernelRig& rig_;
  std::uint64_t blocks_a_step_;
  std::vector<Block> blocks_;
};

class MemoryPressureTest : public GuestKernelTest {
 protected:
  // Touches one page more than there is without reclaim, in a process of its own.
  ProcessId ask_for_a_page() {
    const ProcessId process = kernel_.start_process();
    (void)kernel_.touch(process, 0, 1);
    return process;
  }
};

TEST_F(MemoryPressureTest, KswapdSleepsAboveTheLowWatermark) {
  rig_.fill_cache(kKernelLow);

  EXPECT_FALSE(kernel_.kswapd_awake());
  EXPECT_FALSE(kernel_.run_kswapd());
}

TEST_F(MemoryPressureTest, AllocationBelowTheLowWatermarkWakesKswapd) {
  rig_.fill_cache(kKernelLow - 1);

  EXPECT_TRUE(kernel_.kswapd_awake());
  EXPECT_EQ(rig_.count(kAllocationStalls), 0u);
}

TEST_F(MemoryPressureTest, KswapdReclaimsUpToTheHighWatermark) {
  rig_.fill_cache(kKernelLow - 1);

  EXPECT_TRUE(kernel_.run_kswapd());

  EXPECT_EQ(rig_.pages(kFreeMemory), kKernelHigh);
  EXPECT_EQ(rig_.pages(kAsyncScan), 33u);
  EXPECT_EQ(rig_.pages(kAsyncReclaim), 33u);
  EXPECT_EQ(rig_.pages(kDirectScan), 0u);
}

TEST_F(MemoryPressureTest, KswapdSleepsWhenItIsDone) {
  rig_.fill_cache(kKernelLow - 1);
  (void)kernel_.run_kswapd();

  EXPECT_FALSE(kernel_.kswapd_awake());
  EXPECT_FALSE(kernel_.run_kswapd());
}

TEST_F(MemoryPressureTest, KswapdGivesUpWhenNothingCanBeReclaimed) {
  (void)rig_.fill_with_process(kKernelLow - 1);

  EXPECT_TRUE(kernel_.run_kswapd());

  EXPECT_FALSE(kernel_.kswapd_awake());
  EXPECT_EQ(rig_.pages(kFreeMemory), kKernelLow - 1u);
  EXPECT_EQ(rig_.count(kOomKills), 0u);
}

TEST_F(MemoryPressureTest, AllocationBelowTheMinimumReclaimsByItself) {
  rig_.fill_cache(kKernelMin);

  (void)ask_for_a_page();

  EXPECT_EQ(rig_.count(kAllocationStalls), 1u);
  EXPECT_EQ(rig_.pages(kDirectScan), 32u);
  EXPECT_EQ(rig_.pages(kDirectReclaim), 32u);
  EXPECT_EQ(rig_.pages(kFreeMemory), kKernelMin + 31u);
  EXPECT_EQ(rig_.pages(kAsyncScan), 0u);
}

TEST_F(MemoryPressureTest, OldestFilePagesAreReclaimed) {
  rig_.fill_cache(kKernelMin);
  (void)ask_for_a_page();
  const std::uint64_t before = rig_.count(kMajorFaults);

  (void)kernel_.read_file(1, 30, 10);

  EXPECT_EQ(rig_.count(kMajorFaults), before + 2);  // 0 to 31 had gone
}

TEST_F(MemoryPressureTest, FilePageThatWasUsedAgainStays) {
  rig_.fill_cache(kKernelMin);
  (void)kernel_.read_file(1, 0, 1);

  (void)ask_for_a_page();

  EXPECT_EQ(rig_.pages(kDirectScan), 33u);
  EXPECT_EQ(rig_.pages(kDirectReclaim), 32u);
  EXPECT_EQ(rig_.pages(kCaches), kKernelPages - kKernelMin - 32u);
}

TEST_F(MemoryPressureTest, DirtyPagesAreWrittenBeforeTheyAreReclaimed) {
  (void)kernel_.write_file(2, 0, 10);
  (void)kernel_.read_file(1, 0, kKernelPages - kKernelMin - 10);

  (void)ask_for_a_page();

  EXPECT_EQ(kernel_.dirty_pages(), 0u);
  EXPECT_EQ(rig_.pages(kDirectScan), 42u);
  EXPECT_EQ(rig_.pages(kDirectReclaim), 32u);
}

TEST_F(MemoryPressureTest, NothingButDirtyUsedPagesIsReclaimedToo) {
  (void)kernel_.write_file(2, 0, kKernelPages - kKernelMin);
  (void)kernel_.write_file(2, 0, kKernelPages - kKernelMin);

  const ProcessId process = ask_for_a_page();

  EXPECT_TRUE(kernel_.alive(process));
  EXPECT_EQ(rig_.count(kAllocationStalls), 1u);
}

TEST_F(MemoryPressureTest, WithoutSwapMemoryOfProcessesIsNotLookedAt) {
  const ProcessId process = rig_.fill_with_process(kKernelMin + 1000);
  (void)kernel_.read_file(1, 0, 1000);

  (void)ask_for_a_page();

  EXPECT_EQ(kernel_.resident_pages(process), kKernelPages - kKernelMin - 1000u);
  EXPECT_EQ(rig_.pages(kDirectScan), 32u);
  EXPECT_EQ(rig_.pages(kSwapOut), 0u);
}

TEST_F(MemoryPressureTest, NoRetryReclaimsButKillsNobody) {
  const ProcessId process = rig_.fill_with_process(kKernelMin);

  EXPECT_EQ(kernel_.allocate(0, AllocationEffort::kNoRetry), std::nullopt);

  EXPECT_EQ(rig_.count(kAllocationStalls), 1u);
  EXPECT_TRUE(kernel_.alive(process));
}

TEST_F(MemoryPressureTest, NoRetryTakesWhatReclaimFrees) {
  rig_.fill_cache(kKernelMin);

  EXPECT_TRUE(kernel_.allocate(0, AllocationEffort::kNoRetry).has_value());

  EXPECT_EQ(rig_.pages(kDirectReclaim), 32u);
}

TEST_F(MemoryPressureTest, FreeOnlyTakesWhatIsAboveTheMinimumAndWakesNobody) {
  rig_.fill_cache(kKernelLow);

  EXPECT_TRUE(kernel_.allocate(0, AllocationEffort::kFreeOnly).has_value());

  EXPECT_FALSE(kernel_.kswapd_awake());
}

TEST_F(MemoryPressureTest, FreeOnlyReclaimsNothing) {
  rig_.fill_cache(kKernelMin);

  EXPECT_EQ(kernel_.allocate(0, AllocationEffort::kFreeOnly), std::nullopt);

  EXPECT_EQ(rig_.count(kAllocationStalls), 0u);
  EXPECT_EQ(rig_.pages(kFreeMemory), kKernelMin);
}

TEST_F(MemoryPressureTest, HugePageIsReclaimedFromTheCache) {
  rig_.fill_cache(kKernelMin);

  EXPECT_EQ(kernel_.take_huge_pages(kernel_.start_process(), 1), 1u);

  EXPECT_GE(rig_.pages(kDirectReclaim), 512u);
}

TEST_F(MemoryPressureTest, NobodyIsKilledForALargeBlock) {
  const ProcessId process = rig_.fill_with_process(kKernelMin);

  EXPECT_EQ(kernel_.allocate(4, AllocationEffort::kFull), std::nullopt);

  EXPECT_TRUE(kernel_.alive(process));
}

TEST_F(MemoryPressureTest, ProcessThatNeedsMoreThanThereIsIsKilled) {
  const ProcessId process = rig_.fill_with_process(kKernelMin);

  EXPECT_FALSE(kernel_.touch(process, kKernelPages, 1));

  EXPECT_FALSE(kernel_.alive(process));
  EXPECT_EQ(rig_.count(kOomKills), 1u);
  EXPECT_EQ(rig_.pages(kFreeMemory), kKernelPages);
}

TEST_F(MemoryPressureTest, LargestProcessIsKilledForAnother) {
  const ProcessId small = kernel_.start_process();
  (void)kernel_.touch(small, 0, 100);
  const ProcessId large = rig_.fill_with_process(kKernelMin + 100);

  EXPECT_TRUE(kernel_.touch(small, 100, 1));

  EXPECT_TRUE(kernel_.alive(small));
  EXPECT_FALSE(kernel_.alive(large));
}

TEST_F(MemoryPressureTest, WithoutAProcessToKillTheAllocationFails) {
  Holder driver(rig_, 0, kKernelPages - kKernelMin, 0);

  EXPECT_EQ(kernel_.allocate(0, AllocationEffort::kFull), std::nullopt);
  EXPECT_FALSE(kernel_.read_file(1, 0, 1));

  EXPECT_EQ(rig_.count(kOomKills), 0u);
}

TEST_F(MemoryPressureTest, NotifierIsAskedBeforeAProcessIsKilled) {
  Holder balloon(rig_, 0, 1000, 256);
  const ProcessId process = rig_.fill_with_process(kKernelMin + 1000);
  kernel_.register_oom_notifier(balloon);

  EXPECT_TRUE(kernel_.touch(process, kKernelPages, 1));

  EXPECT_EQ(balloon.calls, 1);
  EXPECT_EQ(balloon.count(), 744u);
  EXPECT_EQ(rig_.count(kOomKills), 0u);
}

TEST_F(MemoryPressureTest, ProcessIsKilledWhenTheNotifierHasNothingMore) {
  Holder balloon(rig_, 0, 300, 256);
  const ProcessId process = rig_.fill_with_process(kKernelMin + 300);
  kernel_.register_oom_notifier(balloon);

  EXPECT_FALSE(kernel_.touch(process, kKernelPages, 301));

  EXPECT_EQ(balloon.calls, 3);
  EXPECT_EQ(rig_.count(kOomKills), 1u);
}

TEST_F(MemoryPressureTest, UnregisteredNotifierIsNotAsked) {
  Holder balloon(rig_, 0, 300, 256);
  const ProcessId process = rig_.fill_with_process(kKernelMin + 300);
  kernel_.register_oom_notifier(balloon);
  kernel_.unregister_oom_notifier(balloon);

  EXPECT_FALSE(kernel_.touch(process, kKernelPages, 1));

  EXPECT_EQ(balloon.calls, 0);
}

TEST_F(MemoryPressureTest, ShrinkerIsAskedBeforeTheNotifiers) {
  Holder balloon(rig_, 0, 300, 256);
  Holder hints(rig_, kMaxOrder, 1, 0);
  const ProcessId process = rig_.fill_with_process(kKernelMin + 300 + 1024);
  kernel_.register_oom_notifier(balloon);
  kernel_.register_shrinker(hints);

  EXPECT_TRUE(kernel_.touch(process, kKernelPages, 1));

  EXPECT_EQ(hints.count(), 0u);
  EXPECT_EQ(balloon.calls, 0);
}

TEST_F(MemoryPressureTest, ShrinkerIsAskedForAtLeastThirtyTwoPages) {
  Holder hints(rig_, kMaxOrder, 2, 0);
  const ProcessId process = rig_.fill_with_process(kKernelMin + 2048);
  kernel_.register_shrinker(hints);

  (void)kernel_.touch(process, kKernelPages, 1);

  EXPECT_THAT(hints.scans, ::testing::ElementsAre(32));
}

TEST_F(MemoryPressureTest, KswapdAsksTheShrinkersToo) {
  Holder hints(rig_, kMaxOrder, 1, 0);
  (void)rig_.fill_with_process(kKernelLow + 1024 - 1);
  kernel_.register_shrinker(hints);

  (void)kernel_.run_kswapd();

  EXPECT_EQ(hints.count(), 0u);
  EXPECT_EQ(rig_.pages(kAsyncReclaim), 0u);
}

TEST_F(MemoryPressureTest, DropOfTheSlabAsksTheShrinkersForAllTheyHave) {
  Holder hints(rig_, kMaxOrder, 1, 0);
  kernel_.register_shrinker(hints);

  EXPECT_EQ(kernel_.drop_caches(CacheKinds::kSlab), 1024u);

  EXPECT_THAT(hints.scans, ::testing::ElementsAre(1024));
}

TEST_F(MemoryPressureTest, DropOfThePageCacheLeavesTheShrinkers) {
  Holder hints(rig_, kMaxOrder, 1, 0);
  kernel_.register_shrinker(hints);

  (void)kernel_.drop_caches(CacheKinds::kPageCache);

  EXPECT_EQ(hints.count(), 1024u);
}

TEST_F(MemoryPressureTest, UnregisteredShrinkerIsNotAsked) {
  Holder hints(rig_, kMaxOrder, 1, 0);
  const ProcessId process = rig_.fill_with_process(kKernelMin + 1024);
  kernel_.register_shrinker(hints);
  kernel_.unregister_shrinker(hints);

  EXPECT_FALSE(kernel_.touch(process, kKernelPages, 1));

  EXPECT_EQ(hints.count(), 1024u);
}

class SwapTest : public ::testing::Test {
 protected:
  KernelRig rig_{{.swap_pages = 100, .memory = kernel_memory()}};
  GuestKernel& kernel_ = rig_.kernel;
};

TEST_F(SwapTest, OldestPagesOfAProcessAreSwappedOut) {
  const ProcessId process = rig_.fill_with_process(kKernelMin);

  EXPECT_TRUE(kernel_.touch(process, kKernelPages, 1));

  EXPECT_EQ(rig_.pages(kSwapOut), 32u);
  EXPECT_EQ(rig_.pages(kDirectReclaim), 32u);
  EXPECT_EQ(kernel_.resident_pages(process), kKernelPages - kKernelMin - 31u);
}

TEST_F(SwapTest, SwappedPageIsReadBackByAMajorFault) {
  const ProcessId process = rig_.fill_with_process(kKernelMin);
  (void)kernel_.touch(process, kKernelPages, 1);

  EXPECT_TRUE(kernel_.touch(process, 0, 2));

  EXPECT_EQ(rig_.pages(kSwapIn), 2u);
  EXPECT_EQ(rig_.count(kMajorFaults), 2u);
  EXPECT_EQ(kernel_.damaged_pages(), 0u);
}

TEST_F(SwapTest, ProcessIsKilledWhenTheSwapIsFull) {
  const ProcessId process = rig_.fill_with_process(kKernelMin);

  EXPECT_FALSE(kernel_.touch(process, kKernelPages, 101));

  EXPECT_EQ(rig_.pages(kSwapOut), 100u);
  EXPECT_EQ(rig_.count(kOomKills), 1u);
}

TEST_F(SwapTest, RoomOfUnmappedPagesIsUsedAgain) {
  const ProcessId process = rig_.fill_with_process(kKernelMin);
  (void)kernel_.touch(process, kKernelPages, 100);

  kernel_.unmap(process, 0, 100);
  const bool fits = kernel_.touch(process, kKernelPages + 100, 100);

  EXPECT_TRUE(fits);
  EXPECT_EQ(rig_.pages(kSwapIn), 0u);
}

TEST_F(SwapTest, RoomOfAnEndedProcessIsUsedAgain) {
  const ProcessId first = rig_.fill_with_process(kKernelMin);
  (void)kernel_.touch(first, kKernelPages, 100);
  kernel_.exit(first);

  const ProcessId second = rig_.fill_with_process(kKernelMin);

  EXPECT_TRUE(kernel_.touch(second, kKernelPages, 100));
}

TEST_F(SwapTest, FilePagesGoBeforeMemoryOfProcesses) {
  (void)rig_.fill_with_process(kKernelMin + 1000);
  (void)kernel_.read_file(1, 0, 1000);

  (void)kernel_.read_file(1, 1000, 1);

  EXPECT_EQ(rig_.pages(kSwapOut), 0u);
  EXPECT_EQ(rig_.pages(kDirectReclaim), 32u);
}

}  // namespace
}  // namespace vballoon::sim
