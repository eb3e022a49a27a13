// SPDX-License-Identifier: MIT
// Finding, translating and copying in guest memory (src/memory/guest_memory.cc). The memory is
// borrowed, so that these tests do not depend on what the kernel maps.
#include "vballoon/guest_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string>

#include "allocation_counter.h"

namespace vballoon {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::uint64_t kMaxU64 = std::numeric_limits<std::uint64_t>::max();

// Guest pages 2 to 4, 5 to 6 (adjacent in the guest, apart in the host), and 16 to 19.
class GuestMemoryTest : public ::testing::Test {
 protected:
  std::byte* low() { return pages_.bytes.data(); }
  std::byte* middle() { return low() + 8 * kPageSize; }
  std::byte* high() { return low() + 4 * kPageSize; }

  const MemoryRegion* region(std::size_t index) const { return &memory_->regions()[index]; }

  std::vector<HostRun> translated(PageRange range) const {
    std::vector<HostRun> runs;
    memory_->translate(range, runs);
    return runs;
  }

  struct alignas(kPageSize) Pages {
    std::array<std::byte, 10 * kPageSize> bytes{};
  };
  Pages pages_;
  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::borrow(
          std::array{
              BorrowedRegion{.guest_address = 0x10000, .bytes = 4 * kPageSize, .host = high()},
              BorrowedRegion{.guest_address = 0x2000, .bytes = 3 * kPageSize, .host = low()},
              BorrowedRegion{.guest_address = 0x5000, .bytes = 2 * kPageSize, .host = middle()},
          })
          .value();
};

TEST_F(GuestMemoryTest, RegionsAreSortedAndTheirPagesNumbered) {
  EXPECT_EQ(region(0)->guest_address, 0x2000u);
  EXPECT_EQ(region(2)->guest_address, 0x10000u);
  EXPECT_EQ(region(2)->first_page_index, 5u);
  EXPECT_EQ(memory_->page_count(), 9u);
  EXPECT_EQ(memory_->bytes(), 9 * kPageSize);
}

TEST_F(GuestMemoryTest, FirstAndLastByteOfARegionAreFound) {
  EXPECT_EQ(memory_->find(0x2000), region(0));
  EXPECT_EQ(memory_->find(0x4fff), region(0));
  EXPECT_EQ(memory_->find(0x13fff), region(2));
}

TEST_F(GuestMemoryTest, AddressesOutsideAreNotFound) {
  EXPECT_EQ(memory_->find(0x1fff), nullptr);
  EXPECT_EQ(memory_->find(0x7000), nullptr);
  EXPECT_EQ(memory_->find(0x14000), nullptr);
  EXPECT_EQ(memory_->find(kMaxU64), nullptr);
}

TEST_F(GuestMemoryTest, PageInAHoleFindsTheRegionAbove) {
  EXPECT_EQ(memory_->find_or_next(0), region(0));
  EXPECT_EQ(memory_->find_or_next(7), region(2));
  EXPECT_EQ(memory_->find_or_next(20), nullptr);
  EXPECT_EQ(memory_->find_or_next(kMaxU64), nullptr);
}

TEST_F(GuestMemoryTest, HintOfAnEarlierFindDoesNotMislead) {
  ASSERT_EQ(memory_->find(0x10000), region(2));

  EXPECT_EQ(memory_->find(0x2000), region(0));
  EXPECT_EQ(memory_->find(0x8000), nullptr);
  EXPECT_EQ(memory_->find(0x5000), region(1));
}

TEST_F(GuestMemoryTest, HostAddressIsGivenForWhatOneRegionHolds) {
  EXPECT_EQ(memory_->host(0x3010, 16), low() + kPageSize + 16);
  EXPECT_EQ(memory_->host(0x2000, 3 * kPageSize), low());
}

TEST_F(GuestMemoryTest, HostAddressIsRefusedAcrossRegions) {
  EXPECT_EQ(memory_->host(0x4ff8, 16), nullptr);
  EXPECT_EQ(memory_->host(0x6ff8, 16), nullptr);
  EXPECT_EQ(memory_->host(0x8000, 1), nullptr);
  EXPECT_EQ(memory_->host(0x2000, kMaxU64), nullptr);
}

TEST_F(GuestMemoryTest, RangeIsCutAtRegionBoundsAndHoles) {
  std::vector<HostRun> runs;

  const std::uint64_t inside = memory_->translate({3, 14}, runs);

  EXPECT_EQ(inside, 5u);
  EXPECT_THAT(runs, ElementsAre(HostRun{low() + kPageSize, 2 * kPageSize, region(0)},
                                HostRun{middle(), 2 * kPageSize, region(1)},
                                HostRun{high(), kPageSize, region(2)}));
}

TEST_F(GuestMemoryTest, RunsAreAppendedToWhatIsThere) {
  std::vector<HostRun> runs = translated({2, 1});

  memory_->translate({16, 1}, runs);

  EXPECT_THAT(runs, ElementsAre(HostRun{low(), kPageSize, region(0)},
                                HostRun{high(), kPageSize, region(2)}));
}

TEST_F(GuestMemoryTest, RangeInAHoleHasNoRuns) { EXPECT_THAT(translated({7, 9}), IsEmpty()); }

TEST_F(GuestMemoryTest, EmptyRangeHasNoRuns) { EXPECT_THAT(translated({3, 0}), IsEmpty()); }

TEST_F(GuestMemoryTest, RangeWithoutEndIsClipped) {
  EXPECT_THAT(translated({18, kMaxU64}),
              ElementsAre(HostRun{high() + 2 * kPageSize, 2 * kPageSize, region(2)}));
}

TEST_F(GuestMemoryTest, PageWhoseAddressWouldWrapIsOutside) {
  constexpr Pfn kWraps = (Pfn{1} << 52) + 2;  // << 12 gives 0x2000 in 64 bits

  EXPECT_THAT(translated({kWraps, 1}), IsEmpty());
}

TEST_F(GuestMemoryTest, TranslatingIntoRoomDoesNotAllocate) {
  std::vector<HostRun> runs;
  runs.reserve(3);
  const testing::AllocationCounter allocations;

  memory_->translate({0, kMaxU64}, runs);

  EXPECT_EQ(allocations.count(), 0u);
}

TEST_F(GuestMemoryTest, BytesAreReadAcrossAdjacentRegions) {
  low()[3 * kPageSize - 1] = std::byte{1};
  middle()[0] = std::byte{2};
  std::array<std::byte, 2> out{};

  EXPECT_TRUE(memory_->read(0x4fff, out));

  EXPECT_THAT(out, ElementsAre(std::byte{1}, std::byte{2}));
}

TEST_F(GuestMemoryTest, BytesAreWrittenAcrossAdjacentRegions) {
  EXPECT_TRUE(memory_->write(0x4fff, std::array{std::byte{1}, std::byte{2}}));

  EXPECT_EQ(low()[3 * kPageSize - 1], std::byte{1});
  EXPECT_EQ(middle()[0], std::byte{2});
}

TEST_F(GuestMemoryTest, ReadIntoAHoleCopiesNothing) {
  std::fill_n(middle(), 2 * kPageSize, std::byte{7});
  std::array<std::byte, 16> out{};

  EXPECT_FALSE(memory_->read(0x6ff8, out));

  EXPECT_THAT(out, Each(std::byte{0}));
}

TEST_F(GuestMemoryTest, WriteIntoAHoleCopiesNothing) {
  std::array<std::byte, 16> in;
  in.fill(std::byte{7});

  EXPECT_FALSE(memory_->write(0x6ff8, in));

  EXPECT_THAT(pages_.bytes, Each(std::byte{0}));
}

TEST_F(GuestMemoryTest, ReadAtTheEndOfTheAddressSpaceIsRefused) {
  std::array<std::byte, 16> out{};

  EXPECT_FALSE(memory_->read(kMaxU64 - 7, out));
}

TEST_F(GuestMemoryTest, NothingIsReadFromAnywhere) {
  EXPECT_TRUE(memory_->read(0x8000, std::span<std::byte>()));
}

TEST(EmptyGuestMemoryTest, HoldsNothing) {
  const auto memory = GuestMemory::borrow({}).value();
  std::vector<HostRun> runs;

  EXPECT_EQ(memory->find(0), nullptr);
  EXPECT_EQ(memory->translate({0, kMaxU64}, runs), 0u);
}

// What borrow() refuses: a sound region with one thing changed.
struct BadRegion {
  std::string name;
  void (*spoil)(BorrowedRegion&);
  std::string reason;
};

BorrowedRegion sound_region() {
  return {.guest_address = 1 << 21,
          .bytes = 1 << 21,
          .host = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 30)};
}

class BorrowTest : public ::testing::TestWithParam<BadRegion> {};

TEST_P(BorrowTest, UnsoundRegionIsAnInvalidArgument) {
  BorrowedRegion region = sound_region();
  GetParam().spoil(region);

  const auto memory = GuestMemory::borrow(std::array{region});

  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Errc::kInvalidArgument);
  EXPECT_THAT(memory.error().context, HasSubstr(GetParam().reason));
}

INSTANTIATE_TEST_SUITE_P(
    Borrowed, BorrowTest,
    ::testing::Values(
        BadRegion{"Empty", [](BorrowedRegion& r) { r.bytes = 0; }, "empty"},
        BadRegion{"NullHost", [](BorrowedRegion& r) { r.host = nullptr; }, "no host address"},
        BadRegion{"HostInsideAPage",
                  [](BorrowedRegion& r) { r.host = static_cast<std::byte*>(r.host) + 512; },
                  "host address"},
        BadRegion{"AddressInsideAPage", [](BorrowedRegion& r) { r.guest_address += 512; },
                  "not aligned to its pages of 4 KiB"},
        BadRegion{"PartOfAHugePage",
                  [](BorrowedRegion& r) {
                    r.host_page_bytes = 1 << 21;
                    r.bytes += kPageSize;
                  },
                  "not aligned to its pages of 2 MiB"},
        BadRegion{"OffsetInsideAPage", [](BorrowedRegion& r) { r.fd_offset = 1; }, "offset"},
        BadRegion{"OffsetBeyondAnyFile", [](BorrowedRegion& r) { r.fd_offset = ~0xfffull; },
                  "file can hold"},
        BadRegion{"EndBeyondTheAddressSpace", [](BorrowedRegion& r) { r.bytes = ~0xfffull; },
                  "2^63"},
        BadRegion{"HostPageOfThreeKiB", [](BorrowedRegion& r) { r.host_page_bytes = 3 << 10; },
                  "host page size"},
        BadRegion{"HostPageOfTwoKiB", [](BorrowedRegion& r) { r.host_page_bytes = 2 << 10; },
                  "host page size"},
        BadRegion{"HugePageOfThreeMiB", [](BorrowedRegion& r) { r.huge_page_bytes = 3 << 20; },
                  "size of transparent huge pages"},
        BadRegion{"HugePageThatIsNoLarger",
                  [](BorrowedRegion& r) { r.huge_page_bytes = r.host_page_bytes; },
                  "size of transparent huge pages"},
        BadRegion{"PunchHoleWithoutAFile",
                  [](BorrowedRegion& r) {
                    r.shared = true;
                    r.method = DiscardMethod::kPunchHole;
                  },
                  "no file"},
        BadRegion{"PunchHoleUnderAPrivateMapping",
                  [](BorrowedRegion& r) {
                    r.fd = 0;
                    r.method = DiscardMethod::kPunchHole;
                  },
                  "discard method"},
        BadRegion{"RemoveOnAPrivateMapping",
                  [](BorrowedRegion& r) { r.method = DiscardMethod::kRemove; }, "discard method"},
        BadRegion{"DontNeedOnASharedMapping",
                  [](BorrowedRegion& r) {
                    r.shared = true;
                    r.method = DiscardMethod::kDontNeed;
                  },
                  "discard method"}),
    [](const auto& test) { return test.param.name; });

TEST(BorrowOverlapTest, OverlappingRegionsAreAnInvalidArgument) {
  BorrowedRegion second = sound_region();
  second.guest_address += second.bytes - kPageSize;

  const auto memory = GuestMemory::borrow(std::array{second, sound_region()});

  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Errc::kInvalidArgument);
  EXPECT_THAT(memory.error().context, HasSubstr("overlaps"));
}

TEST(BorrowMethodTest, UnsetMethodFollowsFromTheMapping) {
  BorrowedRegion shared = sound_region();
  shared.guest_address = 0;
  shared.shared = true;

  const auto memory = GuestMemory::borrow(std::array{shared, sound_region()}).value();

  EXPECT_EQ(memory->regions()[0].method, DiscardMethod::kRemove);
  EXPECT_EQ(memory->regions()[1].method, DiscardMethod::kDontNeed);
}

}  // namespace
}  // namespace vballoon
