// SPDX-License-Identifier: MIT
// A device that has served a message takes nothing from the heap for the next ones.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "allocation_counter.h"
#include "base/page_ranges.h"
#include "device/device_fixture.h"
#include "device/two_mib_pages.h"
#include "dialect_param.h"

namespace vballoon {
namespace {

using testing::AllocationCounter;
using testing::borrow_memory;
using testing::kHigh;
using testing::kPagesPerHugePage;
using testing::kTwoMib;
using testing::Message;
using testing::message_of;
using testing::Rig;

class NoAllocationTest : public ::testing::TestWithParam<Dialect> {
 protected:
  static PageRanges scattered() {
    PageRanges ranges;
    for (Pfn pfn = 0; pfn < 60; ++pfn) ranges.push_back({pfn * 13, 1 + pfn % 12});
    return ranges;
  }

  // Allocations while `rig` serves `rounds` inflates and deflates of the same pages.
  static std::uint64_t allocations(Rig& rig, int rounds, const PageRanges& pages = scattered()) {
    std::uint64_t count = 0;
    const Message message = message_of(GetParam(), pages);
    for (int i = 0; i < rounds; ++i) {
      for (const std::uint16_t queue : {kInflateQueue, kDeflateQueue}) {
        rig.send(queue, message);
        const AllocationCounter counter;
        rig.serve(queue);
        count += counter.count();
        (void)rig.completed(queue);
      }
    }
    return count;
  }
  static Rig rig(std::unique_ptr<Discarder> discarder,
                 std::shared_ptr<const GuestMemory> memory = testing::memory_with_hole(),
                 DeflateAction deflate_action = DeflateAction::kNothing) {
    return Rig({.device = {.dialect = GetParam(), .deflate_action = deflate_action},
                .memory = std::move(memory),
                .discarder = std::move(discarder)});
  }
};

TEST_P(NoAllocationTest, MessagesAllocateNothingWithVectoredDiscards) {
  if (!vectored_discard_available()) GTEST_SKIP() << "this kernel takes no vectored discard";
  Rig guest = rig(make_kernel_discarder());
  guest.start();
  (void)allocations(guest, 1);

  EXPECT_EQ(allocations(guest, 20), 0u);
  EXPECT_EQ(guest.device().metrics().discard_failures, 0u);
  EXPECT_GT(guest.device().metrics().freed_bytes, 0u);
}

TEST_P(NoAllocationTest, MessagesAllocateNothingWithMergedDiscards) {
  Rig guest = rig(make_kernel_discarder({.strategy = DiscardStrategy::kMerged}));
  guest.start();
  (void)allocations(guest, 1);

  EXPECT_EQ(allocations(guest, 20), 0u);
}

TEST_P(NoAllocationTest, MessagesAllocateNothingWithWillNeed) {
  Rig guest = rig(make_kernel_discarder(), testing::memory_with_hole(), DeflateAction::kWillNeed);
  guest.start();
  (void)allocations(guest, 1);

  EXPECT_EQ(allocations(guest, 20), 0u);
}

TEST_P(NoAllocationTest, MessagesAllocateNothingOverHugeHostPages) {
  Rig guest = rig(make_kernel_discarder(),
                  borrow_memory({{0, 2 * kTwoMib}, {kHigh << kPageShift, 2 * kTwoMib, kPageSize}}));
  guest.start();
  const PageRanges whole_and_part{{0, kPagesPerHugePage + 40}};
  (void)allocations(guest, 1, whole_and_part);

  EXPECT_EQ(allocations(guest, 20, whole_and_part), 0u);
  EXPECT_GT(guest.device().metrics().freed_bytes, 0u);
}

INSTANTIATE_TEST_SUITE_P(All, NoAllocationTest, testing::every_dialect(), testing::dialect_name);

}  // namespace
}  // namespace vballoon
