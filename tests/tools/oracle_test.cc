// SPDX-License-Identifier: MIT
#include "oracle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "sizes.h"
#include "vballoon/sim/machine.h"

namespace vballoon::tool {
namespace {

constexpr std::uint64_t kRegionBytes = 8 * kMiB;
constexpr std::array kLayout{RegionLayout{0, kRegionBytes}, RegionLayout{4 * kGiB, kRegionBytes}};
constexpr std::uint64_t kBalloonPages = 512;

bool always(double) { return true; }
bool never(double) { return false; }

std::shared_ptr<const GuestMemory> make_memory(Backing backing) {
  return *GuestMemory::allocate(kLayout, {backing, ThpMode::kOff});
}

TEST(ResidentBytesTest, FreshMemoryHoldsNothing) {
  EXPECT_EQ(resident_bytes(*make_memory(Backing::kAnonymous)), 0U);
  EXPECT_EQ(resident_bytes(*make_memory(Backing::kMemfd)), 0U);
}

TEST(ResidentBytesTest, TouchedPageOfPrivateMemoryCounts) {
  const auto memory = make_memory(Backing::kAnonymous);

  *memory->host(4 * kGiB + 5 * kPageSize, 1) = std::byte{1};

  EXPECT_EQ(resident_bytes(*memory), kPageSize);
}

TEST(ResidentBytesTest, TouchedPageOfAFileCounts) {
  const auto memory = make_memory(Backing::kMemfd);

  *memory->host(4 * kGiB + 5 * kPageSize, 1) = std::byte{1};

  EXPECT_EQ(resident_bytes(*memory), kPageSize);
}

TEST(FreePagesTest, AreThoseOfTheAllocator) {
  const std::array zones{PageRange{16, 4}, PageRange{64, 2}};
  sim::PageAllocator allocator(zones);
  const auto taken = allocator.allocate(0);

  const PageSet free = free_pages_of(allocator);

  EXPECT_EQ(free.count(), 5U);
  EXPECT_TRUE(free.contains(16));
  EXPECT_FALSE(free.contains(20));
  EXPECT_FALSE(free.contains(taken->first));
}

TEST(OracleTest, MarkingTouchesEveryPage) {
  const auto memory = make_memory(Backing::kAnonymous);

  ASSERT_TRUE(Oracle(memory, 1).mark_all(always));

  EXPECT_EQ(resident_bytes(*memory), memory->bytes());
}

TEST(OracleTest, MarkingStopsWhenTold) {
  const auto memory = make_memory(Backing::kAnonymous);

  EXPECT_FALSE(Oracle(memory, 1).mark_all(never));
  EXPECT_EQ(resident_bytes(*memory), kPageSize);
}

// A guest whose balloon is filled, with an oracle that saw it before.
class FilledBalloonTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(oracle_.mark_all(always));
    const PageSet free_before = free_pages_of(allocator_);
    auto machine = sim::Machine::start(memory_, allocator_, make_kernel_discarder(),
                                       {.notify = sim::NotifyMode::kDirect});
    ASSERT_TRUE(machine);
    machine_ = std::move(*machine);
    oracle_.except_driver_pages(free_before, allocator_);
    ASSERT_TRUE(oracle_.before_inflate());
    report_ = machine_->resize(kBalloonPages).value();
  }

  [[nodiscard]] std::string check_inflated(const Tick& tick = always) {
    return oracle_.after_inflate(machine_->driver(), report_, tick);
  }
  [[nodiscard]] std::string check_deflated(const Tick& tick = always) {
    return oracle_.after_deflate(*machine_, tick);
  }
  void deflate() { ASSERT_TRUE(machine_->resize(0)); }

  [[nodiscard]] Pfn ballooned_page() {
    Pfn page = 0;
    machine_->driver().for_each_block([&](sim::Block block) { page = block.first; });
    return page;
  }
  // A free page of the lower region, of which the balloon has none.
  void change_page_outside_the_balloon() { spoil(3); }
  void move(Pfn from, Pfn to) {
    std::memcpy(memory_->host(to << kPageShift, kPageSize),
                memory_->host(from << kPageShift, kPageSize), kPageSize);
  }
  void tell_of_moves(const std::vector<MovedPage>& moves) { oracle_.pages_moved(moves); }
  void spoil(Pfn pfn) { memory_->host(pfn << kPageShift, kPageSize)[8] ^= std::byte{0xff}; }

  sim::ResizeReport report_;

 private:
  const std::shared_ptr<const GuestMemory> memory_ = make_memory(Backing::kAnonymous);
  static constexpr std::array kZones{PageRange{0, kRegionBytes >> kPageShift},
                                     PageRange{4 * kGiB >> kPageShift, kRegionBytes >> kPageShift}};
  sim::PageAllocator allocator_{kZones};
  Oracle oracle_{memory_, 1};
  std::unique_ptr<sim::Machine> machine_;
};

TEST_F(FilledBalloonTest, HonestDevicePasses) {
  EXPECT_EQ(check_inflated(), "");
  deflate();
  EXPECT_EQ(check_deflated(), "");
}

TEST_F(FilledBalloonTest, ChangedPageOutsideTheBalloonIsNamed) {
  change_page_outside_the_balloon();

  EXPECT_EQ(check_inflated(), "page 0x3 lost its contents outside the balloon");
}

TEST_F(FilledBalloonTest, PageThatIsStillThereIsMissed) {
  spoil(ballooned_page());

  EXPECT_EQ(check_inflated(),
            "the device says it freed 2097152 bytes, resident memory shrank by 2093056");
}

TEST_F(FilledBalloonTest, BytesThatNobodyAccountsForAreMissed) {
  report_.pages += 1;

  EXPECT_EQ(check_inflated(),
            "freed, owed and forgone come to 2097152 bytes, 2101248 were inflated");
}

TEST_F(FilledBalloonTest, PageThatWasMovedIsLookedForWhereItIs) {
  move(3, 5);
  move(5, 7);
  tell_of_moves({{3, 5}, {5, 7}});

  EXPECT_EQ(check_inflated(), "");
}

TEST_F(FilledBalloonTest, MoveThatNobodyToldOfIsNoticed) {
  move(3, 5);

  EXPECT_EQ(check_inflated(), "page 0x5 lost its contents outside the balloon");
}

TEST_F(FilledBalloonTest, PageThatWasMovedWithoutItsContentIsNoticed) {
  tell_of_moves({{3, 5}});

  EXPECT_EQ(check_inflated(), "page 0x5 lost its contents outside the balloon");
}

TEST_F(FilledBalloonTest, CheckThatIsStoppedFindsNothing) {
  change_page_outside_the_balloon();

  EXPECT_EQ(check_inflated(never), "");
}

TEST_F(FilledBalloonTest, BalloonThatIsNotEmptyAfterDeflationIsNoticed) {
  ASSERT_EQ(check_inflated(), "");

  EXPECT_EQ(check_deflated(), "512 pages are still booked as ballooned after a full deflation");
}

TEST_F(FilledBalloonTest, PageThatChangesWhileDeflatingIsNamed) {
  ASSERT_EQ(check_inflated(), "");
  deflate();
  change_page_outside_the_balloon();

  EXPECT_EQ(check_deflated(), "page 0x3 lost its contents outside the balloon");
}

TEST_F(FilledBalloonTest, DeflationThatIsStoppedFindsNothing) {
  ASSERT_EQ(check_inflated(), "");
  deflate();
  change_page_outside_the_balloon();

  EXPECT_EQ(check_deflated(never), "");
}

}  // namespace
}  // namespace vballoon::tool
