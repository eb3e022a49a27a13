// SPDX-License-Identifier: MIT
// What the simulated driver does in one dialect only (src/guest/driver_resize.cc).
#include <numeric>

#include "guest/driver_fixture.h"
#include "wire/page_bitmap.h"

namespace vballoon {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::Field;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::vballoon::testing::DecodedMessage;
using ::vballoon::testing::DriverRig;
using ::vballoon::testing::kWaitsForAnswer;
using ::vballoon::testing::kWaitsForTarget;
using ::vballoon::testing::pages_of;

// Numbers first, first + step, ...
std::vector<std::uint32_t> counted(std::uint32_t first, std::int32_t step, std::size_t count) {
  std::vector<std::uint32_t> numbers(count);
  for (std::uint32_t& number : numbers) {
    number = first;
    first += static_cast<std::uint32_t>(step);
  }
  return numbers;
}

// ---- arrays of page numbers -----------------------------------------------------------------

// A fresh guest of one block of 1024 pages beside the driver's own gives pages in ascending order.
class PfnDriverTest : public ::testing::Test {
 protected:
  void probe(sim::PfnOrder order) {
    rig_.options.pfn_order = order;
    rig_.probe();
    // The pages around the driver's own come first; past them the allocator goes upwards.
    while (rig_.allocator.free_blocks_by_order()[10] * 1024 != rig_.allocator.free_pages()) {
      (void)rig_.allocator.allocate(0);
    }
    const auto next = rig_.allocator.allocate(0).value();
    first_ = static_cast<std::uint32_t>(next.first);
    rig_.allocator.free(next);
  }
  [[nodiscard]] const DecodedMessage& message(std::size_t index) const {
    return rig_.device.messages.at(index);
  }

  DriverRig rig_;
  std::uint32_t first_ = 0;  // the page that the allocator gives next
};

TEST_F(PfnDriverTest, MessageHasAtMost256NumbersAndTheLastOneTheRest) {
  probe(sim::PfnOrder::kReversed);

  rig_.resize(600);

  ASSERT_THAT(rig_.device.messages, SizeIs(3));
  EXPECT_EQ(message(0).payload.size(), 4u * 256);
  EXPECT_EQ(message(1).payload.size(), 4u * 256);
  EXPECT_EQ(message(2).payload.size(), 4u * 88);
}

TEST_F(PfnDriverTest, ActualIsWrittenAfterEachMessage) {
  probe(sim::PfnOrder::kReversed);

  rig_.resize(600);
  rig_.resize(80);

  EXPECT_THAT(rig_.device.actuals, ElementsAre(256, 512, 600, 344, 88, 80));
}

TEST_F(PfnDriverTest, SinceLinux2018TheArrayBeginsWithThePageAllocatedLast) {
  probe(sim::PfnOrder::kReversed);

  rig_.resize(256);

  EXPECT_THAT(message(0).numbers(), ElementsAreArray(counted(first_ + 255, -1, 256)));
}

TEST_F(PfnDriverTest, SinceLinux2018ThePageAllocatedFirstLeavesFirst) {
  probe(sim::PfnOrder::kReversed);
  rig_.resize(256);

  rig_.resize(156);

  EXPECT_THAT(message(1).numbers(), ElementsAreArray(counted(first_, 1, 100)));
}

TEST_F(PfnDriverTest, InLinuxOf2016TheArrayIsInTheOrderOfAllocation) {
  probe(sim::PfnOrder::kAllocation);

  rig_.resize(256);

  EXPECT_THAT(message(0).numbers(), ElementsAreArray(counted(first_, 1, 256)));
}

TEST_F(PfnDriverTest, InLinuxOf2016ThePageAllocatedLastLeavesFirst) {
  probe(sim::PfnOrder::kAllocation);
  rig_.resize(256);

  rig_.resize(156);

  EXPECT_THAT(message(1).numbers(), ElementsAreArray(counted(first_ + 255, -1, 100)));
}

TEST_F(PfnDriverTest, PagesOfTheLastMessageLeaveBeforeThoseOfTheFirst) {
  probe(sim::PfnOrder::kReversed);
  rig_.resize(512);

  rig_.resize(256);

  EXPECT_EQ(pages_of({message(2)}), pages_of({message(1)}));
}

TEST_F(PfnDriverTest, TargetThatFallsBetweenTwoMessagesStopsTheInflation) {
  probe(sim::PfnOrder::kReversed);
  rig_.device.answers = false;
  rig_.resize(2000);

  rig_.device.target = 256;
  rig_.device.answer();

  EXPECT_EQ(rig_.driver->step({}), kWaitsForTarget);
  EXPECT_THAT(rig_.device.messages, SizeIs(1));
}

TEST_F(PfnDriverTest, OnlySinglePagesAreAllocated) {
  probe(sim::PfnOrder::kReversed);

  rig_.resize(600);

  EXPECT_EQ(rig_.driver->counters().allocations_by_order[0], 600u);
}

// ---- bitmaps --------------------------------------------------------------------------------

class BitmapDriverTest : public ::testing::Test {
 protected:
  [[nodiscard]] BitmapCommand command(std::size_t message) const {
    return static_cast<BitmapCommand>(rig_.device.messages.at(message).payload.at(0));
  }

  DriverRig rig_{Dialect::kPageBitmap};
};

TEST_F(BitmapDriverTest, WholeDifferenceIsOneOperation) {
  rig_.probe();

  rig_.resize(3000);

  EXPECT_THAT(rig_.device.messages, SizeIs(1));
  EXPECT_THAT(rig_.device.actuals, ElementsAre(3000));
}

TEST_F(BitmapDriverTest, AsManyPagesAsTheThresholdAreNamedByNumber) {
  rig_.options.pfn_threshold_pages = 4;
  rig_.probe();

  rig_.resize(4);

  EXPECT_EQ(command(0), BitmapCommand::kPfnArray);
  EXPECT_EQ(rig_.device.messages[0].payload.size(), 8u + 4 * 4);
}

TEST_F(BitmapDriverTest, OnePageMoreThanTheThresholdIsNamedByRecords) {
  rig_.options.pfn_threshold_pages = 4;
  rig_.probe();

  rig_.resize(5);

  EXPECT_EQ(command(0), BitmapCommand::kRecords);
}

TEST_F(BitmapDriverTest, WithoutAThresholdASinglePageIsNamedByARecord) {
  rig_.options.pfn_threshold_pages = 0;
  rig_.probe();

  rig_.resize(1);

  EXPECT_EQ(command(0), BitmapCommand::kRecords);
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

TEST_F(BitmapDriverTest, DeflationIsNamedByRecordsToo) {
  rig_.probe();
  rig_.resize(3000);

  rig_.resize(1000);

  EXPECT_EQ(command(1), BitmapCommand::kRecords);
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

TEST_F(BitmapDriverTest, HolesBetweenThePagesAreNotNamed) {
  rig_.options.reserve_pages = 0;
  rig_.probe();
  rig_.punch_holes();

  rig_.resize(1000);

  EXPECT_EQ(rig_.device.ballooned().count(), 1000u);
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

// ---- runs of pages as descriptors -----------------------------------------------------------

class ChunkDriverTest : public ::testing::Test {
 protected:
  DriverRig rig_{Dialect::kScatterGather};
};

TEST_F(ChunkDriverTest, EachMessageIsOneWritableDescriptorWithoutPayload) {
  rig_.probe();
  rig_.punch_holes();

  rig_.resize(100);

  EXPECT_THAT(rig_.device.messages, SizeIs(100));
  EXPECT_THAT(rig_.device.messages, Each(AllOf(Field(&DecodedMessage::payload, IsEmpty()),
                                               Field(&DecodedMessage::writable, SizeIs(1)))));
}

TEST_F(ChunkDriverTest, LargestBlocksAreTakenFirst) {
  rig_.probe();

  rig_.resize(2048 + 512 + 3);

  const auto& orders = rig_.driver->counters().allocations_by_order;
  EXPECT_THAT(orders, ElementsAre(1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2));
}

TEST_F(ChunkDriverTest, NeighbouringBlocksBecomeOneDescriptor) {
  rig_.probe();

  rig_.resize(3072);

  EXPECT_EQ(rig_.driver->counters().allocations_by_order[10], 3u);
  EXPECT_THAT(rig_.device.messages, SizeIs(1));
}

TEST_F(ChunkDriverTest, WithOrderZeroSinglePagesAreTakenAndNamedAsRuns) {
  rig_.options.chunk_order = 0;
  rig_.probe();

  rig_.resize(2000);

  EXPECT_EQ(rig_.driver->counters().allocations_by_order[0], 2000u);
  EXPECT_THAT(rig_.device.messages, SizeIs(testing::pages_of(rig_.device.messages).size()));
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
}

TEST_F(ChunkDriverTest, FullRingIsKickedAndGoneOnWithWhenAllIsAnswered) {
  rig_.options.queue_size = 8;
  rig_.probe();
  rig_.punch_holes();

  EXPECT_EQ(rig_.resize(20), kWaitsForTarget);

  EXPECT_THAT(rig_.device.messages, SizeIs(20));
  EXPECT_EQ(rig_.device.kicks, 3u);
  EXPECT_THAT(rig_.device.actuals, ElementsAre(20));
}

TEST_F(ChunkDriverTest, RingThatIsFullWithTheLastRunNeedsNoFurtherRound) {
  rig_.options.queue_size = 8;
  rig_.probe();
  rig_.punch_holes();

  rig_.resize(16);

  EXPECT_THAT(rig_.device.messages, SizeIs(16));
  EXPECT_EQ(rig_.device.kicks, 2u);
}

// As published, one used buffer was enough for the driver to go on.
TEST_F(ChunkDriverTest, PagesAreNotFreedBeforeTheLastDescriptorIsUsed) {
  rig_.probe();
  rig_.punch_holes();
  rig_.resize(5);
  rig_.device.answers = false;
  const std::uint64_t free_before = rig_.allocator.free_pages();
  rig_.resize(0);

  rig_.device.answer(4);
  EXPECT_EQ(rig_.driver->step({}), kWaitsForAnswer);
  EXPECT_EQ(rig_.allocator.free_pages(), free_before);

  rig_.device.answer(1);
  EXPECT_EQ(rig_.driver->step({}), kWaitsForTarget);
  EXPECT_EQ(rig_.allocator.free_pages(), free_before + 5);
}

TEST_F(ChunkDriverTest, PartOfABlockLeavesAndTheRestStays) {
  rig_.probe();
  rig_.resize(1024);

  rig_.resize(1000);

  EXPECT_EQ(rig_.driver->ballooned_pages(), 1000u);
  EXPECT_EQ(rig_.device.ballooned().count(), 1000u);
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
  EXPECT_EQ(rig_.allocator.free_pages(), rig_.free_after_probe - 1000);
}

TEST_F(ChunkDriverTest, BlockThatLeavesPageByPageIsWholeAgainInTheAllocator) {
  rig_.probe();
  const auto before = rig_.allocator.free_blocks_by_order();
  rig_.resize(8);

  for (std::uint64_t pages = 8; pages-- > 0;) rig_.resize(pages);

  EXPECT_EQ(rig_.allocator.free_blocks_by_order(), before);
}

}  // namespace
}  // namespace vballoon
