// SPDX-License-Identifier: MIT
// What this kernel does with transparent huge pages (src/memory/huge_pages.cc).
#include "memory/huge_pages.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <cstring>

#include "memory/residency.h"
#include "vballoon/discarder.h"

namespace vballoon {
namespace {

using testing::resident_bytes;
using testing::selected_word;
using testing::smaps_bytes;

class HugePagesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string enabled = selected_word("/sys/kernel/mm/transparent_hugepage/enabled");
    if (enabled == "never") GTEST_SKIP() << "transparent_hugepage/enabled is never";
  }
  // Two of them, or as many small pages.
  static std::shared_ptr<const GuestMemory> memory(ThpMode thp) {
    return GuestMemory::allocate(std::array{RegionLayout{0, 2 * kHugePageBytes}}, {.thp = thp})
        .value();
  }
};

TEST_F(HugePagesTest, SmallPagesAreCollapsedAndKeepWhatTheyHold) {
  const auto memory = HugePagesTest::memory(ThpMode::kSystem);
  const MemoryRegion& region = memory->regions()[0];
  ::madvise(region.host, region.bytes, MADV_NOHUGEPAGE);
  std::memset(region.host, 7, kHugePageBytes / 2);
  ASSERT_EQ(smaps_bytes(region.host, "AnonHugePages"), 0u);
  ::madvise(region.host, region.bytes, MADV_HUGEPAGE);

  if (!collapse({region.host, kHugePageBytes, &region})) {
    GTEST_SKIP() << "the kernel has no MADV_COLLAPSE, or no free huge page";
  }

  EXPECT_EQ(smaps_bytes(region.host, "AnonHugePages"), kHugePageBytes);
  EXPECT_EQ(region.host[kHugePageBytes / 2 - 1], std::byte{7});
  EXPECT_EQ(region.host[kHugePageBytes / 2], std::byte{0});
}

TEST_F(HugePagesTest, WhereNothingIsNothingIsCollapsed) {
  const auto memory = HugePagesTest::memory(ThpMode::kSystem);
  const MemoryRegion& region = memory->regions()[0];

  EXPECT_FALSE(collapse({region.host, kHugePageBytes, &region}));
  EXPECT_EQ(resident_bytes(region.host, region.bytes), 0u);
}

TEST_F(HugePagesTest, MemoryThatRefusesHugePagesIsNotCollapsed) {
  const auto memory = HugePagesTest::memory(ThpMode::kOff);
  const MemoryRegion& region = memory->regions()[0];
  std::memset(region.host, 7, region.bytes);

  EXPECT_FALSE(collapse({region.host, kHugePageBytes, &region}));
}

TEST_F(HugePagesTest, HugePageThatWentInPiecesAndThenAsAWholeIsHugeAgainWhereThatIsSaid) {
  if (!healing_available()) GTEST_SKIP() << "the kernel keeps empty page tables";
  const auto memory = HugePagesTest::memory(ThpMode::kOn);
  const MemoryRegion& region = memory->regions()[0];
  std::memset(region.host, 7, region.bytes);
  const auto discarder = make_kernel_discarder({.strategy = DiscardStrategy::kPerPage});
  DiscardReport report;
  discarder->discard(std::array{HostRun{region.host, kHugePageBytes, &region}}, report);

  ::madvise(region.host, kHugePageBytes, MADV_DONTNEED);
  *region.host = std::byte{1};

  EXPECT_EQ(resident_bytes(region.host, kHugePageBytes), kHugePageBytes);
}

}  // namespace
}  // namespace vballoon
