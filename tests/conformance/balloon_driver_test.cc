// SPDX-License-Identifier: MIT
// What the standard asks of a balloon driver (virtio 1.3, section 5.5), of the simulated one. Names
// bear the ids of checklist.tsv.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "guest/driver_fixture.h"

namespace vballoon {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAreArray;
using ::vballoon::testing::DecodedMessage;
using ::vballoon::testing::DriverRig;
using ::vballoon::testing::kWaitsForAnswer;
using ::vballoon::testing::kWaitsForTarget;
using ::vballoon::testing::pages_of;

class BalloonDriverConformance : public ::testing::Test {
 protected:
  BalloonDriverConformance() { rig_.probe(); }

  void exhaust_memory() {
    while (rig_.allocator.allocate(0)) {
    }
  }
  // How many of the pages the guest may use again.
  std::uint64_t free_among(const PageRanges& ranges) {
    std::uint64_t count = 0;
    for (const PageRange& range : ranges) {
      for (Pfn pfn = range.first; pfn < range.end(); ++pfn) count += rig_.allocator.is_free(pfn);
    }
    return count;
  }
  std::vector<std::uint32_t> ballooned_numbers() {
    std::vector<std::uint32_t> all;
    rig_.driver->for_each_block(
        [&](sim::Block block) { all.push_back(static_cast<std::uint32_t>(block.first)); });
    return all;
  }

  DriverRig rig_;
};

auto is_deflate() { return Field(&DecodedMessage::queue, kDeflateQueue); }

TEST_F(BalloonDriverConformance, BAL_G_01_MustTellHostIsAccepted) {
  EXPECT_TRUE(rig_.device.accepted.has(Feature::kMustTellHost));
}

TEST_F(BalloonDriverConformance, BAL_I_05_PagesAreNumbersOf32BitsInOneReadableBuffer) {
  rig_.resize(200);

  ASSERT_THAT(rig_.device.messages, SizeIs(1));
  EXPECT_THAT(rig_.device.messages[0].numbers(), UnorderedElementsAreArray(ballooned_numbers()));
  EXPECT_THAT(rig_.device.messages[0].payload, SizeIs(4 * 200));
  EXPECT_THAT(rig_.device.messages[0].writable, IsEmpty());
}

TEST_F(BalloonDriverConformance, BAL_I_06_ActualIsWrittenAfterTheAnswer) {
  rig_.device.answers = false;
  rig_.resize(100);
  ASSERT_THAT(rig_.device.actuals, IsEmpty());

  rig_.device.answer();
  rig_.driver->step({});

  EXPECT_THAT(rig_.device.actuals, ElementsAre(100));
}

// ---- following the target -----------------------------------------------------------------------

TEST_F(BalloonDriverConformance, BAL_G_04_PagesAreSuppliedUpToTheTarget) {
  EXPECT_EQ(rig_.resize(1000), kWaitsForTarget);

  EXPECT_EQ(rig_.device.ballooned().count(), 1000u);
}

TEST_F(BalloonDriverConformance, BAL_G_05_PagesBeyondTheTargetAreUsedAgain) {
  rig_.resize(1000);

  rig_.resize(300);

  EXPECT_EQ(rig_.allocator.free_pages(), rig_.free_after_probe - 300);
  EXPECT_EQ(rig_.device.ballooned().count(), 300u);
}

TEST_F(BalloonDriverConformance, BAL_G_06_NoMorePagesAreSuppliedThanTheTarget) {
  rig_.resize(1000);

  EXPECT_THAT(rig_.device.messages, Each(Not(is_deflate()))) << "none had to be taken back";
}

TEST_F(BalloonDriverConformance, BAL_G_06_BeyondTheTargetNoPagesAreSupplied) {
  rig_.resize(1000);
  const std::size_t before = rig_.device.messages.size();

  rig_.resize(300);

  EXPECT_THAT(rig_.messages_since(before), Each(is_deflate()));
}

TEST_F(BalloonDriverConformance, BAL_G_07_GuestThatRunsOutOfMemoryTakesNoPagesBack) {
  rig_.resize(1000);
  const std::size_t before = rig_.device.messages.size();
  exhaust_memory();

  EXPECT_EQ(rig_.driver->step({}), kWaitsForTarget);

  EXPECT_THAT(rig_.messages_since(before), IsEmpty());
  EXPECT_EQ(rig_.allocator.free_pages(), 0u);
}

TEST_F(BalloonDriverConformance, BAL_G_07_NoMorePagesAreTakenBackThanTheDeviceLets) {
  rig_.resize(1000);
  rig_.device.answers = false;

  rig_.resize(993);

  EXPECT_EQ(rig_.device.ballooned().count(), 993u);
}

TEST_F(BalloonDriverConformance, BAL_G_14_ActualIsWrittenAfterEachChange) {
  rig_.resize(200);
  rig_.resize(50);

  EXPECT_THAT(rig_.device.actuals, ElementsAre(200, 50));
}

TEST(BalloonDriverChunkConformance, BAL_G_15_ActualIsWrittenOnceForManyMessages) {
  DriverRig rig{Dialect::kScatterGather};
  rig.options.queue_size = 64;
  rig.punch_holes();
  rig.probe();

  rig.resize(300);

  EXPECT_THAT(rig.device.messages, SizeIs(300)) << "each page is a run of its own";
  EXPECT_THAT(rig.device.actuals, ElementsAre(300));
}

// ---- when a page may be used --------------------------------------------------------------------

TEST_F(BalloonDriverConformance, BAL_G_09_PagesThatAreUsedAgainWereNamedOnTheDeflateQueue) {
  rig_.resize(200);
  const PageRanges inflated = rig_.balloon();
  const std::size_t before = rig_.device.messages.size();

  rig_.resize(50);

  const std::vector<DecodedMessage> deflates = rig_.messages_since(before);
  EXPECT_THAT(deflates, Each(is_deflate()));
  EXPECT_EQ(free_among(pages_of(deflates)), 150u) << "all that were named";
  EXPECT_EQ(free_among(inflated), 150u) << "and no others";
}

TEST_F(BalloonDriverConformance, BAL_G_10_LeavingPagesAreNotUsedBeforeTheirDeflateIsAnswered) {
  rig_.resize(200);
  const PageRanges inflated = rig_.balloon();
  rig_.device.answers = false;

  EXPECT_EQ(rig_.resize(0), kWaitsForAnswer);
  EXPECT_EQ(free_among(inflated), 0u);

  rig_.device.answer();
  rig_.driver->step({});
  EXPECT_EQ(free_among(inflated), 200u);
}

TEST_F(BalloonDriverConformance, BAL_G_12_PagesAreNotUsedBeforeTheirInflateIsAnswered) {
  rig_.device.answers = false;
  rig_.resize(200);

  EXPECT_EQ(rig_.resize(0), kWaitsForAnswer);

  EXPECT_EQ(free_among(pages_of(rig_.device.messages)), 0u);
}

TEST_F(BalloonDriverConformance, BAL_G_13_PagesAreNotDeflatedBeforeTheirInflateIsAnswered) {
  rig_.device.answers = false;
  rig_.resize(200);

  rig_.resize(0);
  EXPECT_THAT(rig_.device.messages, SizeIs(1)) << "the inflate";

  rig_.device.answer();
  rig_.driver->step({});
  ASSERT_THAT(rig_.device.messages, SizeIs(2));
  EXPECT_THAT(rig_.device.messages[1], is_deflate());
}

}  // namespace
}  // namespace vballoon
