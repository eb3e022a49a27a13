// SPDX-License-Identifier: MIT
// One script of a guest's life, over either ring, by call or by registers, in every dialect, with
// discards before the answer or behind it: the outcome is the same, and the memory as it should be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "dialect_param.h"
#include "oracle.h"
#include "sizes.h"
#include "vballoon/discarder.h"
#include "vballoon/sim/aging.h"
#include "vballoon/sim/machine.h"
#include "wire/dialect.h"

namespace vballoon::tool {
namespace {

using ::testing::IsEmpty;
using ::testing::Not;

struct Way {
  Dialect dialect = Dialect::kStandard;
  bool packed = false;
  bool mmio = false;
  bool write_behind = false;
  bool single_pages = false;  // in every dialect, which enter the balloon as they are allocated
};

std::string name_of(const Way& way) {
  return testing::name_of(way.dialect) + (way.packed ? "_packed" : "_split") +
         (way.mmio ? "_mmio" : "_by_call") + (way.write_behind ? "_write_behind" : "_sync");
}

constexpr std::uint64_t kRegionBytes = 16 * kMiB;
constexpr std::uint64_t kDriverBytes = 1 * kMiB;
constexpr unsigned kDriverOrder = 8;  // as a block
constexpr std::uint64_t kSeed = 42;

// By pfn, which all lie below the end of the guest's memory.
PageSet pages_in(const sim::BalloonDriver& driver, std::uint64_t end) {
  PageSet pages(end);
  driver.for_each_block([&](sim::Block block) { pages.add(block.pages()); });
  return pages;
}

std::vector<Pfn> members(const PageSet& pages) {
  std::vector<Pfn> list;
  for (Pfn pfn = 0; pfn < pages.size(); ++pfn) {
    if (pages.contains(pfn)) list.push_back(pfn);
  }
  return list;
}

// A guest of two regions that has been used when its driver comes. The driver's own pages, which
// differ from way to way, lie in a third: they shift nothing of what the balloon takes. What a step
// finds wrong is an error of the test.
class ScriptedGuest {
 public:
  explicit ScriptedGuest(const Way& way) : way_(way) {
    // The last zone, which allocations prefer.
    const sim::Block drivers = *allocator_.allocate(kDriverOrder);
    used_ = age_guest(allocator_, sim::GuestAge::kAged, kSeed);
    allocator_.free(drivers);
    EXPECT_TRUE(oracle_.mark_all(kGoOn));
    const PageSet free_before = free_pages_of(allocator_);
    auto discarder = make_kernel_discarder();
    machine_ = sim::Machine::start(memory_, allocator_, std::move(discarder), options(way)).value();
    oracle_.except_driver_pages(free_before, allocator_);
    while (allocator_.free_pages(kDriverZone) != 0) (void)allocator_.allocate(0);
  }

  // From an empty balloon to that many pages, and what the memory says of it.
  void inflate(std::uint64_t pages) {
    ASSERT_TRUE(oracle_.before_inflate());
    const auto report = machine_->resize(pages).value();
    ASSERT_TRUE(report.reached);
    EXPECT_EQ(report.device.stages.discard_behind.count() != 0, way_.write_behind);
    EXPECT_THAT(oracle_.after_inflate(machine_->driver(), report, kGoOn), IsEmpty());
  }
  void deflate() {
    ASSERT_TRUE(machine_->resize(0).value().reached);
    EXPECT_THAT(oracle_.after_deflate(*machine_, kGoOn), IsEmpty());
  }
  // Up and down on the way, without a look at the memory.
  void move_to(std::uint64_t pages) { ASSERT_TRUE(machine_->resize(pages).value().reached); }
  // A process ends: half of what the guest used is free.
  void free_half_of_the_used_pages() {
    for (std::uint64_t left = used_.pages / 2; left != 0 && !used_.empty();) {
      const sim::Block block = *allocator_.pop(used_);
      allocator_.free(block);
      left -= std::min(left, block.pages().count);
    }
  }

  [[nodiscard]] std::uint64_t free_pages() const { return allocator_.free_pages(); }
  [[nodiscard]] std::vector<Pfn> ballooned() const {
    return members(pages_in(machine_->driver(), kEnd));
  }
  [[nodiscard]] Features features() { return machine_->driver().features(); }

 private:
  static constexpr std::uint64_t kUpper = 64 * kMiB;
  static constexpr std::uint64_t kDrivers = 128 * kMiB;
  static constexpr std::size_t kDriverZone = 2;
  static constexpr std::uint64_t kEnd = (kDrivers + kDriverBytes) / kPageSize;
  static bool go_on(double) { return true; }
  const Tick kGoOn = go_on;

  static sim::MachineOptions options(const Way& way) {
    Features features{Feature::kMustTellHost, Feature::kIndirectDesc, Feature::kEventIdx};
    if (way.packed) features = features.with(Feature::kRingPacked);
    sim::MachineOptions options;
    options.device.dialect = way.dialect;
    options.device.features = features;
    options.device.write_behind = way.write_behind;
    options.driver.features = features;
    options.driver.reserve_pages = 0;
    if (way.single_pages) {
      options.driver.chunk_order = 0;
      options.driver.pfn_order = sim::PfnOrder::kAllocation;
    }
    options.mmio = way.mmio;
    return options;
  }

  const Way way_;
  const std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(
          std::vector<RegionLayout>{
              {0, kRegionBytes}, {kUpper, kRegionBytes}, {kDrivers, kDriverBytes}},
          {Backing::kAnonymous, ThpMode::kOff})
          .value();
  sim::PageAllocator allocator_{
      std::vector<PageRange>{{0, kRegionBytes / kPageSize},
                             {kUpper / kPageSize, kRegionBytes / kPageSize},
                             {kDrivers / kPageSize, kDriverBytes / kPageSize}}};
  Oracle oracle_{memory_, kSeed};
  sim::PageList used_;
  std::unique_ptr<sim::Machine> machine_;
};

struct Outcome {
  std::vector<Pfn> everything;  // in the balloon when the guest had nothing free any more
  std::vector<Pfn> last;        // in the balloon at the end, after ups and downs
};

Outcome run_script(const Way& way) {
  SCOPED_TRACE(name_of(way));
  ScriptedGuest guest(way);
  EXPECT_EQ(guest.features().has(Feature::kRingPacked), way.packed);
  Outcome outcome;
  guest.inflate(guest.free_pages() / 3);
  guest.deflate();
  guest.free_half_of_the_used_pages();
  guest.inflate(guest.free_pages());
  outcome.everything = guest.ballooned();
  EXPECT_THAT(outcome.everything, Not(IsEmpty()));
  EXPECT_EQ(guest.free_pages(), 0U);
  guest.deflate();
  const std::uint64_t free = guest.free_pages();
  guest.inflate(free / 2);
  guest.move_to(free / 8);
  guest.move_to(free / 4);
  outcome.last = guest.ballooned();
  EXPECT_EQ(outcome.last.size(), free / 4);
  return outcome;
}

class ScriptedGuestTest : public ::testing::TestWithParam<Dialect> {};

INSTANTIATE_TEST_SUITE_P(Dialects, ScriptedGuestTest, testing::every_dialect(),
                         testing::dialect_name);

// run_script() looks at the memory after each step that the oracle knows to judge.
TEST_P(ScriptedGuestTest, EveryRingAndTransportLeavesTheSamePagesSyncAndBehind) {
  const Outcome first = run_script({GetParam()});
  for (unsigned bits = 1; bits < 8; ++bits) {
    const Way way{GetParam(), (bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0};
    const Outcome other = run_script(way);
    EXPECT_TRUE(other.everything == first.everything) << name_of(way);
    EXPECT_TRUE(other.last == first.last) << name_of(way);
  }
}

// The pages of an inflation are the same however long its messages are. Those of a deflation are
// freed message by message, and the order decides what is taken next: so the balloon shrinks in
// steps of what one array of page numbers names.
std::vector<Pfn> left_after_small_steps(Dialect dialect) {
  const Way way{.dialect = dialect, .single_pages = true};
  SCOPED_TRACE(name_of(way));
  ScriptedGuest guest(way);
  std::uint64_t pages = guest.free_pages() / 2;
  guest.inflate(pages);
  for (std::uint64_t step = 0; step < 12; ++step) {
    if (step == 6) guest.free_half_of_the_used_pages();
    guest.move_to(pages -= 200);
    guest.move_to(pages += step * 97 % 400);
  }
  EXPECT_NE(guest.free_pages(), 0U) << "there was a choice";
  return guest.ballooned();
}

TEST(ScriptedGuestDialectTest, EveryDialectLeavesTheSamePagesWhereAllTakeSinglePages) {
  const std::vector<Pfn> of_arrays = left_after_small_steps(Dialect::kStandard);

  EXPECT_TRUE(left_after_small_steps(Dialect::kPageBitmap) == of_arrays);
  EXPECT_TRUE(left_after_small_steps(Dialect::kScatterGather) == of_arrays);
}

}  // namespace
}  // namespace vballoon::tool
