// SPDX-License-Identifier: MIT
// How the guest's kernel comes to large blocks: pages of processes and files move out of the way
// (src/guest/guest_kernel.cc, user_pages.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "guest/kernel_fixture.h"
#include "guest/user_pages.h"
#include "vballoon/sim/page_poison.h"

namespace vballoon::sim {
namespace {

using testing::kernel_memory;
using testing::KernelRig;
using testing::kKernelPages;

constexpr std::uint32_t kUsed = 3800;
constexpr unsigned kOrder = 5;

// A process that has nearly all memory, and gave back every other page of it.
ProcessId punch_holes(KernelRig& rig) {
  const ProcessId process = rig.kernel.start_process();
  EXPECT_TRUE(rig.kernel.touch(process, 0, kUsed));
  while (rig.allocator.allocate(0)) {
  }
  for (std::uint32_t page = 0; page < kUsed; page += 2) rig.kernel.unmap(process, page, 1);
  return process;
}

TEST(MemoryCompactionTest, HolesBetweenPagesOfAProcessBecomeABlock) {
  KernelRig rig;
  punch_holes(rig);

  EXPECT_TRUE(rig.kernel.allocate(kOrder, AllocationEffort::kCompact));

  EXPECT_GT(rig.kernel.compaction().moved_pages, 0u);
  EXPECT_EQ(rig.kernel.compaction().successes, 1u);
}

TEST(MemoryCompactionTest, SwitchedOffItMovesNothing) {
  KernelRig rig({.compaction = false});
  punch_holes(rig);

  EXPECT_FALSE(rig.kernel.allocate(kOrder, AllocationEffort::kCompact));

  EXPECT_EQ(rig.kernel.compaction().attempts, 0u);
}

TEST(MemoryCompactionTest, NothingMovesForTwoPages) {
  KernelRig rig;
  punch_holes(rig);

  EXPECT_FALSE(rig.kernel.allocate(1, AllocationEffort::kCompact));

  EXPECT_EQ(rig.kernel.compaction().attempts, 0u);
}

TEST(MemoryCompactionTest, NothingMovesForAFreePageHint) {
  KernelRig rig;
  punch_holes(rig);

  EXPECT_FALSE(rig.kernel.allocate(kOrder, AllocationEffort::kFreeOnly));

  EXPECT_EQ(rig.kernel.compaction().attempts, 0u);
}

TEST(MemoryCompactionTest, NothingMovesWhereMemoryIsShortAnyway) {
  KernelRig rig;
  rig.fill_with_process(testing::kKernelMin + 20);

  EXPECT_FALSE(rig.kernel.allocate(kOrder, AllocationEffort::kCompact));

  EXPECT_EQ(rig.kernel.compaction().attempts, 0u);
}

TEST(MemoryCompactionTest, PagesKeepTheirContentsWhenTheyMove) {
  KernelRig rig({.memory = kernel_memory()});
  const ProcessId process = punch_holes(rig);

  while (rig.kernel.allocate(kOrder, AllocationEffort::kCompact)) {
  }

  EXPECT_GT(rig.kernel.compaction().moved_pages, 500u);
  EXPECT_EQ(rig.kernel.damaged_pages(), 0u);
  EXPECT_EQ(rig.kernel.resident_pages(process), kUsed / 2);
}

TEST(MemoryCompactionTest, PagesOfFilesMoveToo) {
  KernelRig rig({.memory = kernel_memory()});
  const ProcessId process = rig.kernel.start_process();
  for (std::uint32_t page = 0; page < kUsed / 2; ++page) {
    ASSERT_TRUE(rig.kernel.touch(process, page, 1));
    ASSERT_TRUE(rig.kernel.write_file(1, page, 1));
  }
  while (rig.allocator.allocate(0)) {
  }
  rig.kernel.exit(process);

  EXPECT_TRUE(rig.kernel.allocate(kOrder, AllocationEffort::kCompact));

  EXPECT_GT(rig.kernel.compaction().moved_pages, 0u);
  EXPECT_EQ(rig.kernel.damaged_pages(), 0u);
  EXPECT_EQ(rig.kernel.dirty_pages(), kUsed / 2);
}

TEST(MemoryCompactionTest, PagesOfTheKernelStay) {
  KernelRig rig;
  std::vector<Block> pages;
  while (const auto page = rig.kernel.allocate(0, AllocationEffort::kFreeOnly)) {
    pages.push_back(*page);
  }
  while (rig.allocator.allocate(0)) {
  }
  for (const Block page : pages) {
    if (page.first % 2 == 0) rig.kernel.free(page);
  }

  EXPECT_FALSE(rig.kernel.allocate(kOrder, AllocationEffort::kCompact));

  EXPECT_EQ(rig.kernel.compaction().moved_pages, 0u);
}

TEST(MemoryCompactionTest, ProcessThatEndsGivesMovedPagesBack) {
  KernelRig rig;
  const ProcessId process = rig.kernel.start_process();
  ASSERT_TRUE(rig.kernel.touch(process, 0, kUsed));
  for (std::uint32_t page = 0; page < kUsed; page += 2) rig.kernel.unmap(process, page, 1);
  const auto block = rig.kernel.allocate(kMaxOrder, AllocationEffort::kCompact);
  ASSERT_TRUE(block);
  rig.kernel.free(*block);

  rig.kernel.exit(process);

  EXPECT_EQ(rig.allocator.free_pages(), kKernelPages);
  EXPECT_EQ(rig.allocator.free_blocks_by_order()[kMaxOrder], kKernelPages / 1024);
}

TEST(MemoryCompactionTest, HugePagesOfAProcessAreWorthMovingOthersFor) {
  KernelRig rig;
  punch_holes(rig);
  const ProcessId database = rig.kernel.start_process();

  EXPECT_EQ(rig.kernel.take_huge_pages(database, 2), 2u);
}

TEST(MemoryCompactionTest, PagesThatMovedAreReclaimedAsBefore) {
  KernelRig rig({.swap_pages = 4096, .memory = kernel_memory()});
  punch_holes(rig);
  ASSERT_TRUE(rig.kernel.allocate(kOrder, AllocationEffort::kCompact));

  while (rig.kernel.allocate(0, AllocationEffort::kNoRetry)) {
  }

  EXPECT_GT(rig.count(MemoryStatistic::kSwapOut), 0u);
  EXPECT_EQ(rig.kernel.damaged_pages(), 0u);
}

// The poison of a page is looked at when it is used, and stands in one that is no longer.
TEST(MemoryCompactionTest, PagesThatWereLeftArePoisoned) {
  const auto memory = kernel_memory();
  PagePoison poison(memory, kPagePoisonByte);
  KernelRig rig({.memory = memory, .poison = &poison});
  poison.fill_free_pages(rig.allocator);
  punch_holes(rig);

  const auto block = rig.kernel.allocate(kOrder, AllocationEffort::kCompact);

  ASSERT_TRUE(block);
  EXPECT_EQ(poison.violations(), 0u);
}

TEST(MemoryCompactionTest, PageThatMovedIsTheProcessesWhereItIsAndNotWhereItWas) {
  UserPages pages(nullptr, 0);
  const ProcessId process = pages.start_process();
  ASSERT_FALSE(pages.use(PageKind::kAnonymous, process, 0, false));
  pages.map({.pfn = 7, .owner = process, .index = 0, .kind = PageKind::kAnonymous});

  pages.move(7, 9);

  EXPECT_FALSE(pages.has(7));
  EXPECT_TRUE(pages.has(9));
}

// The highest free page is the first that another one is moved to.
TEST(MemoryCompactionTest, FreePageThatWasWrittenToIsNoticedWhenAnotherMovesThere) {
  const auto memory = kernel_memory();
  PagePoison poison(memory, kPagePoisonByte);
  KernelRig rig({.memory = memory, .poison = &poison});
  poison.fill_free_pages(rig.allocator);
  punch_holes(rig);
  Pfn highest = kKernelPages - 1;
  while (!rig.allocator.is_free(highest)) --highest;
  *memory->host(highest << kPageShift, 1) = std::byte{0};

  ASSERT_TRUE(rig.kernel.allocate(kOrder, AllocationEffort::kCompact));

  EXPECT_FALSE(rig.allocator.is_free(highest));
  EXPECT_EQ(poison.violations(), 1u);
}

}  // namespace
}  // namespace vballoon::sim
