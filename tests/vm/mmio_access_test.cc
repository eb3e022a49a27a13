// SPDX-License-Identifier: MIT
// A driver that has nothing but the registers of virtio-mmio (src/vm/mmio_access.cc).
#include "vm/mmio_access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "base/page_ranges.h"
#include "dialect_param.h"
#include "memory/test_discarders.h"
#include "vballoon/sim/balloon_driver.h"
#include "vballoon/transport/mmio.h"
#include "wire/dialect.h"

namespace vballoon {
namespace {

using sim::BalloonDriver;
using sim::DriverWait;
using sim::MmioAccess;
using ::testing::Each;
using ::testing::HasSubstr;

// A device that reads as this in one register, and as a balloon in all others.
sim::MmioWindow balloon_but_for(MmioRegister which, std::uint32_t value) {
  return {.read = [which, value](std::uint64_t offset, unsigned) -> std::uint64_t {
            if (offset == static_cast<std::uint64_t>(which)) return value;
            if (offset == 0) return kMmioMagic;
            return offset == 4 ? kMmioVersion : 5;
          },
          .write = [](std::uint64_t, unsigned, std::uint64_t) {}};
}

TEST(MmioProbeTest, MMI_G_06_MMI_G_24_DeviceWithoutTheMagicValueIsNone) {
  EXPECT_EQ(MmioAccess::probe(balloon_but_for(MmioRegister::kMagicValue, 0)).error().code,
            Errc::kNotSupported);
}

TEST(MmioProbeTest, MMI_G_08_LegacyDeviceIsRefusedByItsVersion) {
  EXPECT_THAT(MmioAccess::probe(balloon_but_for(MmioRegister::kVersion, 1)).error().message(),
              HasSubstr("version 1"));
}

TEST(MmioProbeTest, DeviceOfAnotherKindIsNoBalloon) {
  EXPECT_THAT(MmioAccess::probe(balloon_but_for(MmioRegister::kDeviceId, 2)).error().message(),
              HasSubstr("device 2"));
}

// Driver and device with nothing between them but registers and an interrupt, on one thread.
class MmioDriverTest : public ::testing::TestWithParam<std::tuple<Dialect, bool>> {
 protected:
  MmioDriverTest() {
    auto discarder = std::make_unique<testing::RecordingDiscarder>();
    recorded_ = discarder.get();
    const auto [dialect, packed] = GetParam();
    Features features{Feature::kMustTellHost, Feature::kIndirectDesc, Feature::kEventIdx};
    if (packed) features = features.with(Feature::kRingPacked).with(Feature::kInOrder);
    mmio_ = MmioTransport::create(memory_, std::move(discarder),
                                  {.dialect = dialect, .features = features},
                                  {.queue_notify = [this](std::uint16_t q) { kicked_.insert(q); }})
                .value();
    access_ = MmioAccess::probe(sim::window_of(*mmio_)).value();
    driver_ = BalloonDriver::probe(*access_, memory_, allocator_,
                                   {.dialect = dialect, .features = features})
                  .value();
  }

  // Sets a target and lets both sides work until the driver has reached it.
  void resize(std::uint64_t pages) {
    ASSERT_TRUE(mmio_->device().set_target_pages(pages));
    while (driver_->step({}).kind == DriverWait::Kind::kUsedBuffer) {
      for (const std::uint16_t queue : std::exchange(kicked_, {})) {
        while (mmio_->device().process(queue)) {
        }
      }
      interrupts_.push_back(access_->take_interrupt());
    }
  }

  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, 32 << 20}}).value();
  sim::PageAllocator allocator_{PageRanges{{0, 8192}}};
  testing::RecordingDiscarder* recorded_ = nullptr;
  std::set<std::uint16_t> kicked_;
  std::vector<std::uint32_t> interrupts_;
  std::unique_ptr<MmioTransport> mmio_;
  std::unique_ptr<MmioAccess> access_;
  std::unique_ptr<BalloonDriver> driver_;
};

INSTANTIATE_TEST_SUITE_P(Modes, MmioDriverTest,
                         ::testing::Combine(testing::every_dialect(), ::testing::Bool()),
                         [](const auto& mode) {
                           return testing::name_of(std::get<Dialect>(mode.param)) +
                                  (std::get<bool>(mode.param) ? "_packed" : "_split");
                         });

TEST_P(MmioDriverTest, DriverReachesItsTargetUpAndDown) {
  resize(3000);
  EXPECT_EQ(mmio_->device().ballooned_pages(), 3000u);
  EXPECT_EQ(mmio_->device().actual_pages(), 3000u);

  resize(100);

  EXPECT_EQ(mmio_->device().ballooned_pages(), 100u);
  EXPECT_EQ(mmio_->device().actual_pages(), 100u);
}

TEST_P(MmioDriverTest, MMI_G_19_MMI_G_32_EveryAnswerComesWithAnInterrupt) {
  resize(3000);

  EXPECT_THAT(interrupts_, Each(::testing::Ne(0u)));
  EXPECT_EQ(access_->take_interrupt(), 0u) << "all are acknowledged";
}

TEST_P(MmioDriverTest, DriverSpeaksTheDialectOfTheDevice) {
  EXPECT_EQ(driver_->dialect(), std::get<Dialect>(GetParam()));
  EXPECT_EQ(driver_->features().has(Feature::kRingPacked), std::get<bool>(GetParam()));
}

}  // namespace
}  // namespace vballoon
