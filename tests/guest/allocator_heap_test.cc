// SPDX-License-Identifier: MIT
// The page allocator and free page reporting take nothing from the C++ heap once they are made.
#include <gtest/gtest.h>

#include <chrono>
#include <optional>

#include "allocation_counter.h"
#include "vballoon/page_range.h"
#include "vballoon/sim/aging.h"
#include "vballoon/sim/page_allocator.h"
#include "vballoon/sim/page_reporting.h"

namespace vballoon::sim {
namespace {

void take_and_free_every_page(PageAllocator& allocator) {
  PageList list;
  while (const std::optional<Block> block = allocator.allocate(0)) allocator.push(list, *block);
  while (const std::optional<Block> block = allocator.pop(list)) allocator.free(*block);
}

void report_everything(PageReporting& reporting) {
  while (reporting.step({}).kind == ReportingWait::Kind::kAnswer) reporting.answered(true);
}

class AllocatorHeapTest : public ::testing::Test {
 protected:
  static constexpr PageRange kZones[] = {{3, 3000}, {4096, 20000}};

  PageAllocator allocator_{kZones};
};

TEST_F(AllocatorHeapTest, TakingListingAndFreeingEveryPageTakesNothing) {
  const testing::AllocationCounter allocations;

  take_and_free_every_page(allocator_);

  EXPECT_EQ(allocations.count(), 0u);
}

TEST_F(AllocatorHeapTest, AgingTakesNothing) {
  const testing::AllocationCounter allocations;

  const PageList taken = age_guest(allocator_, GuestAge::kAged, 1);

  EXPECT_EQ(allocations.count(), 0u);
  EXPECT_FALSE(taken.empty());
}

TEST_F(AllocatorHeapTest, ReportingTakesNothing) {
  PageReporting reporting(allocator_, {.min_order = 0, .delay = std::chrono::seconds(0)});
  const testing::AllocationCounter allocations;

  report_everything(reporting);

  EXPECT_EQ(allocations.count(), 0u);
  EXPECT_GT(reporting.counters().reported_pages, 0u);
}

}  // namespace
}  // namespace vballoon::sim
