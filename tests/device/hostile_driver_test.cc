// SPDX-License-Identifier: MIT
// Drivers that know no rules, against the whole device, over either ring. Each test is a mistake
// that some balloon device has been seen to make. Rings that are wrong are in hostile_ring_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <vector>

#include "base/page_ranges.h"
#include "device/device_fixture.h"

namespace vballoon {
namespace {

using testing::balanced;
using testing::cut;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kHigh;
using testing::kPayloads;
using testing::le32;
using testing::Message;
using testing::numbers;
using ::testing::Pair;
using testing::pfn_message;
using testing::Rig;
using testing::speaking;

class HostileDriverTest : public ::testing::Test {
 protected:
  HostileDriverTest() { rig_.start(); }

  // Offers readable buffers and kicks.
  void offer(std::initializer_list<GuestBuffer> readable) {
    rig_.offer(kInflateQueue, readable);
    rig_.serve(kInflateQueue);
  }
  GuestBuffer payload(std::initializer_list<std::uint32_t> pfns) { return rig_.place(le32(pfns)); }

  Rig rig_;
};

// ---- trap 1: a chain that is skipped and never returned -----------------------------------------

TEST_F(HostileDriverTest, MessageOfMoreThan256PfnsIsServedAndReturned) {
  rig_.inflate(pfn_message(numbers(0, 900)));

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{0, 900}));
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
}

// ---- trap 2: only the head descriptor is read ---------------------------------------------------

TEST_F(HostileDriverTest, PfnsBehindTheHeadDescriptorCount) {
  rig_.inflate(cut(pfn_message({5, 7, 9}), 4));

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 1}, PageRange{7, 1}, PageRange{9, 1}));
}

TEST_F(HostileDriverTest, PfnsOfAnIndirectTableCount) {
  const std::uint64_t table = kPayloads + 0x10000;
  const std::array<GuestBuffer, 2> readable{payload({5}), payload({7})};
  ASSERT_TRUE(rig_.queue(kInflateQueue).add_indirect(readable, {}, table, 0));
  (void)rig_.queue(kInflateQueue).publish();

  rig_.serve(kInflateQueue);

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 1}, PageRange{7, 1}));
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
}

// ---- trap 3: a PFN that is read twice -----------------------------------------------------------

// Changes the payload at every step of the device that can be seen from outside: whenever it looks
// at the clock and whenever it discards.
class PayloadSwapper final : public Discarder {
 public:
  void discard(std::span<const HostRun> runs, DiscardReport& report) override {
    swap();
    for (const HostRun& run : runs) {
      pages.push_back(testing::guest_pages(run));
      report.freed_bytes += run.length;
    }
  }
  void swap() {
    if (memory == nullptr) return;
    // The first look at the clock comes before the payload is read; it must hold till then.
    if (++looks == 1) return;
    if (!memory->write(payload, le32({700, 701, 0xFFFFFFFF}))) throw std::out_of_range("payload");
  }

  const GuestMemory* memory = nullptr;
  std::uint64_t payload = 0;
  int looks = 0;
  PageRanges pages;
};

TEST(HostilePayloadTest, PfnsThatChangeAfterTheyWereReadHaveNoEffect) {
  auto owned = std::make_unique<PayloadSwapper>();
  PayloadSwapper& swapper = *owned;
  Rig rig({.device = {.clock =
                          [&swapper] {
                            swapper.swap();
                            return std::chrono::nanoseconds(0);
                          }},
           .discarder = std::move(owned)});
  rig.start().send(kInflateQueue, pfn_message({5, 6, 9}));
  swapper.payload = kPayloads;
  swapper.memory = &rig.memory();

  rig.device().process(kInflateQueue);

  EXPECT_THAT(swapper.pages, ElementsAre(PageRange{5, 2}, PageRange{9, 1}));
  EXPECT_TRUE(rig.device().is_ballooned(5));
  EXPECT_FALSE(rig.device().is_ballooned(700));
  EXPECT_THAT(rig.all_errors(), IsEmpty());
  EXPECT_GE(swapper.looks, 3);
}

TEST(HostilePayloadTest, MessageThatGivesItsOwnPayloadAwayIsServedAsItWasRead) {
  Rig rig({.discarder = make_kernel_discarder()});

  rig.start().inflate({5, kPayloads / kPageSize, 9});

  EXPECT_EQ(rig.device().ballooned_pages(), 3u);
  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_EQ(*rig.host(kPayloads / kPageSize), std::byte{0}) << "it was really given back";
}

// ---- trap 4: an abort on what the guest wrote ---------------------------------------------------

TEST_F(HostileDriverTest, PayloadOutsideGuestMemoryIsReturned) {
  offer({{testing::kHole * kPageSize, 4}});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kAddressOutOfRange, 1u)));
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
}

TEST_F(HostileDriverTest, PayloadThatComesRoundTheAddressSpaceIsReturned) {
  offer({{~std::uint64_t{3}, 16}});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kAddressOutOfRange, 1u)));
  EXPECT_THAT(rig_.discarded(), IsEmpty());
}

TEST(HostileRingTest, RangesThatReachTheEndOfTheAddressSpaceAreOutside) {
  Rig rig({.device = speaking(Dialect::kScatterGather)});

  rig.start().inflate(Message{{}, {{~std::uint64_t{0xFFF}, 0xFFFFF000}}});

  EXPECT_EQ(rig.errors(Errc::kPageOutOfRange), 0xFFFFFu);
  EXPECT_THAT(rig.discarded(), IsEmpty());
}

TEST(HostileRingTest, LargestBlocksOfABitmapAreClippedToGuestMemory) {
  Rig rig({.device = speaking(Dialect::kPageBitmap)});
  const std::uint64_t block = testing::record_head(0, 51, 0);

  rig.start().inflate(testing::bitmap_message({block, block, block}));

  EXPECT_EQ(rig.device().ballooned_pages(), 0x800u);
  EXPECT_TRUE(balanced(rig.device().metrics()));
}

// ---- a loop without end
// --------------------------------------------------------------------------

TEST(HostileFloodTest, TurnEndsWhenMuchPayloadHasBeenRead) {
  Rig rig;
  rig.start();
  // 16 chains of 4 MiB each, all of the same zeros: page 0, over and over.
  const GuestBuffer zeros{kHigh * kPageSize, 2 << 20};
  for (int i = 0; i < 16; ++i) rig.offer(kInflateQueue, std::array{zeros, zeros});

  EXPECT_TRUE(rig.device().process(kInflateQueue));
  EXPECT_EQ(rig.completed(kInflateQueue).size(), 4u);
}

// ---- trap 5: a payload that is no multiple of 4 -------------------------------------------------

TEST_F(HostileDriverTest, PayloadThatEndsWithinAPfnIsReturnedAndTheWholeOnesHold) {
  offer({{payload({5, 6, 9}).address, 11}});

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 2}));
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kPayloadNotMultiple, 1u)));
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
}

TEST_F(HostileDriverTest, PayloadOfOneByteNamesNothing) {
  offer({{payload({5}).address, 1}});

  EXPECT_THAT(rig_.discarded(), IsEmpty());
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
}

// ---- trap 6: a queue that is used after a reset without being set up again ----------------------

TEST_F(HostileDriverTest, QueueIsNotServedAfterAResetUntilItIsSetUpAgain) {
  rig_.reset();
  rig_.negotiate().write_status(Rig::kRunning);

  offer({payload({5})});

  EXPECT_THAT(rig_.discarded(), IsEmpty());
  EXPECT_THAT(rig_.completed(kInflateQueue), IsEmpty());
}

TEST_F(HostileDriverTest, QueueThatIsSetUpAgainBeginsAtItsFirstEntry) {
  offer({payload({5})});
  rig_.reset();
  rig_.start();

  offer({payload({7})});

  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_TRUE(rig_.device().is_ballooned(7));
}

// ---- trap 7: a division by a queue size of 0 ----------------------------------------------------

TEST(HostileQueueTest, QueueOfSizeZeroIsRefusedAndItsKickDoesNothing) {
  Rig rig;
  rig.negotiate();
  QueueConfig config = rig.ring_config(kInflateQueue);
  config.size = 0;

  EXPECT_FALSE(rig.set_queue(kInflateQueue, config));
  rig.write_status(Rig::kRunning);

  EXPECT_FALSE(rig.device().process(kInflateQueue));
  EXPECT_THAT(rig.all_errors(), ElementsAre(Pair(Errc::kBadQueueConfig, 1u)));
}

// ---- trap 10: duplicates in one request ---------------------------------------------------------

TEST_F(HostileDriverTest, PageNamedAThousandTimesIsDiscardedAndBookedOnce) {
  rig_.inflate(pfn_message(std::vector<std::uint32_t>(1000, 5)));

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 1}));
  EXPECT_EQ(rig_.device().ballooned_pages(), 1u);
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kPageRepeated, 999u)));
}

// ---- trap 11: a write of a read-only field ------------------------------------------------------

TEST_F(HostileDriverTest, TargetCannotBeWrittenByTheDriver) {
  ASSERT_TRUE(rig_.device().set_target_pages(10));

  rig_.write_config32(kNumPagesOffset, 0xFFFFFFFF);

  EXPECT_EQ(rig_.device().target_pages(), 10u);
  EXPECT_EQ(rig_.config32(kNumPagesOffset), 10u);
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kConfigReadOnly, 1u)));
}

// ---- trap 12: queue numbers that shift ----------------------------------------------------------

TEST_F(HostileDriverTest, QueueNumbersAreInflateAndDeflateAndNoMore) {
  rig_.inflate({5});
  rig_.deflate({5});

  EXPECT_FALSE(rig_.has_queue(2));
  EXPECT_EQ(rig_.device().metrics().inflate_messages, 1u);
  EXPECT_EQ(rig_.device().metrics().deflate_messages, 1u);
  EXPECT_FALSE(rig_.device().process(2));
}

}  // namespace
}  // namespace vballoon
