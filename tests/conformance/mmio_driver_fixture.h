// SPDX-License-Identifier: MIT
// A driver that has nothing but the registers of virtio-mmio, each access to which is written down.
#ifndef VBALLOON_TESTS_CONFORMANCE_MMIO_DRIVER_FIXTURE_H_
#define VBALLOON_TESTS_CONFORMANCE_MMIO_DRIVER_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "conformance/traced_registers.h"
#include "vm/guest_fixture.h"

namespace vballoon::testing {

inline constexpr Features kPlain{Feature::kMustTellHost, Feature::kIndirectDesc,
                                 Feature::kEventIdx};
// All that brings a queue or a field, and what can be done with queues and kicks.
inline constexpr Features kRich = kPlain.with(Feature::kStatsVq)
                                      .with(Feature::kFreePageHint)
                                      .with(Feature::kPagePoison)
                                      .with(Feature::kPageReporting)
                                      .with(Feature::kRingReset)
                                      .with(Feature::kNotificationData);

class MmioDriverConformance : public GuestFixture {
 protected:
  MmioDriverConformance() : GuestFixture(kPages, true) {}

  sim::MmioWindow window() override { return registers_.around(GuestFixture::window()); }

  void boot_rich(Features features = kRich) {
    boot(features, {.kernel = &kernel_, .poison_value = 0, .early_stats = false});
  }
  // What a handler of the interrupt does.
  void interrupt() {
    (void)mmio_access_->take_interrupt();
    driver_->step(now_);
  }
  // A bit of everything that a driver does in its life.
  void live(Features features = kRich) {
    boot_rich(features);
    ASSERT_TRUE(device().set_target_pages(3000));
    run();
    interrupt();
    ASSERT_TRUE(device().set_target_pages(100));
    ASSERT_TRUE(device().request_stats(kSecond));
    run();
    ASSERT_TRUE(device().start_hints());
    run();
    device().finish_hints();
    for (std::uint16_t queue = 0; features.has(Feature::kRingReset) && queue < 5; ++queue) {
      ASSERT_TRUE(driver_->resize_queue(queue, 64));
    }
    run_for(5 * kSecond);
    interrupt();
    ASSERT_EQ(device().ballooned_pages(), 100u);
    ASSERT_GE(device().metrics().stats_messages, 2u);
    ASSERT_GT(device().metrics().hinted_bytes, 0u);
    ASSERT_GT(device().metrics().reported_bytes, 0u);
  }
  // Where an access of this kind is found first.
  std::ptrdiff_t first(const RegisterAccess& wanted) const {
    return std::ranges::find(registers_.trace(), wanted) - registers_.trace().begin();
  }

  TracedRegisters registers_;
};

// An access to a register, whatever the value.
inline auto read_access(MmioRegister which) {
  return ::testing::AllOf(
      ::testing::Field(&RegisterAccess::is_write, false),
      ::testing::Field(&RegisterAccess::offset, static_cast<std::uint64_t>(which)));
}
inline auto write_access(MmioRegister which) {
  return ::testing::AllOf(
      ::testing::Field(&RegisterAccess::is_write, true),
      ::testing::Field(&RegisterAccess::offset, static_cast<std::uint64_t>(which)));
}

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_CONFORMANCE_MMIO_DRIVER_FIXTURE_H_
