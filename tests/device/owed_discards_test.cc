// SPDX-License-Identifier: MIT
// What of the pages that are owed goes to the kernel next (src/device/owed_discards.cc).
#include "device/owed_discards.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

#include "base/page_ranges.h"
#include "device/device_fixture.h"
#include "device/two_mib_pages.h"
#include "memory/test_discarders.h"

namespace vballoon {
namespace {

using testing::borrow_memory;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kPagesPerHugePage;
using testing::kTwoMib;

class OwedDiscardsTest : public ::testing::Test {
 protected:
  explicit OwedDiscardsTest(std::shared_ptr<const GuestMemory> memory = testing::memory_with_hole(),
                            HugePagePolicy policy = HugePagePolicy::kSplit)
      : memory_(std::move(memory)), owed_(*memory_, ledger_, policy) {}

  // Pages of the balloon that are owed, by their number in the dense table.
  void owe(PageRange dense) {
    for (std::uint64_t page = dense.first; page < dense.end(); ++page) {
      Ledger::Booked booked;
      ledger_.inflate(page / 64, std::uint64_t{1} << page % 64, booked);
    }
    ledger_.owe(dense);
    owed_.added();
  }
  PageRanges take() {
    PageRanges pages;
    for (const HostRun& run : owed_.take()) pages.push_back(testing::guest_pages(run));
    return pages;
  }
  // What the kernel did with what was taken: all of it, but for this run.
  std::uint64_t settle_all_but(PageRange refused) {
    const MemoryRegion& region = memory_->regions()[0];
    return owed_.settle(
        {{{region.host + refused.first * kPageSize, refused.bytes(), &region}, EINVAL}});
  }

  std::shared_ptr<const GuestMemory> memory_;
  Ledger ledger_{memory_->page_count()};
  OwedDiscards owed_;
};

TEST_F(OwedDiscardsTest, NothingIsTakenWhenNothingIsOwed) { EXPECT_THAT(take(), IsEmpty()); }

TEST_F(OwedDiscardsTest, RunsOfOwedPagesAreTaken) {
  owe({5, 3});
  owe({10, 1});

  EXPECT_THAT(take(), ElementsAre(PageRange{5, 3}, PageRange{10, 1}));
  EXPECT_TRUE(owed_.in_kernel());
}

TEST_F(OwedDiscardsTest, PagesInTheKernelAreOwedUntilTheyAreSettled) {
  owe({5, 3});

  take();

  EXPECT_EQ(ledger_.owed_pages(), 3u);
}

TEST_F(OwedDiscardsTest, RunsAreCutAtRegionBounds) {
  owe({0x3FE, 4});

  EXPECT_THAT(take(), ElementsAre(PageRange{0x3FE, 2}, PageRange{testing::kHigh, 2}));
}

TEST_F(OwedDiscardsTest, PassEndsWhenAllWasTaken) {
  owe({5, 3});
  take();
  owed_.settle({});

  EXPECT_THAT(take(), IsEmpty());
}

TEST_F(OwedDiscardsTest, PagesThatTheKernelTookAreCounted) {
  owe({5, 3});
  take();

  EXPECT_EQ(owed_.settle({}), 3u);
  EXPECT_EQ(ledger_.owed_pages(), 0u);
}

TEST_F(OwedDiscardsTest, RefusedPagesAreOwedAgain) {
  owe({5, 3});
  take();

  EXPECT_EQ(settle_all_but({6, 1}), 2u);

  EXPECT_EQ(ledger_.owed_pages(), 1u);
}

TEST_F(OwedDiscardsTest, RefusedPagesAreNotAskedForAgainInTheSamePass) {
  owe({5, 3});
  take();
  settle_all_but({5, 3});

  EXPECT_THAT(take(), IsEmpty());
}

TEST_F(OwedDiscardsTest, RefusedPagesAreAskedForAgainInTheNextPass) {
  owe({5, 3});
  take();
  settle_all_but({5, 3});
  take();

  owe({20, 1});

  EXPECT_THAT(take(), ElementsAre(PageRange{5, 3}, PageRange{20, 1}));
}

TEST_F(OwedDiscardsTest, PagesOwedBehindTheCursorAreTakenInAPassOfTheirOwn) {
  owe({50, 3});
  take();
  owe({5, 1});
  owed_.settle({});

  EXPECT_THAT(take(), ElementsAre(PageRange{5, 1}));
}

TEST_F(OwedDiscardsTest, PagesInTheKernelAreKnown) {
  owe({5, 3});
  owe({0x400, 1});
  take();

  EXPECT_TRUE(owed_.in_kernel(PageRanges{{0, 1}, {7, 10}}));
  EXPECT_TRUE(owed_.in_kernel(PageRanges{{testing::kHigh, 1}}));
  EXPECT_FALSE(owed_.in_kernel(PageRanges{{0, 5}, {8, 100}}));
}

TEST_F(OwedDiscardsTest, NothingIsInTheKernelOnceSettled) {
  owe({5, 3});
  take();
  owed_.settle({});

  EXPECT_FALSE(owed_.in_kernel(PageRanges{{5, 3}}));
}

class OwedDiscardsOfMuchMemoryTest : public OwedDiscardsTest {
 protected:
  OwedDiscardsOfMuchMemoryTest()
      : OwedDiscardsTest(GuestMemory::allocate(std::vector<RegionLayout>{{0, 256 << 20}}).value()) {
  }
};

TEST_F(OwedDiscardsOfMuchMemoryTest, PieceHasAtMost64MiB) {
  owe({0, 40'000});

  EXPECT_THAT(take(), ElementsAre(PageRange{0, 16384}));
  owed_.settle({});
  EXPECT_THAT(take(), ElementsAre(PageRange{16384, 16384}));
}

TEST_F(OwedDiscardsOfMuchMemoryTest, PieceHasAtMost1024Runs) {
  for (std::uint64_t i = 0; i < 2000; ++i) owe({2 * i, 1});

  EXPECT_EQ(take().size(), 1024u);
}

class OwedDiscardsOfHugePagesTest : public OwedDiscardsTest {
 protected:
  OwedDiscardsOfHugePagesTest() : OwedDiscardsTest(borrow_memory({{0, 2 * kTwoMib}})) {}
};

TEST_F(OwedDiscardsOfHugePagesTest, HugePageIsTakenAsAWhole) {
  owe({0, kPagesPerHugePage + 1});

  EXPECT_THAT(take(), ElementsAre(PageRange{0, kPagesPerHugePage}));
  EXPECT_EQ(owed_.settle({}), kPagesPerHugePage);
  EXPECT_EQ(ledger_.owed_pages(), 1u);
}

TEST_F(OwedDiscardsOfHugePagesTest, RefusedHugePageOwesWhatItOwedBefore) {
  owe({0, kPagesPerHugePage});
  take();
  owed_.settle({});
  owe({7, 1});
  take();

  EXPECT_EQ(settle_all_but({0, kPagesPerHugePage}), 0u);

  EXPECT_EQ(ledger_.owed_pages(), 1u);
}

TEST_F(OwedDiscardsOfHugePagesTest, BAL_D_05_HugePageThatIsNotWholeStaysOwed) {
  owe({1, kPagesPerHugePage - 1});

  EXPECT_THAT(take(), IsEmpty());
  EXPECT_EQ(ledger_.owed_pages(), kPagesPerHugePage - 1);
}

TEST_F(OwedDiscardsOfHugePagesTest, HugePagesThatFollowOneAnotherAreOneRun) {
  owe({0, 2 * kPagesPerHugePage});

  EXPECT_THAT(take(), ElementsAre(PageRange{0, 2 * kPagesPerHugePage}));
  EXPECT_EQ(owed_.settle({}), 2 * kPagesPerHugePage);
}

// Two transparent huge pages.
class OwedDiscardsOfTransparentPagesTest : public OwedDiscardsTest {
 protected:
  static constexpr std::uint64_t kN = kPagesPerHugePage;

  explicit OwedDiscardsOfTransparentPagesTest(HugePagePolicy policy = HugePagePolicy::kHeal)
      : OwedDiscardsTest(borrow_memory({{0, 2 * kTwoMib, kPageSize, kTwoMib}}), policy) {}
};

TEST_F(OwedDiscardsOfTransparentPagesTest, PartsAreTakenAsTheyAre) {
  owe({5, 3});
  owe({kN - 2, 4});

  EXPECT_THAT(take(), ElementsAre(PageRange{5, 3}, PageRange{kN - 2, 4}));
}

TEST_F(OwedDiscardsOfTransparentPagesTest, LastPartOfOneIsTakenWithTheWhole) {
  owe({0, kN - 1});
  take();
  owed_.settle({});
  owe({kN - 1, 1});

  EXPECT_THAT(take(), ElementsAre(PageRange{0, kN}));
  EXPECT_EQ(owed_.settle({}), 1u) << "the others were freed before";
}

class OwedDiscardsOfKeptPagesTest : public OwedDiscardsOfTransparentPagesTest {
 protected:
  OwedDiscardsOfKeptPagesTest() : OwedDiscardsOfTransparentPagesTest(HugePagePolicy::kKeepWhole) {}
};

TEST_F(OwedDiscardsOfKeptPagesTest, PartStaysOwedAndTheWholeIsTaken) {
  owe({5, 3});
  owe({kN, kN});

  EXPECT_THAT(take(), ElementsAre(PageRange{kN, kN}));
  EXPECT_EQ(owed_.settle({}), kN);
  EXPECT_EQ(ledger_.owed_pages(), 3u);
}

}  // namespace
}  // namespace vballoon
