// SPDX-License-Identifier: MIT
// What a device does to the transparent huge pages of its host (HugePagePolicy,
// DeflateAction::kCollapse), on the kernel's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "device/device_fixture.h"
#include "memory/residency.h"

namespace vballoon {
namespace {

using testing::kHigh;
using testing::message_of;
using testing::resident_bytes;
using testing::Rig;
using testing::smaps_bytes;

constexpr std::uint64_t kHuge = std::uint64_t{2} << 20;
constexpr std::uint64_t kHugePages = kHuge >> kPageShift;

class HugePagePolicyTest : public ::testing::Test {
 protected:
  // Two huge pages are the guest's; its rings lie in another region.
  static constexpr std::uint64_t kGuests = 2 * kHuge;

  void SetUp() override {
    if (testing::selected_word("/sys/kernel/mm/transparent_hugepage/enabled") == "never") {
      GTEST_SKIP() << "transparent_hugepage/enabled is never";
    }
  }
  static std::unique_ptr<Rig> guest_with(BalloonOptions options) {
    const std::vector<RegionLayout> layout{{0, kGuests}, {kHigh << kPageShift, kGuests}};
    auto rig = std::make_unique<Rig>(
        testing::Setup{.device = std::move(options),
                       .memory = GuestMemory::allocate(layout, {.thp = ThpMode::kOn}).value(),
                       .discarder = make_kernel_discarder()});
    std::memset(rig->host(0), 7, kGuests);
    rig->start();
    return rig;
  }
  static void inflate(Rig& rig, PageRange pages) {
    rig.inflate(message_of(Dialect::kStandard, {pages}));
  }
  static void deflate(Rig& rig, PageRange pages) {
    rig.deflate(message_of(Dialect::kStandard, {pages}));
  }
  static std::uint64_t huge_bytes(const Rig& rig) {
    return smaps_bytes(rig.host(0), "AnonHugePages");
  }
  // Of the first huge page, after one touch.
  static std::uint64_t touched_bytes(const Rig& rig) {
    *rig.host(0) = std::byte{1};
    return resident_bytes(rig.host(0), kHuge);
  }
};

TEST_F(HugePagePolicyTest, SplitHugePageComesBackInSmallPages) {
  const auto rig = guest_with({.huge_pages = HugePagePolicy::kSplit});

  inflate(*rig, {0, kHugePages / 2});
  inflate(*rig, {kHugePages / 2, kHugePages / 2});

  EXPECT_EQ(resident_bytes(rig->host(0), kHuge), 0u);
  EXPECT_EQ(rig->device().metrics().freed_bytes, kHuge);
  EXPECT_EQ(touched_bytes(*rig), kPageSize);
}

TEST_F(HugePagePolicyTest, HealedHugePageComesBackAsOne) {
  if (!healing_available()) GTEST_SKIP() << "the kernel keeps empty page tables";
  const auto rig = guest_with({});

  inflate(*rig, {0, kHugePages / 2});
  inflate(*rig, {kHugePages / 2, kHugePages / 2});

  EXPECT_EQ(resident_bytes(rig->host(0), kHuge), 0u);
  EXPECT_EQ(rig->device().metrics().freed_bytes, kHuge) << "each page once";
  EXPECT_EQ(touched_bytes(*rig), kHuge);
}

TEST_F(HugePagePolicyTest, PartOfAHealedHugePageIsFreedAtOnce) {
  if (!healing_available()) GTEST_SKIP() << "the kernel keeps empty page tables";
  const auto rig = guest_with({});

  inflate(*rig, {5, 1});

  EXPECT_EQ(rig->device().metrics().freed_bytes, kPageSize);
  EXPECT_EQ(resident_bytes(rig->host(5), kPageSize), 0u);
}

TEST_F(HugePagePolicyTest, KeptHugePageIsOwedUntilAllOfItIsInTheBalloon) {
  const auto rig = guest_with({.huge_pages = HugePagePolicy::kKeepWhole});
  ASSERT_EQ(huge_bytes(*rig), kGuests);

  inflate(*rig, {1, kHugePages - 1});

  EXPECT_EQ(huge_bytes(*rig), kGuests);
  EXPECT_EQ(rig->device().metrics().owed_bytes, kHuge - kPageSize);
  EXPECT_FALSE(rig->device().drain());

  inflate(*rig, {0, 1});

  EXPECT_EQ(huge_bytes(*rig), kGuests - kHuge);
  EXPECT_EQ(rig->device().metrics().freed_bytes, kHuge);
  EXPECT_EQ(rig->device().metrics().owed_bytes, 0u);
}

TEST_F(HugePagePolicyTest, PagesOfAKeptHugePageThatLeaveAgainCostTheKernelNothing) {
  const auto rig = guest_with({.huge_pages = HugePagePolicy::kKeepWhole});
  inflate(*rig, {5, 10});

  deflate(*rig, {5, 10});

  EXPECT_EQ(rig->device().metrics().discard_calls, 0u);
  EXPECT_EQ(rig->device().metrics().cancelled_bytes, 10 * kPageSize);
  EXPECT_EQ(*rig->host(5), std::byte{7});
}

TEST_F(HugePagePolicyTest, HugePageIsCollapsedWhenItsLastPageLeavesTheBalloon) {
  const auto rig = guest_with(
      {.deflate_action = DeflateAction::kCollapse, .huge_pages = HugePagePolicy::kSplit});
  inflate(*rig, {0, 100});
  deflate(*rig, {0, 99});
  ASSERT_EQ(huge_bytes(*rig), kGuests - kHuge) << "a page of it is in the balloon";

  deflate(*rig, {99, 1});

  if (rig->device().metrics().collapsed_bytes == 0) {
    GTEST_SKIP() << "the kernel has no MADV_COLLAPSE, or no free huge page";
  }
  EXPECT_EQ(rig->device().metrics().collapsed_bytes, kHuge);
  EXPECT_EQ(huge_bytes(*rig), kGuests);
  EXPECT_EQ(*rig->host(99), std::byte{0});
  EXPECT_EQ(*rig->host(100), std::byte{7});
}

}  // namespace
}  // namespace vballoon
