// SPDX-License-Identifier: MIT
// Drivers that know no rules, against the whole device. Each test is a mistake that some balloon
// device has been seen to make.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
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
using testing::everything_but;
using ::testing::IsEmpty;
using testing::kHigh;
using testing::kIndirect;
using testing::kNext;
using testing::kPayloads;
using testing::kRings;
using testing::kWrite;
using testing::le32;
using testing::Message;
using testing::numbers;
using ::testing::Pair;
using testing::pfn_message;
using testing::RawDescriptor;
using testing::RawRing;
using testing::RawUsed;
using testing::Rig;
using testing::speaking;

constexpr std::uint16_t kSize = 64;  // of the rig's queues

// Offers the chain at descriptor 0 again and again.
void offer_times(RawRing& ring, int times) {
  for (int i = 0; i < times; ++i) ring.offer(0);
}

class HostileDriverTest : public ::testing::Test {
 protected:
  HostileDriverTest() { rig_.start(); }

  // Offers the chain that begins at descriptor 0 and kicks.
  void offer() {
    ring_.offer(0);
    rig_.serve(kInflateQueue);
  }
  void offer(const RawDescriptor& descriptor) {
    ring_.describe(0, descriptor);
    offer();
  }
  // What the driver sees returned.
  std::vector<RawUsed> returned() const {
    std::vector<RawUsed> all;
    for (std::uint16_t i = 0; i != ring_.used_index(); ++i) all.push_back(ring_.used(i));
    return all;
  }
  RawDescriptor payload(std::initializer_list<std::uint32_t> pfns, std::uint16_t flags = 0,
                        std::uint16_t next = 0) {
    const GuestBuffer buffer = rig_.place(le32(pfns));
    return {buffer.address, buffer.length, flags, next};
  }
  bool needs_reset() { return (rig_.device().read_status() & kStatusNeedsReset) != 0; }

  Rig rig_;
  RawRing ring_ = rig_.raw(kInflateQueue);
};

// ---- trap 1: a chain that is skipped and never returned -----------------------------------------

TEST_F(HostileDriverTest, MessageOfMoreThan256PfnsIsServedAndReturned) {
  rig_.inflate(pfn_message(numbers(0, 900)));

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{0, 900}));
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
}

TEST_F(HostileDriverTest, MalformedChainIsReturnedAndTheNextOneServed) {
  ring_.describe(0, {kPayloads, 8, kNext, 0});  // a loop of one
  ring_.offer(0);
  ring_.offer(1, payload({5}));

  rig_.serve(kInflateQueue);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}, RawUsed{1, 0}));
  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 1}));
}

// ---- trap 2: only the head descriptor is read ---------------------------------------------------

TEST_F(HostileDriverTest, PfnsBehindTheHeadDescriptorCount) {
  rig_.inflate(cut(pfn_message({5, 7, 9}), 4));

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 1}, PageRange{7, 1}, PageRange{9, 1}));
}

TEST_F(HostileDriverTest, PfnsOfAnIndirectTableCount) {
  const std::uint64_t table = kPayloads + 0x10000;
  ring_.describe_at(table, 0, payload({5}, kNext, 1));
  ring_.describe_at(table, 1, payload({7}));

  offer({table, 32, kIndirect, 0});

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 1}, PageRange{7, 1}));
  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
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

TEST_F(HostileDriverTest, AvailIndexThatRunsAheadNeedsAReset) {
  ring_.set_avail_index(kSize + 1);

  rig_.serve(kInflateQueue);

  EXPECT_TRUE(needs_reset());
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kAvailIndexOutOfRange, 1u)));
  EXPECT_EQ(rig_.config_interrupts(), 1);
}

TEST_F(HostileDriverTest, HeadOutsideTheTableNeedsAReset) {
  ring_.offer(kSize);

  rig_.serve(kInflateQueue);

  EXPECT_TRUE(needs_reset());
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kDescriptorIndexOutOfRange, 1u)));
}

TEST_F(HostileDriverTest, ChainsInFrontOfTheBrokenOneAreServedAndReturned) {
  ring_.offer(0, payload({5}));
  ring_.offer(kSize);

  rig_.serve(kInflateQueue);

  EXPECT_TRUE(needs_reset());
  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 1}));
  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(HostileDriverTest, ConfigInterruptOfABrokenRingMayResetTheDevice) {
  rig_.on_config_interrupt = [this] { rig_.reset(); };

  ring_.set_avail_index(kSize + 1);
  rig_.serve(kInflateQueue);

  EXPECT_EQ(rig_.device().read_status(), 0);
}

TEST_F(HostileDriverTest, DeviceThatNeedsAResetServesNoQueue) {
  ring_.offer(kSize);
  rig_.serve(kInflateQueue);

  rig_.deflate({5});

  EXPECT_THAT(rig_.completed(kDeflateQueue), IsEmpty());
  EXPECT_EQ(rig_.config_interrupts(), 1);
}

TEST_F(HostileDriverTest, DeviceThatNeedsAResetServesAgainAfterIt) {
  ring_.offer(kSize);
  rig_.serve(kInflateQueue);
  rig_.reset();

  rig_.start().inflate({5});

  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
}

TEST_F(HostileDriverTest, NextIndexOutsideTheTableIsReturned) {
  offer({kPayloads, 4, kNext, kSize});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kDescriptorIndexOutOfRange, 1u)));
  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
  EXPECT_FALSE(needs_reset());
}

TEST_F(HostileDriverTest, LoopIsReturned) {
  ring_.describe(1, {kPayloads, 4, kNext, 0});

  offer({kPayloads, 4, kNext, 1});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kDescriptorLoop, 1u)));
  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(HostileDriverTest, ReadableBehindWritableIsReturned) {
  ring_.describe(1, payload({5}));

  offer({kPayloads, 4, kNext | kWrite, 1});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kReadableAfterWritable, 1u)));
  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(HostileDriverTest, ChainBeyond4GibIsReturned) {
  ring_.describe(1, {kPayloads, 0xFFFFFFFF, 0, 0});

  offer({kPayloads, 0xFFFFFFFF, kNext, 1});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kChainTooLarge, 1u)));
  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(HostileDriverTest, PayloadOutsideGuestMemoryIsReturned) {
  offer({testing::kHole * kPageSize, 4, 0, 0});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kAddressOutOfRange, 1u)));
  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(HostileDriverTest, PayloadThatComesRoundTheAddressSpaceIsReturned) {
  offer({~std::uint64_t{3}, 16, 0, 0});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kAddressOutOfRange, 1u)));
  EXPECT_THAT(rig_.discarded(), IsEmpty());
}

TEST_F(HostileDriverTest, EmptyIndirectTableIsReturned) {
  offer({kPayloads, 0, kIndirect, 0});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kBadIndirectTable, 1u)));
  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST(HostileNegotiationTest, IndirectTableWithoutTheFeatureIsReturned) {
  Rig rig({.accepted = everything_but(Feature::kIndirectDesc)});
  rig.start();
  RawRing ring = rig.raw(kInflateQueue);
  ring.offer(0, {kPayloads, 16, kIndirect, 0});

  rig.serve(kInflateQueue);

  EXPECT_THAT(rig.all_errors(), ElementsAre(Pair(Errc::kIndirectNotNegotiated, 1u)));
  EXPECT_EQ(ring.used_index(), 1);
}

TEST_F(HostileDriverTest, SameHeadOverAndOverIsServedEachTime) {
  ring_.describe(0, payload({5}));
  offer_times(ring_, kSize);

  rig_.serve(kInflateQueue);

  EXPECT_EQ(ring_.used_index(), kSize);
  EXPECT_EQ(rig_.errors(Errc::kPageRepeated), kSize - 1u);
}

TEST(HostileRingTest, DriverThatGivesItsOwnRingsAwayNeedsAReset) {
  Rig rig({.discarder = make_kernel_discarder()});
  rig.start().send(kInflateQueue, pfn_message(numbers(kRings / kPageSize, 8)));

  rig.serve(kInflateQueue);

  EXPECT_EQ(rig.device().read_status(), Rig::kRunning | kStatusNeedsReset)
      << "the available index fell back to 0";
  EXPECT_TRUE(balanced(rig.device().metrics()));
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

// ---- a loop without end, and a log without end --------------------------------------------------

TEST(HostileFloodTest, DriverThatOffersMoreForEachMalformedChainCannotHoldTheThread) {
  std::chrono::nanoseconds now{0};
  Rig rig({.device = {.clock = [&now] { return now += std::chrono::seconds(1); }}});
  rig.start();
  RawRing ring = rig.raw(kInflateQueue);
  ring.describe(0, {kPayloads, 8, kNext, 0});
  rig.on_log = [&ring] { ring.offer(0); };  // every second there is one line, and a second passes
  ring.offer(0);

  const bool more = rig.device().process(kInflateQueue);

  EXPECT_TRUE(more);
  EXPECT_EQ(rig.errors(Errc::kDescriptorLoop), kSize);
}

TEST(HostileFloodTest, TurnEndsWhenMuchPayloadHasBeenRead) {
  Rig rig;
  rig.start();
  RawRing ring = rig.raw(kInflateQueue);
  // 16 chains of 4 MiB each, all of the same zeros: page 0, over and over.
  ring.describe(0, {kHigh * kPageSize, 2 << 20, kNext, 1});
  ring.describe(1, {kHigh * kPageSize, 2 << 20, 0, 0});
  offer_times(ring, 16);

  EXPECT_TRUE(rig.device().process(kInflateQueue));
  EXPECT_EQ(ring.used_index(), 4);
}

TEST_F(HostileDriverTest, FloodOfMistakesIsCountedInFullAndLoggedInAFewLines) {
  ring_.describe(0, {kPayloads, 8, kNext, 0});
  offer_times(ring_, 60);

  rig_.serve(kInflateQueue);

  EXPECT_EQ(rig_.errors(Errc::kDescriptorLoop), 60u);
  EXPECT_LE(rig_.log().size(), 8u) << "four lines a second, and the second may have turned once";
}

// ---- trap 5: a payload that is no multiple of 4 -------------------------------------------------

TEST_F(HostileDriverTest, PayloadThatEndsWithinAPfnIsReturnedAndTheWholeOnesHold) {
  RawDescriptor descriptor = payload({5, 6, 9});
  descriptor.length = 11;

  offer(descriptor);

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 2}));
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kPayloadNotMultiple, 1u)));
  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(HostileDriverTest, PayloadOfOneByteNamesNothing) {
  RawDescriptor descriptor = payload({5});
  descriptor.length = 1;

  offer(descriptor);

  EXPECT_THAT(rig_.discarded(), IsEmpty());
  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

// ---- trap 6: a queue that is used after a reset without being set up again ----------------------

TEST_F(HostileDriverTest, QueueIsNotServedAfterAResetUntilItIsSetUpAgain) {
  rig_.reset();
  rig_.negotiate().device().write_status(Rig::kRunning);

  offer(payload({5}));

  EXPECT_THAT(rig_.discarded(), IsEmpty());
  EXPECT_EQ(ring_.used_index(), 0);
}

TEST_F(HostileDriverTest, QueueThatIsSetUpAgainBeginsAtItsFirstEntry) {
  offer(payload({5}));
  rig_.reset();
  rig_.start();

  offer(payload({7}));

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
  EXPECT_TRUE(rig_.device().is_ballooned(7));
}

// ---- trap 7: a division by a queue size of 0 ----------------------------------------------------

TEST(HostileQueueTest, QueueOfSizeZeroIsRefusedAndItsKickDoesNothing) {
  Rig rig;
  rig.negotiate();
  QueueConfig config = rig.ring_config(kInflateQueue);
  config.size = 0;

  EXPECT_FALSE(rig.device().set_queue(kInflateQueue, config));
  rig.device().write_status(Rig::kRunning);

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

  EXPECT_FALSE(rig_.device().has_queue(2));
  EXPECT_EQ(rig_.device().metrics().inflate_messages, 1u);
  EXPECT_EQ(rig_.device().metrics().deflate_messages, 1u);
  EXPECT_FALSE(rig_.device().process(2));
}

}  // namespace
}  // namespace vballoon
