// SPDX-License-Identifier: MIT
// A simulated driver with 16 MiB of guest memory and a scripted device.
#ifndef VBALLOON_TESTS_GUEST_DRIVER_FIXTURE_H_
#define VBALLOON_TESTS_GUEST_DRIVER_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/page_ranges.h"
#include "dialect_param.h"
#include "guest/fake_device.h"
#include "vballoon/sim/balloon_driver.h"
#include "vballoon/sim/page_allocator.h"
#include "wire/dialect.h"

namespace vballoon::testing {

inline constexpr std::uint64_t kGuestPages = 4096;

// The parts around a driver; no test fixture, so that a property can have a fresh one each time.
struct DriverRig {
  explicit DriverRig(Dialect dialect = Dialect::kStandard) {
    device.speak(dialect);
    options.dialect = dialect;
    options.clock = [] { return std::chrono::nanoseconds(0); };
  }

  void probe() {
    auto probed = sim::BalloonDriver::probe(device, memory, allocator, options);
    if (!probed) throw std::runtime_error(probed.error().message());
    driver = std::move(*probed);
    free_after_probe = allocator.free_pages();
  }
  // Sets the target and steps once.
  sim::DriverWait resize(std::uint64_t pages, std::chrono::nanoseconds now = {}) {
    device.target = static_cast<std::uint32_t>(pages);
    return driver->step(now);
  }
  // The driver's balloon, and that of the device, in ascending order.
  [[nodiscard]] PageRanges balloon() const {
    PageRanges ranges;
    driver->for_each_block([&](sim::Block block) { ranges.push_back(block.pages()); });
    return merged(std::move(ranges));
  }
  [[nodiscard]] PageRanges device_balloon() const {
    PageRanges ranges;
    const PageSet& set = device.ballooned();
    for (PageRange run = set.next_run(0, set.size()); run.count != 0;
         run = set.next_run(run.end(), set.size())) {
      ranges.push_back(run);
    }
    return ranges;
  }
  // Takes every other page of the allocator for good.
  void punch_holes() {
    std::vector<sim::Block> pages;
    while (const auto page = allocator.allocate(0)) pages.push_back(*page);
    for (const sim::Block page : pages) {
      if (page.first % 2 == 0) allocator.free(page);
    }
  }
  // The messages from number `from` on.
  [[nodiscard]] std::vector<DecodedMessage> messages_since(std::size_t from) const {
    return {device.messages.begin() + static_cast<std::ptrdiff_t>(from), device.messages.end()};
  }

  std::shared_ptr<const GuestMemory> memory =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, kGuestPages << kPageShift}}).value();
  sim::PageAllocator allocator{PageRanges{{0, kGuestPages}}};
  FakeDevice device{memory};
  sim::DriverOptions options;
  std::unique_ptr<sim::BalloonDriver> driver;
  std::uint64_t free_after_probe = 0;
};

inline constexpr sim::DriverWait kWaitsForTarget{sim::DriverWait::Kind::kConfigChange, {}};
inline constexpr sim::DriverWait kWaitsForAnswer{sim::DriverWait::Kind::kUsedBuffer, {}};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_GUEST_DRIVER_FIXTURE_H_
