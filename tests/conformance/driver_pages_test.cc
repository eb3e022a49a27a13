// SPDX-License-Identifier: MIT
// When the simulated driver uses pages again and what stands in them: out of memory, poison, hints,
// reports (virtio 1.3, sections 5.5.5 and 5.5.6). Names bear the ids of checklist.tsv.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "conformance/traced_device.h"
#include "guest/driver_fixture.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/sim/page_poison.h"
#include "wire/little_endian.h"

namespace vballoon {
namespace {

using sim::AllocationEffort;
using sim::Block;
using sim::MemoryStatistic;
using sim::ProcessId;
using std::chrono::seconds;
using testing::DecodedMessage;
using testing::DriverRig;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::Gt;
using ::testing::IsEmpty;
using testing::kGuestPages;
using ::testing::Not;
using ::testing::SizeIs;

constexpr Features kTells{Feature::kMustTellHost};

// A guest with processes, which looks at the pages that it uses, and a scripted device.
class DriverPagesConformance : public ::testing::Test {
 protected:
  explicit DriverPagesConformance(bool poison = false)
      : kernel_(rig_.allocator, {.memory = rig_.memory, .poison = poison ? &poison_ : nullptr}) {
    rig_.options.kernel = &kernel_;
    rig_.options.reporting.capacity = 1;
    if (poison) rig_.options.poison_value = poison_.value();
    poison_.fill_free_pages(rig_.allocator);
  }
  ~DriverPagesConformance() override { rig_.driver.reset(); }  // before the kernel

  void probe(Features features) {
    rig_.device.offered = features.with(Feature::kVersion1);
    rig_.options.features = features;
    rig_.probe();
  }
  // A process that has all that the kernel gives away.
  ProcessId fill_guest() {
    const ProcessId process = kernel_.start_process();
    const std::uint64_t count = rig_.allocator.free_pages() - kernel_.watermarks().min;
    EXPECT_TRUE(kernel_.touch(process, 0, static_cast<std::uint32_t>(count)));
    return process;
  }
  std::uint64_t oom_kills() const { return kernel_.statistics()[MemoryStatistic::kOomKills]; }
  // Steps through the time that a pass of reports takes.
  void report() {
    for (int now = 0; now <= 40; now += 2) rig_.driver->step(seconds(now));
  }
  // Pages that a message names: of arrays in its payload, otherwise its buffers.
  static std::vector<Pfn> pages_named(const DecodedMessage& message) {
    std::vector<Pfn> all;
    for (const PageRange& range : message.pages) {
      for (Pfn pfn = range.first; pfn < range.end(); ++pfn) all.push_back(pfn);
    }
    return all;
  }
  bool holds(Pfn pfn, std::byte value) const {
    const std::byte* page = rig_.memory->host(pfn << kPageShift, kPageSize);
    return std::all_of(page, page + kPageSize, [value](std::byte b) { return b == value; });
  }
  void scribble(const DecodedMessage& message) const {
    for (const Pfn pfn : pages_named(message)) {
      std::fill_n(rig_.memory->host(pfn << kPageShift, kPageSize), kPageSize, std::byte{0x5b});
    }
  }

  DriverRig rig_;
  sim::PagePoison poison_{rig_.memory, sim::kPagePoisonByte};
  sim::GuestKernel kernel_;
};

// ---- set-up -------------------------------------------------------------------------------------

TEST_F(DriverPagesConformance, BAL_I_04_QueuesThenPoisonThenDriverOkThenKicks) {
  testing::TracedDevice traced(rig_.device);
  rig_.options.features = {Feature::kStatsVq, Feature::kPagePoison};
  rig_.options.poison_value = 0;
  rig_.options.early_stats = false;
  rig_.device.offered = rig_.options.features.with(Feature::kVersion1);

  rig_.driver =
      sim::BalloonDriver::probe(traced, rig_.memory, rig_.allocator, rig_.options).value();

  EXPECT_THAT(traced.from("queue 0"), ElementsAre("queue 0", "queue 1", "queue 2",
                                                  "write config 12", "status 15", "kick 2"));
}

TEST_F(DriverPagesConformance, BAL_I_04_StatisticsLieInTheirQueueBeforeDriverOk) {
  rig_.options.early_stats = false;
  std::size_t messages = 0;
  rig_.device.on_status = [&](std::uint8_t status) {
    if ((status & kStatusDriverOk) == 0) return;
    rig_.device.look(2);
    messages = rig_.device.messages.size();
  };

  probe(Features{Feature::kStatsVq});

  EXPECT_EQ(messages, 1u);
}

TEST_F(DriverPagesConformance, BAL_I_04_ReportsComeAfterDriverOk) {
  std::size_t reported_before = 0;
  rig_.device.on_status = [&](std::uint8_t) { reported_before = rig_.device.messages.size(); };

  probe(Features{Feature::kPageReporting});
  report();

  EXPECT_EQ(reported_before, 0u);
  EXPECT_THAT(rig_.device.messages, Not(IsEmpty()));
}

// ---- statistics ---------------------------------------------------------------------------------

std::vector<std::uint16_t> tags_of(const std::vector<std::byte>& payload) {
  std::vector<std::uint16_t> tags;
  for (std::size_t at = 0; at < payload.size(); at += 10) {
    tags.push_back(load_le<std::uint16_t>(payload.data() + at));
  }
  return tags;
}

TEST_F(DriverPagesConformance, BAL_G_23_StatisticsStandInTheOrderThatTheDriverLikes) {
  probe(Features{Feature::kStatsVq});

  EXPECT_THAT(tags_of(rig_.device.messages.at(0).payload),
              ElementsAre(0, 1, 2, 3, 10, 11, 12, 13, 14, 15, 8, 9, 4, 5, 6, 7));
}

TEST_F(DriverPagesConformance, BAL_G_24_DriverGivesOnlyTheStatisticsThatItKnows) {
  rig_.options.habits = sim::DriverHabits::kWindows;

  probe(Features{Feature::kStatsVq});

  EXPECT_THAT(tags_of(rig_.device.messages.at(0).payload),
              ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
}

// ---- taking pages back --------------------------------------------------------------------------

TEST_F(DriverPagesConformance, BAL_G_07_WithoutDeflateOnOomThePagesStayThoughSomebodyIsKilled) {
  probe(kTells);
  rig_.resize(1000);
  const std::size_t before = rig_.device.messages.size();
  const ProcessId process = fill_guest();

  EXPECT_FALSE(kernel_.touch(process, kGuestPages, 1));

  EXPECT_EQ(oom_kills(), 1u);
  EXPECT_THAT(rig_.messages_since(before), IsEmpty());
}

TEST_F(DriverPagesConformance, BAL_G_08_WithDeflateOnOomThePagesComeBackAndNobodyIsKilled) {
  probe(kTells.with(Feature::kDeflateOnOom));
  rig_.resize(1000);
  const ProcessId process = fill_guest();

  EXPECT_TRUE(kernel_.touch(process, kGuestPages, 1000));

  EXPECT_EQ(oom_kills(), 0u);
  EXPECT_EQ(rig_.driver->ballooned_pages(), 0u);
}

TEST_F(DriverPagesConformance, BAL_G_09_BAL_G_14_PagesThatComeBackOnOomAreNamedAndActualFollows) {
  probe(kTells.with(Feature::kDeflateOnOom));
  rig_.resize(1000);
  const std::size_t before = rig_.device.messages.size();
  const ProcessId process = fill_guest();

  ASSERT_TRUE(kernel_.touch(process, kGuestPages, 1));

  EXPECT_THAT(rig_.messages_since(before),
              ElementsAre(Field(&DecodedMessage::queue, kDeflateQueue)));
  EXPECT_EQ(rig_.device_balloon(), rig_.balloon());
  EXPECT_EQ(rig_.device.actuals.back(), rig_.driver->ballooned_pages());
}

TEST_F(DriverPagesConformance, BAL_G_10_EvenOnOomPagesAreNotUsedBeforeTheAnswer) {
  std::uint64_t free_before_answer = UINT64_MAX;
  rig_.options.let_device_answer = [&] {
    free_before_answer = rig_.allocator.free_pages();
    rig_.device.answer();
    return true;
  };
  probe(kTells.with(Feature::kDeflateOnOom));
  rig_.resize(1000);
  const ProcessId process = fill_guest();
  rig_.device.answers = false;

  ASSERT_TRUE(kernel_.touch(process, kGuestPages, 1));

  EXPECT_EQ(free_before_answer, kernel_.watermarks().min);
}

TEST_F(DriverPagesConformance, BAL_G_11_WithoutMustTellHostPagesMayBeUsedBeforeTheAnswer) {
  rig_.options.habits = sim::DriverHabits::kWindows;
  rig_.device.wide_pfns = true;
  probe(Features());
  rig_.resize(200);
  rig_.device.answers = false;
  const std::uint64_t free_before = rig_.allocator.free_pages();

  rig_.resize(0);

  EXPECT_EQ(rig_.device.held(), 1u);
  EXPECT_EQ(rig_.allocator.free_pages(), free_before + 200);
}

// ---- hints --------------------------------------------------------------------------------------

// What a host may do to hinted pages: they are lost on the way to another machine.
TEST_F(DriverPagesConformance, BAL_G_33_NothingIsExpectedOfHintedPages) {
  probe(Features{Feature::kFreePageHint});
  rig_.device.on_message = [this](const DecodedMessage& message) { scribble(message); };
  rig_.device.hint_command = 2;
  rig_.driver->step({});
  ASSERT_FALSE(pages_of(rig_.device.messages).empty());
  rig_.device.hint_command = kHintDone;
  rig_.driver->step({});

  fill_guest();

  EXPECT_EQ(kernel_.damaged_pages(), 0u);
}

// ---- reports ------------------------------------------------------------------------------------

TEST_F(DriverPagesConformance, BAL_G_39_NothingIsExpectedOfReportedPages) {
  probe(Features{Feature::kPageReporting});
  rig_.device.on_message = [this](const DecodedMessage& message) { scribble(message); };
  report();
  ASSERT_FALSE(rig_.device.messages.empty());

  fill_guest();

  EXPECT_EQ(kernel_.damaged_pages(), 0u);
}

TEST_F(DriverPagesConformance, BAL_G_44_ReportedPagesAreUsedLast) {
  probe(Features{Feature::kPageReporting});
  rig_.options.reporting.min_order = sim::kMaxOrder;
  rig_.probe();
  rig_.device.answers = false;
  rig_.driver->step(seconds(0));
  rig_.driver->step(seconds(2));
  rig_.device.answer(1);
  rig_.driver->step(seconds(2));  // takes the answer, and reports another block
  ASSERT_THAT(rig_.device.messages, SizeIs(2));
  const Pfn reported = rig_.device.messages[0].pages.at(0).first;

  const auto used = rig_.allocator.allocate(sim::kMaxOrder);

  ASSERT_TRUE(used.has_value());
  EXPECT_NE(used->first, reported);
  EXPECT_TRUE(rig_.allocator.is_free(reported)) << "it was there to be used";
}

// ---- poison -------------------------------------------------------------------------------------

class PoisonedPagesConformance : public DriverPagesConformance {
 protected:
  PoisonedPagesConformance() : DriverPagesConformance(true) {}

  static constexpr std::byte kPoison{sim::kPagePoisonByte};
};

TEST_F(PoisonedPagesConformance, BAL_G_36_PagesThatAreUsedAgainHoldThePoison) {
  probe(kTells.with(Feature::kPagePoison));
  rig_.device.on_message = [this](const DecodedMessage& message) { scribble(message); };
  rig_.resize(1000);

  rig_.resize(0);

  const std::vector<Pfn> deflated = pages_named(rig_.device.messages.back());
  ASSERT_THAT(deflated, Not(IsEmpty()));
  EXPECT_TRUE(std::ranges::all_of(deflated, [this](Pfn pfn) { return holds(pfn, kPoison); }));
  fill_guest();
  EXPECT_EQ(poison_.violations(), 0u);
}

TEST_F(PoisonedPagesConformance, BAL_G_34_HintedPagesThatAreTakenBackBeforeDoneAreWrittenFirst) {
  probe(Features{Feature::kFreePageHint, Feature::kPagePoison});
  rig_.device.on_message = [this](const DecodedMessage& message) { scribble(message); };
  rig_.device.hint_command = 2;
  rig_.driver->step({});
  const ProcessId process = kernel_.start_process();

  ASSERT_TRUE(kernel_.touch(process, 0, kGuestPages - 1000)) << "more than was not hinted";

  EXPECT_EQ(poison_.violations(), 0u);
  EXPECT_EQ(kernel_.damaged_pages(), 0u);
}

TEST_F(PoisonedPagesConformance, BAL_G_40_EachReportedPageHoldsThePoisonAtTheKick) {
  probe(Features{Feature::kPagePoison, Feature::kPageReporting});
  std::uint64_t pages = 0;
  std::uint64_t others = 0;
  rig_.device.on_message = [&](const DecodedMessage& message) {
    for (const Pfn pfn : pages_named(message)) {
      ++pages;
      others += holds(pfn, kPoison) ? 0 : 1;
    }
  };
  kernel_.exit(fill_guest());  // writes to the pages first

  report();

  EXPECT_THAT(pages, Gt(kGuestPages / 4));
  EXPECT_EQ(others, 0u);
}

}  // namespace
}  // namespace vballoon
