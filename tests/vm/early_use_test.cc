// SPDX-License-Identifier: MIT
// A driver with the habits of the Windows one, which uses pages before it tells the device, and a
// device that really discards: whatever its policy, the guest must not lose a byte.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/page_ranges.h"
#include "device/two_mib_pages.h"
#include "vballoon/discarder.h"
#include "vballoon/sim/balloon_driver.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/transport/mmio.h"
#include "vm/mmio_access.h"

namespace vballoon {
namespace {

constexpr std::chrono::nanoseconds kSecond = std::chrono::seconds(1);

// What the host has behind the guest.
enum class HostPages { kSmall, kHuge, kTransparentHuge };

// What the host does with pages.
struct Policy {
  std::string name;
  BalloonOptions device = {};
  DiscardStrategy strategy = DiscardStrategy::kVectored;
  HostPages host_pages = HostPages::kSmall;
  // Until the guest uses pages early: the host inhibits discards, or the kernel refuses them.
  bool inhibits = false;
  bool refuses = false;
  // Some pages are never given back.
  bool forgoes = false;
};

void PrintTo(const Policy& policy, std::ostream* out) { *out << policy.name; }

std::vector<Policy> policies() {
  return {
      {.name = "per_page_at_once", .strategy = DiscardStrategy::kPerPage},
      {.name = "merged_at_once", .strategy = DiscardStrategy::kMerged},
      {.name = "vectored_at_once"},
      {.name = "per_page_behind",
       .device = {.write_behind = true},
       .strategy = DiscardStrategy::kPerPage},
      {.name = "merged_behind",
       .device = {.write_behind = true},
       .strategy = DiscardStrategy::kMerged},
      {.name = "vectored_behind", .device = {.write_behind = true}},
      {.name = "in_small_turns", .device = {.budget = {.pages = 100, .bytes = 1}}},
      {.name = "will_need", .device = {.deflate_action = DeflateAction::kWillNeed}},
      {.name = "collapsed",
       .device = {.deflate_action = DeflateAction::kCollapse, .huge_pages = HugePagePolicy::kSplit},
       .host_pages = HostPages::kTransparentHuge},
      {.name = "huge_host_pages", .host_pages = HostPages::kHuge, .forgoes = true},
      {.name = "huge_pages_split",
       .device = {.huge_pages = HugePagePolicy::kSplit},
       .host_pages = HostPages::kTransparentHuge},
      {.name = "huge_pages_healed", .host_pages = HostPages::kTransparentHuge},
      {.name = "huge_pages_kept_whole",
       .device = {.huge_pages = HugePagePolicy::kKeepWhole},
       .host_pages = HostPages::kTransparentHuge,
       .forgoes = true},
      {.name = "inhibited_and_resumed", .inhibits = true, .forgoes = true},
      {.name = "refused_and_drained", .refuses = true, .forgoes = true},
  };
}

// Asks the kernel, once it no longer refuses everything.
class RefusingDiscarder final : public Discarder {
 public:
  explicit RefusingDiscarder(std::unique_ptr<Discarder> inner) : inner_(std::move(inner)) {}

  void discard(std::span<const HostRun> runs, DiscardReport& report) override {
    if (!refuses) return inner_->discard(runs, report);
    for (const HostRun& run : runs) report.failures.push_back({run, EAGAIN});
  }

  bool refuses = false;

 private:
  const std::unique_ptr<Discarder> inner_;
};

class EarlyUseTest : public ::testing::TestWithParam<Policy> {
 protected:
  static constexpr std::uint64_t kPages = 4096;
  static constexpr PageRange kOthers{0, 16};  // not the allocator's

  void SetUp() override {
    if (GetParam().name == "huge_pages_healed" && !healing_available()) {
      GTEST_SKIP() << "the kernel keeps empty page tables";
    }
  }
  EarlyUseTest() {
    auto discarder = std::make_unique<RefusingDiscarder>(
        make_kernel_discarder({.strategy = GetParam().strategy}));
    discarder_ = discarder.get();
    BalloonOptions options = GetParam().device;
    options.features = Features{Feature::kMustTellHost};
    mmio_ = MmioTransport::create(
                memory_, std::move(discarder), std::move(options),
                {.queue_notify = [this](std::uint16_t queue) { kicked_.insert(queue); }})
                .value();
    access_ = sim::MmioAccess::probe(sim::window_of(*mmio_)).value();
    std::fill_n(others(), kOthers.bytes(), std::byte{0x77});
    driver_ =
        sim::BalloonDriver::probe(
            *access_, memory_, allocator_,
            {.features = Features(), .habits = sim::DriverHabits::kWindows, .kernel = &kernel_})
            .value();
  }

  std::byte* others() const { return memory_->host(kOthers.first << kPageShift, kOthers.bytes()); }
  bool others_are_whole() const {
    return std::all_of(others(), others() + kOthers.bytes(),
                       [](std::byte b) { return b == std::byte{0x77}; });
  }
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
    while (driver_->step(now_).kind == sim::DriverWait::Kind::kUsedBuffer) serve();
    serve();
  }
  // A process that has nearly all that is free now.
  sim::ProcessId use_what_is_free() {
    const sim::ProcessId process = kernel_.start_process();
    const std::uint64_t unused = allocator_.free_pages() - kernel_.watermarks().min;
    EXPECT_TRUE(kernel_.touch(process, 0, static_cast<std::uint32_t>(unused)));
    return process;
  }
  void put_discards_off() {
    if (GetParam().inhibits) device().inhibit_discards();
    discarder_->refuses = GetParam().refuses;
  }
  void make_up_for_discards() {
    if (GetParam().inhibits) device().resume_discards();
    discarder_->refuses = false;
    (void)device().drain();
  }
  static std::shared_ptr<const GuestMemory> memory_on(HostPages pages) {
    constexpr std::uint64_t kBytes = kPages << kPageShift;
    if (pages == HostPages::kSmall) {
      return GuestMemory::allocate(std::vector<RegionLayout>{{0, kBytes}}).value();
    }
    const bool host = pages == HostPages::kHuge;
    return testing::borrow_memory({{.bytes = kBytes,
                                    .host_page_bytes = host ? testing::kTwoMib : kPageSize,
                                    .huge_page_bytes = host ? 0 : testing::kTwoMib}});
  }
  // Lets the guest write to pages that have left the balloon before the device hears of that, and
  // take others into it.
  void use_early() {
    put_discards_off();
    resize(3000);
    const sim::ProcessId process = use_what_is_free();
    ASSERT_TRUE(device().set_target_pages(2500));
    (void)driver_->step(now_);
    ASSERT_THAT(kicked_, ::testing::ElementsAre(kDeflateQueue));
    ASSERT_TRUE(kernel_.touch(process, kPages, 300)) << "of those that have left";
    make_up_for_discards();
    serve();
    resize(2000);
  }
  // Lets the driver follow a target and wait for its answers in vain: each array is written over
  // the one before, which the device has not read.
  void resize_unanswered(std::uint64_t pages) {
    ASSERT_TRUE(device().set_target_pages(pages));
    while (driver_->step(now_).kind == sim::DriverWait::Kind::kUsedBuffer) now_ += kSecond;
    ASSERT_EQ(driver_->ballooned_pages(), pages);
  }

  std::shared_ptr<const GuestMemory> memory_ = memory_on(GetParam().host_pages);
  sim::PageAllocator allocator_{PageRanges{{kOthers.end(), kPages - kOthers.end()}}};
  sim::GuestKernel kernel_{allocator_, {.memory = memory_}};
  std::chrono::nanoseconds now_{0};
  std::set<std::uint16_t> kicked_;
  RefusingDiscarder* discarder_ = nullptr;
  std::unique_ptr<MmioTransport> mmio_;
  std::unique_ptr<sim::MmioAccess> access_;
  std::unique_ptr<sim::BalloonDriver> driver_;
};

INSTANTIATE_TEST_SUITE_P(Policies, EarlyUseTest, ::testing::ValuesIn(policies()),
                         [](const auto& suite) { return suite.param.name; });

TEST_P(EarlyUseTest, NoByteOfAPageThatIsUsedEarlyIsLost) {
  use_early();

  EXPECT_EQ(kernel_.damaged_pages(), 0u);
}

TEST_P(EarlyUseTest, PagesAreGivenBackBeforeTheirAnswerOrNever) {
  use_early();

  const BalloonMetrics metrics = device().metrics();
  EXPECT_EQ(metrics.freed_bytes + metrics.forgone_bytes, 3000 * kPageSize);
  EXPECT_EQ(metrics.forgone_bytes != 0, GetParam().forgoes);
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
  EXPECT_TRUE(others_are_whole());
}

// ---- a device that is served late --------------------------------------------------------------

// The second array stands where the first began: pages of the first that nothing names any more
// are in the guest's balloon and not in the device's, until both are empty.
TEST_P(EarlyUseTest, WaitThatIsAbandonedLeavesBothSidesInAgreement) {
  resize_unanswered(600);
  use_what_is_free();

  serve();
  EXPECT_EQ(device().ballooned_pages(), 512u) << "the first message, of 600 pages' 512 and 88";
  resize(0);
  EXPECT_EQ(device().ballooned_pages(), 0u);
  resize(100);

  EXPECT_EQ(device().ballooned_pages(), 100u);
  EXPECT_EQ(device().actual_pages(), 100u);
  EXPECT_EQ(driver_->ballooned_pages(), 100u);
  EXPECT_EQ(kernel_.damaged_pages(), 0u) << "all that the two messages name is in the balloon";
}

// The array of a deflate stands where the inflate's was: when the inflate is read at last it names
// pages that the guest uses again. Those may be lost, as DriverHabits warns; nothing can tell them
// from others.
TEST_P(EarlyUseTest, OnlyPagesThatLeaveBehindAnAbandonedInflateMayBeLost) {
  resize_unanswered(600);
  use_what_is_free();
  resize_unanswered(300);
  const sim::ProcessId reuser = kernel_.start_process();
  ASSERT_TRUE(kernel_.touch(reuser, 0, 200)) << "of those that have left";

  serve();
  kernel_.exit(reuser);
  resize(0);

  EXPECT_EQ(kernel_.damaged_pages(), 0u) << "of the process that was there before";
  EXPECT_TRUE(others_are_whole());
  EXPECT_EQ(device().ballooned_pages(), 0u);
  EXPECT_EQ(driver_->ballooned_pages(), 0u);
}

}  // namespace
}  // namespace vballoon
