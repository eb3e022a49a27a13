// SPDX-License-Identifier: MIT
// Whatever the targets and however late the answers, driver and device agree on the balloon.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "guest/driver_fixture.h"

namespace vballoon {
namespace {

using ::vballoon::testing::DriverRig;
using ::vballoon::testing::kGuestPages;

constexpr std::chrono::milliseconds kBackOff{200};

// A guest whose shape, options and dialect are arbitrary.
std::unique_ptr<DriverRig> any_rig() {
  auto rig = std::make_unique<DriverRig>(*rc::gen::elementOf(testing::dialect_list()));
  rig->options.queue_size = *rc::gen::element<std::uint16_t>(2, 8, 256);
  rig->options.pfn_threshold_pages = *rc::gen::inRange<std::uint64_t>(0, 40);
  rig->options.chunk_order = *rc::gen::inRange(0u, sim::kMaxOrder + 1);
  rig->options.pfn_order = *rc::gen::element(sim::PfnOrder::kAllocation, sim::PfnOrder::kReversed);
  if (*rc::gen::arbitrary<bool>()) {
    rig->device.offered = rig->device.offered.with(Feature::kEventIdx);
  }
  rig->probe();
  if (*rc::gen::arbitrary<bool>()) rig->punch_holes();
  return rig;
}

std::uint64_t any_target() {
  return *rc::gen::oneOf(rc::gen::inRange<std::uint64_t>(0, 20),
                         rc::gen::inRange<std::uint64_t>(0, kGuestPages + 1));
}

std::uint32_t last_actual(const DriverRig& rig) {
  return rig.device.actuals.empty() ? 0 : rig.device.actuals.back();
}

RC_GTEST_PROP(BalloonDriverPropertyTest, DeviceThatAnswersAtOnceSeesTheDriversBalloon, ()) {
  const auto rig = any_rig();
  const std::uint64_t reachable = rig->allocator.free_pages() > rig->options.reserve_pages
                                      ? rig->allocator.free_pages() - rig->options.reserve_pages
                                      : 0;
  std::chrono::milliseconds now{0};

  for (int i = *rc::gen::inRange(1, 12); i > 0; --i) {
    const std::uint64_t target = any_target();
    rig->resize(target, now += kBackOff);

    RC_ASSERT(rig->driver->ballooned_pages() == std::min(target, reachable));
    RC_ASSERT(last_actual(*rig) == rig->driver->ballooned_pages());
    RC_ASSERT(rig->device_balloon() == rig->balloon());
  }
}

RC_GTEST_PROP(BalloonDriverPropertyTest, DeviceThatAnswersLateSeesNoPageFreeThatItHolds, ()) {
  const auto rig = any_rig();
  rig->device.answers = false;
  const std::uint64_t free_before = rig->allocator.free_pages();
  std::chrono::milliseconds now{0};

  for (int i = *rc::gen::inRange(1, 60); i > 0; --i) {
    if (*rc::gen::inRange(0, 4) == 0) rig->device.target = static_cast<std::uint32_t>(any_target());
    if (*rc::gen::inRange(0, 4) == 0) {
      const auto first = *rc::gen::inRange<Pfn>(0, kGuestPages);
      (void)rig->driver->migrate_out_of({first, *rc::gen::inRange<std::uint64_t>(1, 600)});
    }
    rig->device.answer(*rc::gen::inRange<std::size_t>(0, 300));
    rig->driver->step(now += kBackOff);

    for (const PageRange& run : rig->device_balloon()) {
      RC_ASSERT(!rig->allocator.is_free(run.first));
      RC_ASSERT(!rig->allocator.is_free(run.end() - 1));
    }
  }
  rig->device.answers = true;
  rig->device.answer();
  rig->resize(0, now + kBackOff);

  RC_ASSERT(rig->device.ballooned().count() == 0u);
  RC_ASSERT(rig->allocator.free_pages() == free_before);
}

}  // namespace
}  // namespace vballoon
