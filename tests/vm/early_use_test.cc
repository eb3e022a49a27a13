// SPDX-License-Identifier: MIT
// A driver with the habits of the Windows one, which uses pages before it tells the device, and a
// device that really discards: whatever its policy, the guest must not lose a byte.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/page_ranges.h"
#include "vballoon/discarder.h"
#include "vballoon/sim/balloon_driver.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/transport/mmio.h"
#include "vm/mmio_access.h"

namespace vballoon {
namespace {

using Policy = std::tuple<DiscardStrategy, bool>;  // how, and whether written behind

class EarlyUseTest : public ::testing::TestWithParam<Policy> {
 protected:
  static constexpr std::uint64_t kPages = 4096;
  static constexpr PageRange kOthers{0, 16};  // not the allocator's

  EarlyUseTest() {
    const auto [strategy, write_behind] = GetParam();
    mmio_ = MmioTransport::create(
                memory_, make_kernel_discarder({.strategy = strategy}),
                {.features = Features{Feature::kMustTellHost}, .write_behind = write_behind},
                {.queue_notify = [this](std::uint16_t queue) { kicked_.insert(queue); }})
                .value();
    access_ = sim::MmioAccess::probe(
                  {.read = [this](std::uint64_t o, unsigned s) { return mmio_->read(o, s); },
                   .write = [this](std::uint64_t o, unsigned s,
                                   std::uint64_t v) { mmio_->write(o, s, v); }})
                  .value();
    std::fill_n(others(), kOthers.bytes(), std::byte{0x77});
    driver_ =
        sim::BalloonDriver::probe(
            *access_, memory_, allocator_,
            {.features = Features(), .habits = sim::DriverHabits::kWindows, .kernel = &kernel_})
            .value();
  }

  std::byte* others() const { return memory_->host(kOthers.first << kPageShift, kOthers.bytes()); }
  BalloonDevice& device() { return mmio_->device(); }
  void serve() {
    for (const std::uint16_t queue : std::exchange(kicked_, {})) {
      while (device().process(queue)) {
      }
    }
    while (device().run_owed_discards()) {
    }
  }
  void resize(std::uint64_t pages) {
    ASSERT_TRUE(device().set_target_pages(pages));
    while (driver_->step({}).kind == sim::DriverWait::Kind::kUsedBuffer) serve();
    serve();
  }
  // Lets the guest write to pages that have left the balloon before the device hears of that, and
  // take others into it.
  void use_early() {
    resize(3000);
    const sim::ProcessId process = kernel_.start_process();
    const std::uint64_t unused = allocator_.free_pages() - kernel_.watermarks().min;
    ASSERT_TRUE(kernel_.touch(process, 0, static_cast<std::uint32_t>(unused)));
    ASSERT_TRUE(device().set_target_pages(2500));
    (void)driver_->step({});
    ASSERT_THAT(kicked_, ::testing::ElementsAre(kDeflateQueue));
    ASSERT_TRUE(kernel_.touch(process, kPages, 300)) << "of those that have left";
    serve();
    resize(2000);
  }

  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, kPages << kPageShift}}).value();
  sim::PageAllocator allocator_{PageRanges{{kOthers.end(), kPages - kOthers.end()}}};
  sim::GuestKernel kernel_{allocator_, {.memory = memory_}};
  std::set<std::uint16_t> kicked_;
  std::unique_ptr<MmioTransport> mmio_;
  std::unique_ptr<sim::MmioAccess> access_;
  std::unique_ptr<sim::BalloonDriver> driver_;
};

INSTANTIATE_TEST_SUITE_P(Policies, EarlyUseTest,
                         ::testing::Combine(::testing::Values(DiscardStrategy::kPerPage,
                                                              DiscardStrategy::kMerged,
                                                              DiscardStrategy::kVectored),
                                            ::testing::Bool()),
                         [](const auto& param) {
                           std::string name(to_string(std::get<0>(param.param)));
                           std::ranges::replace(name, '-', '_');
                           return name + (std::get<1>(param.param) ? "_behind" : "_at_once");
                         });

TEST_P(EarlyUseTest, NoByteOfAPageThatIsUsedEarlyIsLost) {
  use_early();

  EXPECT_EQ(kernel_.damaged_pages(), 0u);
  EXPECT_EQ(device().metrics().freed_bytes, 3000 * kPageSize) << "all were discarded";
}

TEST_P(EarlyUseTest, PagesThatEnterAgainAndAgainAreDiscardedAndNoOthersAre) {
  use_early();
  use_early();

  EXPECT_EQ(kernel_.damaged_pages(), 0u);
  EXPECT_EQ(device().ballooned_pages(), driver_->ballooned_pages());
}

TEST_P(EarlyUseTest, NumbersOf8BytesDoNotDiscardPageZero) {
  use_early();

  EXPECT_EQ(device().metrics().count(Errc::kPageRepeated), 0u);
  EXPECT_TRUE(std::all_of(others(), others() + kOthers.bytes(),
                          [](std::byte b) { return b == std::byte{0x77}; }));
}

}  // namespace
}  // namespace vballoon
