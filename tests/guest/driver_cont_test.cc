// SPDX-License-Identifier: MIT
// Continuous pages: blocks over queues of their own (src/guest/driver_resize.cc).
#include <initializer_list>
#include <optional>

#include "guest/driver_fixture.h"
#include "guest/movable_pages.h"
#include "vballoon/sim/compactor.h"
#include "vballoon/sim/guest_kernel.h"
#include "wire/cont_pages.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::vballoon::testing::DecodedMessage;
using ::vballoon::testing::DriverRig;
using ::vballoon::testing::kGuestPages;
using ::vballoon::testing::kWaitsForAnswer;
using ::vballoon::testing::MovablePages;

// Without other features these come behind the first two.
constexpr std::uint16_t kInflateBlocks = 2;
constexpr std::uint16_t kDeflateBlocks = 3;

class ContDriverTest : public ::testing::Test {
 protected:
  ContDriverTest() { rig_.options.reserve_pages = 0; }

  [[nodiscard]] const DecodedMessage& message(std::size_t index) const {
    return rig_.device.messages.at(index);
  }
  [[nodiscard]] const sim::BlocksByOrder& orders() const {
    return rig_.driver->counters().allocations_by_order;
  }
  // Leaves nothing free but these blocks.
  void leave_free(std::initializer_list<sim::Block> blocks) {
    while (const auto order = largest_free_order()) (void)rig_.allocator.allocate(*order);
    for (const sim::Block block : blocks) rig_.allocator.free(block);
  }

  DriverRig rig_{Dialect::kContPages};

 private:
  [[nodiscard]] std::optional<unsigned> largest_free_order() const {
    const auto free = rig_.allocator.free_blocks_by_order();
    for (unsigned order = sim::kMaxOrder + 1; order-- > 0;) {
      if (free[order] != 0) return order;
    }
    return std::nullopt;
  }
};

// ---- inflating ----------------------------------------------------------------------------------

TEST_F(ContDriverTest, BlocksAreInflatedOverTheirOwnQueue) {
  rig_.probe();

  rig_.resize(2048);

  ASSERT_THAT(rig_.device.messages, SizeIs(1));
  EXPECT_EQ(message(0).queue, kInflateBlocks);
  EXPECT_THAT(message(0).payload, SizeIs(2 * kContEntryBytes));
}

TEST_F(ContDriverTest, EndOfTheDifferenceIsTakenInSmallerAndSmallerBlocks) {
  rig_.probe();

  rig_.resize(1000);

  EXPECT_THAT(orders(), ElementsAre(0, 0, 0, 1, 0, 1, 1, 1, 1, 1, 0));
}

TEST_F(ContDriverTest, LastBlockThatWasAllocatedStandsFirst) {
  rig_.probe();

  rig_.resize(1024 + 8);

  EXPECT_EQ(message(0).numbers().at(1), 8u << kPageShift);
  EXPECT_EQ(message(0).numbers().at(3), 1024u << kPageShift);
}

TEST_F(ContDriverTest, SinglePagesAmongBlocksHaveASizeToo) {
  rig_.probe();

  rig_.resize(3);

  EXPECT_EQ(message(0).queue, kInflateBlocks);
  EXPECT_EQ(message(0).numbers().at(1), 1u << kPageShift);
  EXPECT_EQ(message(0).numbers().at(3), 2u << kPageShift);
}

TEST_F(ContDriverTest, MessageHasAtMost128Blocks) {
  rig_.probe();
  leave_free({});
  for (Pfn page = 2048; page < 2048 + 4 * 130; page += 4) rig_.allocator.free({page, 1});

  rig_.resize(260);

  ASSERT_THAT(rig_.device.messages, SizeIs(2));
  EXPECT_THAT(message(0).payload, SizeIs(128 * kContEntryBytes));
  EXPECT_THAT(message(1).payload, SizeIs(2 * kContEntryBytes));
  EXPECT_THAT(rig_.device.actuals, ElementsAre(256, 260));
}

TEST_F(ContDriverTest, WithoutABlockPagesAreNamedByTheirNumbers) {
  rig_.probe();
  rig_.punch_holes();

  rig_.resize(300);

  ASSERT_THAT(rig_.device.messages, SizeIs(2));
  EXPECT_EQ(message(0).queue, kInflateQueue);
  EXPECT_THAT(message(0).payload, SizeIs(256 * 4));
  EXPECT_THAT(message(1).payload, SizeIs(44 * 4));
}

TEST_F(ContDriverTest, OrderDoesNotRiseWithinAChange) {
  rig_.probe();
  leave_free({{2048, 1}, {2052, 0}});
  rig_.resize(4);  // one page is missing
  rig_.allocator.free({1024, 10});

  rig_.driver->step(std::chrono::milliseconds(200));

  EXPECT_EQ(rig_.driver->ballooned_pages(), 4u);
  EXPECT_THAT(orders(), ElementsAre(2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0));
}

TEST_F(ContDriverTest, AfterTheTargetWasReachedTheLargestBlocksAreTriedAgain) {
  rig_.probe();
  rig_.resize(1);

  rig_.resize(1 + 1024);

  EXPECT_EQ(orders()[10], 1u);
}

// ---- compaction ---------------------------------------------------------------------------------

// A process has had nearly all of the memory, and gave every other page of it back.
class CompactedDriverTest : public ::testing::TestWithParam<Dialect> {
 protected:
  CompactedDriverTest() {
    rig_.options.kernel = &kernel_;
    rig_.probe();
    const sim::ProcessId process = kernel_.start_process();
    for (std::uint32_t page = 0; page < kUsed; ++page) (void)kernel_.touch(process, page, 1);
    for (std::uint32_t page = 0; page < kUsed; page += 2) kernel_.unmap(process, page, 1);
  }
  ~CompactedDriverTest() override { rig_.driver.reset(); }  // before the kernel that it knows

  static constexpr std::uint32_t kUsed = 3600;
  DriverRig rig_{GetParam()};
  sim::GuestKernel kernel_{rig_.allocator};
};

using ContCompactedDriverTest = CompactedDriverTest;
INSTANTIATE_TEST_SUITE_P(Cont, ContCompactedDriverTest, ::testing::Values(Dialect::kContPages));

TEST_P(ContCompactedDriverTest, BlocksAreMadeOfHoles) {
  rig_.resize(1536);

  EXPECT_EQ(rig_.driver->ballooned_pages(), 1536u);
  EXPECT_GT(kernel_.compaction().moved_pages, 0u);
  EXPECT_EQ(rig_.driver->counters().allocations_by_order[0], 0u);
}

using OtherCompactedDriverTest = CompactedDriverTest;
INSTANTIATE_TEST_SUITE_P(Others, OtherCompactedDriverTest,
                         ::testing::Values(Dialect::kStandard, Dialect::kScatterGather));

TEST_P(OtherCompactedDriverTest, NothingMovesForADriverThatTakesWhatThereIs) {
  rig_.resize(1536);

  EXPECT_EQ(rig_.driver->ballooned_pages(), 1536u);
  EXPECT_EQ(kernel_.compaction().moved_pages, 0u);
}

// The same without a kernel: somebody else can move the pages between the holes.
class KernellessDriverTest : public ::testing::TestWithParam<Dialect> {
 protected:
  // By a driver that is told of the compactor, or not.
  void inflate_among_holes(sim::Compactor* compactor, std::uint64_t pages) {
    rig_.options.compactor = compactor;
    rig_.probe();
    for (Pfn page = 0; page < kGuestPages; ++page) {
      if (page % 2 == 1 && rig_.allocator.is_free(page)) mover_.pages.insert(page);
    }
    rig_.punch_holes();
    rig_.resize(pages);
  }
  [[nodiscard]] std::uint64_t single_pages() const {
    return rig_.driver->counters().allocations_by_order[0];
  }

  DriverRig rig_{GetParam()};
  MovablePages mover_;
  sim::Compactor compactor_{rig_.allocator, mover_};
};

using ContKernellessDriverTest = KernellessDriverTest;
INSTANTIATE_TEST_SUITE_P(Cont, ContKernellessDriverTest, ::testing::Values(Dialect::kContPages));

TEST_P(ContKernellessDriverTest, CompactorMakesBlocksOfHoles) {
  inflate_among_holes(&compactor_, 1536);

  EXPECT_EQ(rig_.driver->ballooned_pages(), 1536u);
  EXPECT_THAT(mover_.moves, Not(IsEmpty()));
  EXPECT_EQ(single_pages(), 0u);
}

TEST_P(ContKernellessDriverTest, WithoutACompactorTheHolesAreTaken) {
  inflate_among_holes(nullptr, 1536);

  EXPECT_EQ(single_pages(), 1536u);
}

using OtherKernellessDriverTest = KernellessDriverTest;
INSTANTIATE_TEST_SUITE_P(Others, OtherKernellessDriverTest,
                         ::testing::Values(Dialect::kStandard, Dialect::kScatterGather));

TEST_P(OtherKernellessDriverTest, NothingMovesForADriverThatTakesWhatThereIs) {
  inflate_among_holes(&compactor_, 1536);

  EXPECT_EQ(single_pages(), 1536u);
  EXPECT_THAT(mover_.moves, IsEmpty());
}

// ---- deflating ----------------------------------------------------------------------------------

TEST_F(ContDriverTest, OldestBlocksLeaveFirst) {
  rig_.probe();
  leave_free({{2048, 10}, {1000, 3}});
  rig_.resize(1024);
  rig_.resize(1032);

  rig_.resize(8);

  EXPECT_EQ(rig_.balloon(), (PageRanges{{1000, 8}}));
}

TEST_F(ContDriverTest, NeighboursLeaveAsOneEntryOverTheirOwnQueue) {
  rig_.probe();
  leave_free({{1024, 10}, {2048, 10}});
  rig_.resize(2048);

  rig_.resize(0);

  const DecodedMessage& last = rig_.device.messages.back();
  EXPECT_EQ(last.queue, kDeflateBlocks);
  EXPECT_THAT(last.numbers(), ElementsAre(1024, 2048 << kPageShift));
}

TEST_F(ContDriverTest, PartOfABlockLeavesFromItsBeginning) {
  rig_.probe();
  leave_free({{2048, 10}});
  rig_.resize(1024);

  rig_.resize(1024 - 100);

  EXPECT_THAT(rig_.device.messages.back().numbers(), ElementsAre(2048, 100 << kPageShift));
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

TEST_F(ContDriverTest, PagesAreFreedWhenTheDeflationIsAnswered) {
  rig_.probe();
  rig_.resize(1024);
  rig_.device.answers = false;
  const std::uint64_t free_before = rig_.allocator.free_pages();

  EXPECT_EQ(rig_.resize(0), kWaitsForAnswer);
  EXPECT_EQ(rig_.allocator.free_pages(), free_before);

  rig_.device.answer();
  (void)rig_.driver->step({});
  EXPECT_EQ(rig_.allocator.free_pages(), free_before + 1024);
}

TEST_F(ContDriverTest, RemovedDriverEmptiesTheBalloonWithNumbers) {
  rig_.probe();
  rig_.resize(1000);
  const std::size_t before = rig_.device.messages.size();

  rig_.driver->remove();
  (void)rig_.driver->step({});

  for (const DecodedMessage& sent : rig_.messages_since(before)) {
    EXPECT_EQ(sent.queue, kDeflateQueue);
  }
  EXPECT_EQ(rig_.driver->ballooned_pages(), 0u);
}

// ---- without the bit ----------------------------------------------------------------------------

TEST_F(ContDriverTest, WithoutTheBitThereAreNoQueuesForBlocks) {
  rig_.device.offered = rig_.device.offered.without_bit(published_bit(Dialect::kContPages));
  rig_.probe();

  rig_.resize(300);

  EXPECT_EQ(rig_.driver->dialect(), Dialect::kStandard);
  EXPECT_EQ(rig_.device.configs[kInflateBlocks].size, 0);
  EXPECT_THAT(rig_.device.messages, SizeIs(2));
}

}  // namespace
}  // namespace vballoon
