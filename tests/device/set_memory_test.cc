// SPDX-License-Identifier: MIT
// A device whose guest memory is replaced while it runs (src/device/set_memory.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "device/device_fixture.h"

namespace vballoon {
namespace {

using testing::balanced;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kHigh;
using testing::le32;
using testing::numbers;
using testing::part_of;
using testing::pfn_message;
using testing::Rig;
using testing::stats_entries;

constexpr std::uint16_t kStatsQueue = 2;
constexpr PageRange kLowRegion{0, testing::kLowPages};
constexpr PageRange kHighRegion{kHigh, 0x400};

class SetMemoryTest : public ::testing::Test {
 protected:
  static BalloonOptions options() {
    return {
        .features = Features{Feature::kMustTellHost, Feature::kStatsVq, Feature::kAccessPlatform},
        .translate_address =
            [](std::uint64_t address, std::uint64_t length, bool) {
              return std::optional(TranslatedPiece{address, length});
            },
        .clock = [] { return std::chrono::nanoseconds(0); }};
  }

  // The same layout and contents at another place in this process.
  std::shared_ptr<const GuestMemory> copy() const {
    auto copied = testing::memory_with_hole();
    for (const MemoryRegion& region : rig_.memory().regions()) {
      const std::span bytes(region.host, region.bytes);
      if (!copied->write(region.guest_address, bytes)) throw std::out_of_range("copy");
    }
    return copied;
  }
  static std::vector<std::byte> used_page(const GuestMemory& memory, std::uint64_t address) {
    std::vector<std::byte> page(kPageSize);
    if (!memory.read(address, page)) throw std::out_of_range("used ring");
    return page;
  }
  void hold_stats_buffer() {
    rig_.send(kStatsQueue, {{stats_entries({{4, 1}})}});
    rig_.serve(kStatsQueue);
  }
  void use_stats_buffer() {
    ASSERT_TRUE(rig_.device().request_stats(std::chrono::seconds(1)));
    rig_.serve(kStatsQueue);
  }

  Rig rig_{{.device = options()}};
};

// ---- the ledger --------------------------------------------------------------------------------

TEST_F(SetMemoryTest, PagesOfARemovedRegionLeaveTheLedger) {
  rig_.start().inflate({5, 0x801});

  ASSERT_TRUE(rig_.device().set_memory(part_of(rig_.shared_memory(), {kHighRegion})));

  EXPECT_EQ(rig_.device().ballooned_pages(), 1u);
  EXPECT_FALSE(rig_.device().is_ballooned(5));
  EXPECT_TRUE(rig_.device().is_ballooned(0x801));
}

TEST_F(SetMemoryTest, OwedPagesOfItAreForgone) {
  rig_.start().device().inhibit_discards();
  rig_.inflate({5, 6, 0x801});

  ASSERT_TRUE(rig_.device().set_memory(part_of(rig_.shared_memory(), {kHighRegion})));

  const BalloonMetrics metrics = rig_.device().metrics();
  EXPECT_EQ(metrics.forgone_bytes, 2 * kPageSize);
  EXPECT_EQ(metrics.owed_bytes, kPageSize);
  EXPECT_TRUE(balanced(metrics));
}

TEST_F(SetMemoryTest, PagesThatExistInBothStayInTheBalloon) {
  rig_.start().inflate({0x0F, 0x10, 0x11, 0x3FF, 0x801});

  // The regions are cut in another way, and begin elsewhere.
  ASSERT_TRUE(rig_.device().set_memory(
      part_of(rig_.shared_memory(), {{0x10, 0x30}, {0x40, 0x3C0}, kHighRegion})));

  EXPECT_EQ(rig_.device().ballooned_pages(), 4u);
  EXPECT_FALSE(rig_.device().is_ballooned(0x0F));
  EXPECT_TRUE(rig_.device().is_ballooned(0x10));
  EXPECT_TRUE(rig_.device().is_ballooned(0x3FF));
  EXPECT_TRUE(rig_.device().is_ballooned(0x801));
}

TEST_F(SetMemoryTest, OwedPagesAreGivenBackInTheNewMemory) {
  const auto other = copy();
  rig_.start().device().inhibit_discards();
  rig_.inflate({0x801});
  ASSERT_TRUE(rig_.device().set_memory(other));

  rig_.device().resume_discards();

  ASSERT_EQ(rig_.recorded().runs().size(), 1u);
  EXPECT_EQ(rig_.recorded().runs().front().address, other->host(0x801 * kPageSize, kPageSize));
  EXPECT_TRUE(balanced(rig_.device().metrics()));
}

TEST_F(SetMemoryTest, PagesOfANewRegionAreInflated) {
  Rig rig({.memory = part_of(testing::memory_with_hole(), {kHighRegion})});
  rig.start().inflate({0x801});
  const auto larger = part_of(rig.shared_memory(), {kHighRegion}, {kLowRegion});
  ASSERT_TRUE(rig.device().set_memory(larger));

  rig.inflate({5, 0x802});

  EXPECT_THAT(rig.discarded(),
              ElementsAre(PageRange{0x801, 1}, PageRange{5, 1}, PageRange{0x802, 1}));
  EXPECT_EQ(rig.device().ballooned_pages(), 3u);
  EXPECT_THAT(rig.all_errors(), IsEmpty());
}

// ---- queues ------------------------------------------------------------------------------------

TEST_F(SetMemoryTest, ChainOfTheOldMemoryIsNotReturned) {
  rig_.start();
  hold_stats_buffer();
  const std::uint64_t address = rig_.used_address(kStatsQueue);
  const auto before = used_page(rig_.memory(), address);
  const auto other = copy();

  ASSERT_TRUE(rig_.device().set_memory(other));
  use_stats_buffer();

  EXPECT_EQ(used_page(rig_.memory(), address), before);
  EXPECT_NE(used_page(*other, address), before);
}

TEST_F(SetMemoryTest, MessageReadInPartIsReadAgainFromTheNewMemory) {
  BalloonOptions by_bytes = options();
  by_bytes.budget = {.bytes = 1};
  Rig rig({.device = by_bytes});
  auto pfns = numbers(0, 0x400);
  pfns.resize(17'000, 0x3FF);  // more than one window
  pfns.push_back(0x800);
  rig.start().send(kInflateQueue, pfn_message(pfns));
  ASSERT_TRUE(rig.device().process(kInflateQueue));
  ASSERT_TRUE(rig.memory().write(testing::kPayloads + 17'000 * 4, le32({0x801})));

  ASSERT_TRUE(rig.device().set_memory(part_of(rig.shared_memory(), {kLowRegion, kHighRegion})));
  rig.serve(kInflateQueue);

  EXPECT_EQ(rig.device().ballooned_pages(), 0x401u);
  EXPECT_TRUE(rig.device().is_ballooned(0x801));
  EXPECT_EQ(rig.device().metrics().inflate_messages, 1u);
  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
}

TEST_F(SetMemoryTest, MessageDealtWithInPartIsDealtWithToItsEnd) {
  BalloonOptions by_pages = options();
  by_pages.budget = {.pages = 100};
  Rig rig({.device = by_pages});
  rig.start().send(kInflateQueue, pfn_message(numbers(0x3A0, 200)));  // half of it in the hole
  rig.send(kInflateQueue, pfn_message({0x801}));
  ASSERT_TRUE(rig.device().process(kInflateQueue));

  ASSERT_TRUE(rig.device().set_memory(part_of(rig.shared_memory(), {kHighRegion})));
  rig.serve(kInflateQueue);

  EXPECT_EQ(rig.device().ballooned_pages(), 1u);
  EXPECT_TRUE(rig.device().is_ballooned(0x801));
  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u, 0u));
}

TEST_F(SetMemoryTest, HeldStatisticsBufferIsTakenAgain) {
  rig_.start();
  hold_stats_buffer();

  ASSERT_TRUE(rig_.device().set_memory(part_of(rig_.shared_memory(), {kLowRegion, kHighRegion})));
  rig_.serve(kStatsQueue);
  EXPECT_THAT(rig_.completed(kStatsQueue), IsEmpty());
  use_stats_buffer();
  rig_.serve(kStatsQueue);

  EXPECT_THAT(rig_.completed(kStatsQueue), ElementsAre(0u));
  EXPECT_EQ(rig_.queue(kStatsQueue).bogus_used(), 0u);
}

TEST_F(SetMemoryTest, QueueOutsideTheNewMemoryNeedsAReset) {
  rig_.start().send(kInflateQueue, pfn_message({5}));

  ASSERT_TRUE(rig_.device().set_memory(part_of(rig_.shared_memory(), {kLowRegion})));

  EXPECT_NE(rig_.device().read_status() & kStatusNeedsReset, 0);
  EXPECT_EQ(rig_.config_interrupts(), 1);
  EXPECT_FALSE(rig_.device().process(kInflateQueue));
  EXPECT_THAT(rig_.completed(kInflateQueue), IsEmpty());
}

TEST_F(SetMemoryTest, DriverThatIsNotReadyIsNotInterruptedForIt) {
  rig_.negotiate().set_queues();

  ASSERT_TRUE(rig_.device().set_memory(part_of(rig_.shared_memory(), {kLowRegion})));

  EXPECT_NE(rig_.device().read_status() & kStatusNeedsReset, 0);
  EXPECT_EQ(rig_.config_interrupts(), 0);
}

// The driver may use its pages again after it has reset the queue.
TEST_F(SetMemoryTest, PagesOfAMessageThatCannotBeAnsweredAreForgone) {
  BalloonOptions behind = options();
  behind.write_behind = true;
  behind.budget = {.pages = 2};
  Rig rig({.device = behind});
  rig.start().send(kInflateQueue, pfn_message({5, 6, 7}));
  ASSERT_TRUE(rig.device().process(kInflateQueue));
  ASSERT_EQ(rig.device().metrics().owed_bytes, 2 * kPageSize);

  ASSERT_TRUE(rig.device().set_memory(part_of(rig.shared_memory(), {kLowRegion})));
  rig.device().drain();

  EXPECT_THAT(rig.discarded(), IsEmpty());
  EXPECT_EQ(rig.device().metrics().forgone_bytes, 2 * kPageSize);
}

TEST_F(SetMemoryTest, DeviceIsSavedWithItsNewMemory) {
  rig_.start().inflate({5, 0x801});
  const auto high = part_of(rig_.shared_memory(), {kHighRegion});
  ASSERT_TRUE(rig_.device().set_memory(high));

  Rig other({.device = options(), .memory = high});
  ASSERT_TRUE(other.device().restore(rig_.device().save()));

  EXPECT_TRUE(other.device().is_ballooned(0x801));
  EXPECT_EQ(other.device().ballooned_pages(), 1u);
}

TEST_F(SetMemoryTest, OldMemoryIsLetGo) {
  rig_.start();
  auto memory = part_of(rig_.shared_memory(), {kLowRegion, kHighRegion});
  const std::weak_ptr<const GuestMemory> old = memory;
  ASSERT_TRUE(rig_.device().set_memory(std::move(memory)));
  hold_stats_buffer();

  ASSERT_TRUE(rig_.device().set_memory(part_of(rig_.shared_memory(), {kLowRegion, kHighRegion})));

  EXPECT_TRUE(old.expired());
}

// ---- rings that move --------------------------------------------------------------------------

class MovedRingsTest : public SetMemoryTest {
 protected:
  static constexpr std::uint64_t kMovedBy = 0x600 * kPageSize;
  // The pages of the rings lie there instead.
  static constexpr PageRange kNewRings{(testing::kRings + kMovedBy) >> kPageShift, 0x100};

  // The same memory, with the rings at other guest addresses.
  std::shared_ptr<const GuestMemory> moved() const {
    const auto borrow = [this](PageRange from, Pfn to) {
      return BorrowedRegion{.guest_address = to << kPageShift,
                            .bytes = from.bytes(),
                            .host = rig_.memory().host(from.first << kPageShift, from.bytes())};
    };
    const Pfn rings = testing::kRings >> kPageShift;
    const Pfn payloads = testing::kPayloads >> kPageShift;
    return GuestMemory::borrow(
               std::vector{borrow(kLowRegion, 0), borrow({kHigh, 0x200}, kHigh),
                           borrow({rings, 0x100}, kNewRings.first),
                           borrow({payloads, testing::kPastEnd - payloads}, payloads)})
        .value();
  }
  static std::optional<QueueConfig> follow(std::uint16_t, QueueConfig config) {
    config.descriptor_table += kMovedBy;
    config.available_ring += kMovedBy;
    config.used_ring += kMovedBy;
    return config;
  }
};

TEST_F(MovedRingsTest, QueuesGoOnInThem) {
  rig_.start().inflate({5});

  ASSERT_TRUE(rig_.device().set_memory(moved(), follow));
  rig_.inflate({6});

  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u, 0u));
  EXPECT_EQ(rig_.device().ballooned_pages(), 2u);
  EXPECT_EQ(rig_.device().read_status(), Rig::kRunning);
}

TEST_F(MovedRingsTest, WithoutFollowingThemQueuesAreBroken) {
  rig_.start();

  ASSERT_TRUE(rig_.device().set_memory(moved()));

  EXPECT_NE(rig_.device().read_status() & kStatusNeedsReset, 0);
}

TEST_F(MovedRingsTest, QueueWithoutAPlaceIsBroken) {
  rig_.start();
  const auto only_the_first = [](std::uint16_t queue, const QueueConfig& config) {
    return queue == kInflateQueue ? follow(queue, config) : std::nullopt;
  };

  ASSERT_TRUE(rig_.device().set_memory(moved(), only_the_first));

  EXPECT_NE(rig_.device().read_status() & kStatusNeedsReset, 0);
  EXPECT_EQ(rig_.config_interrupts(), 1);
}

TEST_F(MovedRingsTest, EachQueueThatRunsIsAskedAboutOnce) {
  std::vector<std::uint16_t> asked;
  rig_.start();
  ASSERT_TRUE(rig_.device().suspend_queue(kDeflateQueue));

  ASSERT_TRUE(
      rig_.device().set_memory(moved(), [&asked](std::uint16_t queue, const QueueConfig& config) {
        asked.push_back(queue);
        return follow(queue, config);
      }));

  EXPECT_THAT(asked, ElementsAre(kInflateQueue, kStatsQueue));
}

TEST_F(MovedRingsTest, NextMoveBeginsWhereTheyAreNow) {
  rig_.start();
  ASSERT_TRUE(rig_.device().set_memory(moved(), follow));
  std::uint64_t table = 0;

  ASSERT_TRUE(
      rig_.device().set_memory(moved(), [&table](std::uint16_t queue, const QueueConfig& config) {
        if (queue == kInflateQueue) table = config.descriptor_table;
        return std::optional(config);
      }));

  EXPECT_EQ(table, testing::kRings + kMovedBy);
  rig_.inflate({6});
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
}

TEST_F(MovedRingsTest, HeldStatisticsBufferIsAnsweredInThem) {
  rig_.start();
  hold_stats_buffer();

  ASSERT_TRUE(rig_.device().set_memory(moved(), follow));
  use_stats_buffer();

  EXPECT_THAT(rig_.completed(kStatsQueue), ElementsAre(0u));
  EXPECT_EQ(rig_.queue(kStatsQueue).bogus_used(), 0u);
}

TEST_F(MovedRingsTest, MessageReadInPartIsReadToItsEnd) {
  BalloonOptions by_pages = options();
  by_pages.budget = {.pages = 100};
  // The same memory as moved() is made of.
  const std::shared_ptr<const GuestMemory> other = moved();
  Rig rig({.device = by_pages, .memory = rig_.shared_memory()});
  rig.start().send(kInflateQueue, pfn_message(numbers(0, 300)));
  ASSERT_TRUE(rig.device().process(kInflateQueue));

  ASSERT_TRUE(rig.device().set_memory(other, follow));
  rig.serve(kInflateQueue);

  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_EQ(rig.device().ballooned_pages(), 300u);
}

TEST_F(MovedRingsTest, RefusedMemoryLeavesThemWhereTheyWere) {
  rig_.start();
  ASSERT_TRUE(rig_.device().set_target_pages(0x401));

  ASSERT_FALSE(rig_.device().set_memory(part_of(rig_.shared_memory(), {kHighRegion}), follow));
  rig_.inflate({6});

  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
}

// ---- refused -----------------------------------------------------------------------------------

TEST_F(SetMemoryTest, NoMemoryIsRefused) {
  rig_.start().inflate({5});
  const auto before = rig_.device().save();

  const auto set = rig_.device().set_memory(nullptr);

  ASSERT_FALSE(set);
  EXPECT_EQ(set.error().code, Errc::kInvalidArgument);
  EXPECT_EQ(rig_.device().save(), before);
}

TEST_F(SetMemoryTest, MemorySmallerThanTheTargetIsRefused) {
  rig_.start().inflate({5});
  hold_stats_buffer();
  ASSERT_TRUE(rig_.device().set_target_pages(0x401));
  const auto before = rig_.device().save();

  const auto set = rig_.device().set_memory(part_of(rig_.shared_memory(), {kHighRegion}));

  ASSERT_FALSE(set);
  EXPECT_EQ(set.error().code, Errc::kTargetTooLarge);
  EXPECT_EQ(rig_.device().save(), before);
  EXPECT_THAT(rig_.completed(kStatsQueue), IsEmpty());
}

// The translator stands for whatever allocates behind the first queue.
TEST_F(SetMemoryTest, FailedAllocationLeavesEverythingAsItWas) {
  bool fail = false;
  int calls = 0;
  BalloonOptions failing = options();
  failing.translate_address = [&](std::uint64_t address, std::uint64_t length, bool) {
    if (fail && ++calls > 7) throw std::bad_alloc();  // in the third queue
    return std::optional(TranslatedPiece{address, length});
  };
  Rig rig({.device = failing});
  rig.start().inflate({5, 0x801});
  rig.send(kStatsQueue, {{stats_entries({{4, 1}})}});
  rig.serve(kStatsQueue);
  const auto before = rig.device().save();
  const auto high = part_of(rig.shared_memory(), {kHighRegion});

  fail = true;
  EXPECT_THROW((void)rig.device().set_memory(high), std::bad_alloc);
  fail = false;

  EXPECT_EQ(rig.device().save(), before);
  EXPECT_THAT(rig.completed(kStatsQueue), IsEmpty());
  rig.inflate({6});
  EXPECT_TRUE(rig.device().is_ballooned(6));
}

}  // namespace
}  // namespace vballoon
