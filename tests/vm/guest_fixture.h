// SPDX-License-Identifier: MIT
// A guest with its kernel, a driver and a device, joined by call or by the registers of
// virtio-mmio, over split or packed rings (tests/by_default.h), and served by one thread, step by
// step.
#ifndef VBALLOON_TESTS_VM_GUEST_FIXTURE_H_
#define VBALLOON_TESTS_VM_GUEST_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "base/page_ranges.h"
#include "by_default.h"
#include "memory/test_discarders.h"
#include "vballoon/sim/balloon_driver.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/transport/mmio.h"
#include "vm/in_process_access.h"
#include "vm/mmio_access.h"

namespace vballoon::testing {

using sim::BalloonDriver;
using sim::DriverOptions;
using sim::DriverWait;
using sim::GuestKernel;
using sim::MmioAccess;

inline constexpr std::chrono::nanoseconds kSecond = std::chrono::seconds(1);

class GuestFixture : public ::testing::Test {
 protected:
  // Reports are made only while much is free: 32 blocks of 2 MiB and more.
  static constexpr std::uint64_t kPages = 65536;

  explicit GuestFixture(std::uint64_t pages = kPages, bool through_mmio = mmio_by_default())
      : memory_(GuestMemory::allocate(std::vector<RegionLayout>{{0, pages << kPageShift}}).value()),
        allocator_(PageRanges{{0, pages}}),
        through_mmio_(through_mmio) {}

  // Boots a guest; the device offers these features, and what the driver knows beside the standard,
  // and the driver accepts what it can.
  void boot(Features features, DriverOptions options = {}) {
    features_ = packed_by_default() ? features.with(Feature::kRingPacked) : features;
    make_device(options);
    options.features = features_;
    driver_ = BalloonDriver::probe(*access_, memory_, allocator_, options).value();
  }

  // What the device gives memory back with.
  virtual std::unique_ptr<Discarder> make_discarder() {
    auto discarder = std::make_unique<RecordingDiscarder>();
    recorded_ = discarder.get();
    return discarder;
  }
  // The registers as the driver sees them.
  virtual sim::MmioWindow window() { return sim::window_of(*mmio_); }

  // Serves a kick at once, as an ioeventfd might, also before DRIVER_OK; or leaves it to serve().
  void kick(std::uint16_t queue) {
    if (trace_ != nullptr && !through_mmio_) trace_->kick(queue);  // else the transport does
    kicks_before_ok_ += (device().read_status() & kStatusDriverOk) == 0 ? 1 : 0;
    if (serves_kicks_at_once_) device().process(queue);
    kicked_.insert(queue);
  }
  void serve() {
    for (const std::uint16_t queue : std::exchange(kicked_, {})) {
      while (device().process(queue)) {
      }
    }
  }
  // Lets both sides work until neither has anything to do at this time.
  DriverWait run() {
    DriverWait wait;
    do {
      serve();
      wait = driver_->step(now_);
    } while (!kicked_.empty() || wait.kind == DriverWait::Kind::kUsedBuffer);
    return wait;
  }
  // From now to the time for which the driver waits, and on.
  void run_for(std::chrono::nanoseconds duration) {
    const auto end = now_ + duration;
    for (DriverWait wait = run(); wait.kind == DriverWait::Kind::kTime && wait.until <= end;
         wait = run()) {
      now_ = wait.until;
    }
    now_ = end;
  }
  BalloonDevice& device() { return *device_; }

  std::shared_ptr<const GuestMemory> memory_;
  sim::PageAllocator allocator_;
  GuestKernel kernel_{allocator_};
  std::chrono::nanoseconds now_{0};
  RecordingDiscarder* recorded_ = nullptr;
  std::set<std::uint16_t> kicked_;
  int kicks_before_ok_ = 0;
  bool serves_kicks_at_once_ = true;
  std::vector<PageRange> hinted_;
  Trace* trace_ = nullptr;               // to be set before boot()
  Features features_;                    // what the device offers
  std::unique_ptr<MmioTransport> mmio_;  // has the device, or
  std::unique_ptr<BalloonDevice> own_device_;
  BalloonDevice* device_ = nullptr;
  std::unique_ptr<sim::DeviceAccess> access_;
  MmioAccess* mmio_access_ = nullptr;  // the same, through virtio-mmio
  std::unique_ptr<BalloonDriver> driver_;

 private:
  void make_device(const DriverOptions& known) {
    auto discarder = make_discarder();
    BalloonOptions options{.dialect = known.dialect,
                           .guest_requests = known.guest_requests,
                           .features = features_,
                           .wake = [this](std::uint16_t queue) { kicked_.insert(queue); },
                           .on_free_page_hints =
                               [this](std::span<const PageRange> pages) {
                                 hinted_.insert(hinted_.end(), pages.begin(), pages.end());
                               },
                           .trace = trace_,
                           .clock = [this] { return now_; }};
    const auto kicked = [this](std::uint16_t queue) { kick(queue); };
    if (!through_mmio_) {
      own_device_ =
          BalloonDevice::create(memory_, std::move(discarder), std::move(options)).value();
      device_ = own_device_.get();
      access_ = std::make_unique<sim::InProcessAccess>(*device_, kicked);
      return;
    }
    mmio_ = MmioTransport::create(memory_, std::move(discarder), std::move(options),
                                  {.queue_notify = kicked})
                .value();
    device_ = &mmio_->device();
    auto registers = MmioAccess::probe(window()).value();
    mmio_access_ = registers.get();
    access_ = std::move(registers);
  }

  const bool through_mmio_;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_VM_GUEST_FIXTURE_H_
