// SPDX-License-Identifier: MIT
// A guest that fills what it frees and looks at what it takes, over a device that really gives
// memory back: for the balloon and for free page reports (PAGE_POISON).
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>

#include "vballoon/discarder.h"
#include "vballoon/sim/page_poison.h"
#include "vm/guest_fixture.h"

namespace vballoon {
namespace {

using sim::kInitOnFreeByte;
using sim::kPagePoisonByte;
using testing::kSecond;

class PoisonedGuest : public testing::GuestFixture {
 protected:
  static constexpr std::uint64_t kGuestPages = 16384;

  explicit PoisonedGuest(std::uint8_t byte)
      : GuestFixture(kGuestPages, true),
        poison_(memory_, byte),
        guest_(allocator_, {.poison = &poison_}) {}
  ~PoisonedGuest() override { driver_.reset(); }  // before its kernel

  std::unique_ptr<Discarder> make_discarder() override { return make_kernel_discarder(); }

  // A guest whose free pages are reported, enter the balloon, leave it and are reported again.
  void live() {
    poison_.fill_free_pages(allocator_);
    boot(Features{Feature::kMustTellHost, Feature::kPagePoison, Feature::kPageReporting},
         {.kernel = &guest_, .poison_value = poison_.value(), .reporting = {.capacity = 4}});
    for (const std::uint64_t target : {kGuestPages / 2, std::uint64_t{0}}) {
      run_for(20 * kSecond);
      ASSERT_TRUE(device().set_target_pages(target));
      run();
      ASSERT_EQ(device().actual_pages(), target);
    }
    run_for(20 * kSecond);
    ASSERT_GT(device().metrics().reported_bytes, kGuestPages * kPageSize);
    ASSERT_GE(device().metrics().freed_bytes, kGuestPages / 2 * kPageSize);
  }
  // Takes, and so looks at, all that the kernel gives away.
  void look() {
    const std::uint64_t pages = allocator_.free_pages() - guest_.watermarks().high;
    ASSERT_GT(pages, kGuestPages * 9 / 10);
    ASSERT_TRUE(guest_.touch(guest_.start_process(), 0, static_cast<std::uint32_t>(pages)));
  }

  sim::PagePoison poison_;
  sim::GuestKernel guest_;
};

class DriverPoisonTest : public PoisonedGuest, public ::testing::WithParamInterface<std::uint8_t> {
 protected:
  DriverPoisonTest() : PoisonedGuest(GetParam()) {}
};

INSTANTIATE_TEST_SUITE_P(Bytes, DriverPoisonTest,
                         ::testing::Values(kPagePoisonByte, kInitOnFreeByte), [](const auto& byte) {
                           return byte.param == kPagePoisonByte ? "PagePoison" : "InitOnFree";
                         });

TEST_P(DriverPoisonTest, BAL_G_36_BAL_D_18_GuestThatLooksFindsItsPagesAsItLeftThem) {
  live();

  look();

  EXPECT_EQ(poison_.violations(), 0u);
}

TEST_P(DriverPoisonTest, BAL_D_18_ReportedPagesAreGivenBackOnlyIfTheyHoldZerosAfterwards) {
  live();

  const bool zeros = GetParam() == kInitOnFreeByte;
  EXPECT_EQ(device().metrics().reported_freed_bytes != 0, zeros);
}

// A device that is not told of the poison, and discards what is reported in spite of it.
class ForgetfulDeviceTest : public PoisonedGuest {
 protected:
  ForgetfulDeviceTest() : PoisonedGuest(kPagePoisonByte) {}

  sim::MmioWindow window() override {
    sim::MmioWindow window = GuestFixture::window();
    window.write = [write = window.write](std::uint64_t offset, unsigned size,
                                          std::uint64_t value) {
      if (offset != kMmioConfig + kPoisonValueOffset) write(offset, size, value);
    };
    return window;
  }
};

TEST_F(ForgetfulDeviceTest, GuestThatLooksSeesWhatTheDeviceDidToItsFreePages) {
  live();

  look();

  EXPECT_GT(poison_.violations(), kGuestPages / 2);
}

}  // namespace
}  // namespace vballoon
