// SPDX-License-Identifier: MIT
// Guest memory that the library maps itself (src/memory/mapping.cc).
#include "memory/mapping.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "memory/residency.h"

namespace vballoon {
namespace {

using testing::file_bytes;
using testing::free_huge_pages;
using ::testing::HasSubstr;
using testing::open_file_count;
using testing::resident_bytes;
using testing::selected_word;
using testing::smaps_bytes;

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kTiB = std::uint64_t{1} << 40;

Result<std::shared_ptr<const GuestMemory>> allocate(std::uint64_t bytes,
                                                    const AllocateOptions& options) {
  return GuestMemory::allocate(std::array{RegionLayout{0, bytes}}, options);
}

std::uint64_t alignment_of(const MemoryRegion& region) {
  const auto host = reinterpret_cast<std::uintptr_t>(region.host);
  return host & (~host + 1);
}

TEST(MappingTest, AnonymousMemoryIsPrivateAndNotResidentBeforeUse) {
  const auto memory = allocate(8 * kMiB, {}).value();
  const MemoryRegion& region = memory->regions()[0];

  EXPECT_FALSE(region.shared);
  EXPECT_EQ(region.fd, -1);
  EXPECT_EQ(region.method, DiscardMethod::kDontNeed);
  EXPECT_EQ(resident_bytes(region.host, region.bytes), 0u);
}

TEST(MappingTest, EachRegionOfSharedMemoryIsAFileOfItsOwn) {
  const auto memory =
      GuestMemory::allocate(std::array{RegionLayout{0, kMiB}, RegionLayout{4 * kMiB, 2 * kMiB}},
                            {.backing = Backing::kMemfd})
          .value();
  const auto regions = memory->regions();

  regions[1].host[5] = std::byte{7};

  EXPECT_NE(regions[0].fd, regions[1].fd);
  EXPECT_EQ(file_bytes(regions[0].fd), 0u);
  EXPECT_EQ(file_bytes(regions[1].fd), kPageSize);
  EXPECT_EQ(regions[1].method, DiscardMethod::kRemove);
}

TEST(MappingTest, RegionsAreSortedByGuestAddress) {
  const auto memory =
      GuestMemory::allocate(std::array{RegionLayout{4 * kMiB, kMiB}, RegionLayout{0, 2 * kMiB}})
          .value();

  EXPECT_EQ(memory->regions()[0].bytes, 2 * kMiB);
  EXPECT_EQ(memory->regions()[1].first_page_index, 512u);
}

TEST(MappingTest, MappingIsAlignedForHugePages) {
  const auto memory = allocate(3 * kMiB, {.thp = ThpMode::kOn}).value();

  EXPECT_GE(alignment_of(memory->regions()[0]), 2 * kMiB);
}

TEST(MappingTest, OverlappingLayoutIsAnInvalidArgument) {
  const auto memory =
      GuestMemory::allocate(std::array{RegionLayout{0, 2 * kMiB}, RegionLayout{kMiB, kMiB}});

  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Errc::kInvalidArgument);
}

TEST(MappingTest, LayoutInsideAPageIsAnInvalidArgument) {
  const auto memory = allocate(kMiB + 512, {});

  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Errc::kInvalidArgument);
}

TEST(MappingTest, PartOfAHugePageIsAnInvalidArgument) {
  const auto memory = allocate(3 * kMiB, {.backing = Backing::kHugetlb});

  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Errc::kInvalidArgument);
  EXPECT_THAT(memory.error().context, HasSubstr("2 MiB"));
}

TEST(MappingTest, MoreThanTheAddressSpaceFailsWithTheSizeAndTheReason) {
  const auto memory = allocate(1 << 20 | kTiB << 20, {});

  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Errc::kMapFailed);
  EXPECT_EQ(memory.error().os_error, ENOMEM);
  EXPECT_THAT(memory.error().context, HasSubstr("1099511627777 MiB of anonymous memory"));
}

TEST(MappingTest, MoreHugePagesThanThePoolHoldsFailAtOnce) {
  const auto memory = allocate(kTiB, {.backing = Backing::kHugetlb});

  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code, Errc::kMapFailed);
  EXPECT_THAT(memory.error().message(), HasSubstr("1 TiB of 2 MiB pages"));
}

TEST(MappingTest, FailingRegionGivesBackTheFilesOfTheOthers) {
  const std::size_t before = open_file_count();

  const auto memory =
      GuestMemory::allocate(std::array{RegionLayout{0, kMiB}, RegionLayout{kTiB << 20, kTiB << 20}},
                            {.backing = Backing::kMemfd});

  EXPECT_FALSE(memory);
  EXPECT_EQ(open_file_count(), before);
}

TEST(MappingTest, LastUserGivesBackTheFile) {
  const std::size_t before = open_file_count();
  auto memory = allocate(kMiB, {.backing = Backing::kMemfd}).value();
  ASSERT_EQ(open_file_count(), before + 1);

  memory.reset();

  EXPECT_EQ(open_file_count(), before);
}

TEST(MappingTest, MemoryOfThePoolConsistsOfHugePages) {
  const auto memory = allocate(4 * kMiB, {.backing = Backing::kHugetlb});
  if (!memory && memory.error().os_error == ENOMEM) {
    GTEST_SKIP() << memory.error().message() << "; HugePages_Free is " << free_huge_pages();
  }
  const MemoryRegion& region = memory.value()->regions()[0];

  EXPECT_EQ(smaps_bytes(region.host, "KernelPageSize"), 2 * kMiB);
  EXPECT_EQ(region.host_page_bytes, 2 * kMiB);
}

TEST(MappingTest, RegionSaysWhetherHugePagesMayLieBehindIt) {
  const auto huge_page_bytes = [](const AllocateOptions& options) {
    return allocate(kMiB, options).value()->regions()[0].huge_page_bytes;
  };
  const bool always = selected_word("/sys/kernel/mm/transparent_hugepage/enabled") == "always";

  EXPECT_EQ(huge_page_bytes({.thp = ThpMode::kOff}), 0u);
  EXPECT_EQ(huge_page_bytes({.thp = ThpMode::kSystem}), always ? 2 * kMiB : 0u);
  EXPECT_EQ(huge_page_bytes({Backing::kMemfd, ThpMode::kSystem}), 0u);
}

class ThpTest : public ::testing::Test {
 protected:
  // What smaps says about huge pages in 8 MiB, all touched.
  static std::uint64_t huge_bytes(const AllocateOptions& options, std::string_view field) {
    const auto memory = allocate(8 * kMiB, options).value();
    const MemoryRegion& region = memory->regions()[0];
    std::memset(region.host, 1, region.bytes);
    return smaps_bytes(region.host, field);
  }

  static std::string setting(const std::string& name) {
    return selected_word("/sys/kernel/mm/transparent_hugepage/" + name);
  }
};

TEST_F(ThpTest, AnonymousMemoryThatAsksGetsHugePages) {
  if (setting("enabled") == "never") GTEST_SKIP() << "transparent_hugepage/enabled is never";

  EXPECT_EQ(huge_bytes({.thp = ThpMode::kOn}, "AnonHugePages"), 8 * kMiB);
  EXPECT_EQ(allocate(kMiB, {.thp = ThpMode::kOn}).value()->regions()[0].huge_page_bytes, 2 * kMiB);
}

TEST_F(ThpTest, AnonymousMemoryThatRefusesGetsNone) {
  EXPECT_EQ(huge_bytes({.thp = ThpMode::kOff}, "AnonHugePages"), 0u);
}

TEST_F(ThpTest, SharedMemoryThatAsksGetsHugePages) {
  const std::string shmem = setting("shmem_enabled");
  if (shmem == "never" || shmem == "deny") GTEST_SKIP() << "shmem_enabled is " << shmem;

  EXPECT_EQ(huge_bytes({Backing::kMemfd, ThpMode::kOn}, "ShmemPmdMapped"), 8 * kMiB);
}

TEST_F(ThpTest, SharedMemoryThatRefusesGetsNone) {
  EXPECT_EQ(huge_bytes({Backing::kMemfd, ThpMode::kOff}, "ShmemPmdMapped"), 0u);
}

TEST(FormatBytesTest, SizesAreExactInTheLargestUnit) {
  EXPECT_EQ(format_bytes(3 * 1024 * kMiB), "3 GiB");
  EXPECT_EQ(format_bytes(1536 * kMiB), "1536 MiB");
  EXPECT_EQ(format_bytes(4096), "4 KiB");
  EXPECT_EQ(format_bytes(4097), "4097 bytes");
  EXPECT_EQ(format_bytes(0), "0 bytes");
}

}  // namespace
}  // namespace vballoon
