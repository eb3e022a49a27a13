// SPDX-License-Identifier: MIT
// Rings that no driver would write, against the whole device: what each kind of ring can be made to
// say, and what comes of it. Messages that are wrong whatever the ring are in
// hostile_driver_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <vector>

#include "device/device_fixture.h"

namespace vballoon {
namespace {

using testing::balanced;
using ::testing::ElementsAre;
using testing::everything_but;
using ::testing::IsEmpty;
using testing::kIndirect;
using testing::kNext;
using testing::kPayloads;
using testing::kRings;
using testing::kWrite;
using testing::le32;
using testing::numbers;
using ::testing::Pair;
using testing::pfn_message;
using testing::RawDescriptor;
using testing::RawPackedDescriptor;
using testing::RawPackedRing;
using testing::RawRing;
using testing::RawUsed;
using testing::Rig;

constexpr std::uint16_t kSize = 64;  // of the rig's queues

class HostileRingTest : public ::testing::Test {
 protected:
  explicit HostileRingTest(bool packed) : rig_({.packed = packed}) { rig_.start(); }

  bool needs_reset() { return (rig_.device().read_status() & kStatusNeedsReset) != 0; }

  Rig rig_;
};

class HostileSplitRingTest : public HostileRingTest {
 protected:
  HostileSplitRingTest() : HostileRingTest(false) {}

  // Offers the chain that begins at descriptor 0 and kicks.
  void offer() {
    ring_.offer(0);
    rig_.serve(kInflateQueue);
  }
  void offer(const RawDescriptor& descriptor) {
    ring_.describe(0, descriptor);
    offer();
  }
  // Offers the chain at descriptor 0 again and again.
  void offer_times(int times) {
    for (int i = 0; i < times; ++i) ring_.offer(0);
  }
  // What the driver sees returned.
  std::vector<RawUsed> returned() const {
    std::vector<RawUsed> all;
    for (std::uint16_t i = 0; i != ring_.used_index(); ++i) all.push_back(ring_.used(i));
    return all;
  }
  RawDescriptor payload(std::initializer_list<std::uint32_t> pfns) {
    const GuestBuffer buffer = rig_.place(le32(pfns));
    return {buffer.address, buffer.length, 0, 0};
  }

  RawRing ring_ = rig_.raw_split(kInflateQueue);
};

class HostilePackedRingTest : public HostileRingTest {
 protected:
  HostilePackedRingTest() : HostileRingTest(true) {}

  void append(std::uint16_t id, std::uint64_t address, std::uint32_t length,
              std::uint16_t flags = 0) {
    ring_.append({address, length, id, flags});
  }
  void append_payload(std::uint16_t id, std::initializer_list<std::uint32_t> pfns) {
    const GuestBuffer buffer = rig_.place(le32(pfns));
    append(id, buffer.address, buffer.length);
  }
  // Whether the entry was given back, in the first round and with nothing written.
  bool is_returned(std::uint16_t index, std::uint16_t id) const {
    const RawPackedDescriptor used = ring_.read(index);
    return testing::is_used_at({index, true}, used) && used.id == id && used.length == 0;
  }

  RawPackedRing ring_ = rig_.raw_packed(kInflateQueue);
};

// ---- split: a chain that is malformed is returned
// ------------------------------------------------

TEST_F(HostileSplitRingTest, MalformedChainIsReturnedAndTheNextOneServed) {
  ring_.describe(0, {kPayloads, 8, kNext, 0});  // a loop of one
  ring_.offer(0);
  ring_.offer(1, payload({5}));

  rig_.serve(kInflateQueue);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}, RawUsed{1, 0}));
  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 1}));
}

TEST_F(HostileSplitRingTest, NextIndexOutsideTheTableIsReturned) {
  offer({kPayloads, 4, kNext, kSize});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kDescriptorIndexOutOfRange, 1u)));
  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
  EXPECT_FALSE(needs_reset());
}

TEST_F(HostileSplitRingTest, LoopIsReturned) {
  ring_.describe(1, {kPayloads, 4, kNext, 0});

  offer({kPayloads, 4, kNext, 1});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kDescriptorLoop, 1u)));
  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(HostileSplitRingTest, ReadableBehindWritableIsReturned) {
  ring_.describe(1, payload({5}));

  offer({kPayloads, 4, kNext | kWrite, 1});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kReadableAfterWritable, 1u)));
  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(HostileSplitRingTest, ChainBeyond4GibIsReturned) {
  ring_.describe(1, {kPayloads, 0xFFFFFFFF, 0, 0});

  offer({kPayloads, 0xFFFFFFFF, kNext, 1});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kChainTooLarge, 1u)));
  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(HostileSplitRingTest, EmptyIndirectTableIsReturned) {
  offer({kPayloads, 0, kIndirect, 0});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kBadIndirectTable, 1u)));
  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST(HostileSplitNegotiationTest, IndirectTableWithoutTheFeatureIsReturned) {
  Rig rig({.accepted = everything_but(Feature::kIndirectDesc), .packed = false});
  rig.start();
  RawRing ring = rig.raw_split(kInflateQueue);
  ring.offer(0, {kPayloads, 16, kIndirect, 0});

  rig.serve(kInflateQueue);

  EXPECT_THAT(rig.all_errors(), ElementsAre(Pair(Errc::kIndirectNotNegotiated, 1u)));
  EXPECT_EQ(ring.used_index(), 1);
}

TEST_F(HostileSplitRingTest, SameHeadOverAndOverIsServedEachTime) {
  ring_.describe(0, payload({5}));
  offer_times(kSize);

  rig_.serve(kInflateQueue);

  EXPECT_EQ(ring_.used_index(), kSize);
  EXPECT_EQ(rig_.errors(Errc::kPageRepeated), kSize - 1u);
}

// ---- split: a ring that cannot be gone on with
// ----------------------------------------------------

TEST_F(HostileSplitRingTest, AvailIndexThatRunsAheadNeedsAReset) {
  ring_.set_avail_index(kSize + 1);

  rig_.serve(kInflateQueue);

  EXPECT_TRUE(needs_reset());
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kAvailIndexOutOfRange, 1u)));
  EXPECT_EQ(rig_.config_interrupts(), 1);
}

TEST_F(HostileSplitRingTest, HeadOutsideTheTableNeedsAReset) {
  ring_.offer(kSize);

  rig_.serve(kInflateQueue);

  EXPECT_TRUE(needs_reset());
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kDescriptorIndexOutOfRange, 1u)));
}

TEST_F(HostileSplitRingTest, ChainsInFrontOfTheBrokenOneAreServedAndReturned) {
  ring_.offer(0, payload({5}));
  ring_.offer(kSize);

  rig_.serve(kInflateQueue);

  EXPECT_TRUE(needs_reset());
  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 1}));
  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(HostileSplitRingTest, ConfigInterruptOfABrokenRingMayResetTheDevice) {
  rig_.on_config_interrupt = [this] { rig_.reset(); };

  ring_.set_avail_index(kSize + 1);
  rig_.serve(kInflateQueue);

  EXPECT_EQ(rig_.device().read_status(), 0);
}

TEST_F(HostileSplitRingTest, DeviceThatNeedsAResetServesNoQueue) {
  ring_.offer(kSize);
  rig_.serve(kInflateQueue);

  rig_.deflate({5});

  EXPECT_THAT(rig_.completed(kDeflateQueue), IsEmpty());
  EXPECT_EQ(rig_.config_interrupts(), 1);
}

TEST_F(HostileSplitRingTest, DeviceThatNeedsAResetServesAgainAfterIt) {
  ring_.offer(kSize);
  rig_.serve(kInflateQueue);
  rig_.reset();

  rig_.start().inflate({5});

  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
}

TEST(GivenAwayRingTest, SplitRingThatTheDriverGaveAwayNeedsAReset) {
  Rig rig({.packed = false, .discarder = make_kernel_discarder()});
  rig.start().send(kInflateQueue, pfn_message(numbers(kRings / kPageSize, 8)));

  rig.serve(kInflateQueue);

  EXPECT_EQ(rig.device().read_status(), Rig::kRunning | kStatusNeedsReset)
      << "the available index fell back to 0";
  EXPECT_TRUE(balanced(rig.device().metrics()));
}

// ---- split: a loop without end, and a log without end
// ----------------------------------------------

TEST(HostileSplitFloodTest, DriverThatOffersMoreForEachMalformedChainCannotHoldTheThread) {
  std::chrono::nanoseconds now{0};
  Rig rig(
      {.device = {.clock = [&now] { return now += std::chrono::seconds(1); }}, .packed = false});
  rig.start();
  RawRing ring = rig.raw_split(kInflateQueue);
  ring.describe(0, {kPayloads, 8, kNext, 0});
  rig.on_log = [&ring] { ring.offer(0); };  // every second there is one line, and a second passes
  ring.offer(0);

  const bool more = rig.device().process(kInflateQueue);

  EXPECT_TRUE(more);
  EXPECT_EQ(rig.errors(Errc::kDescriptorLoop), kSize);
}

TEST_F(HostileSplitRingTest, FloodOfMistakesIsCountedInFullAndLoggedInAFewLines) {
  ring_.describe(0, {kPayloads, 8, kNext, 0});
  offer_times(60);

  rig_.serve(kInflateQueue);

  EXPECT_EQ(rig_.errors(Errc::kDescriptorLoop), 60u);
  EXPECT_LE(rig_.log().size(), 8u) << "four lines a second, and the second may have turned once";
}

// ---- packed -------------------------------------------------------------------------------------

TEST_F(HostilePackedRingTest, ListThatFillsTheRingAndGoesOnIsReturnedAndNoReset) {
  for (std::uint16_t i = 0; i < kSize; ++i) append(i, kPayloads, 4, kNext);

  rig_.serve(kInflateQueue);

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kDescriptorLoop, 1u)));
  EXPECT_TRUE(is_returned(0, kSize - 1));
  EXPECT_FALSE(needs_reset());
}

TEST_F(HostilePackedRingTest, ListThatGoesOnWhereNothingIsAvailableIsReturned) {
  append(7, kPayloads, 4, kNext);

  rig_.serve(kInflateQueue);

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kDescriptorIndexOutOfRange, 1u)));
  EXPECT_TRUE(is_returned(0, 7));
  EXPECT_THAT(rig_.discarded(), IsEmpty());
}

TEST_F(HostilePackedRingTest, MalformedListIsReturnedAndTheNextOneServed) {
  append(0, kPayloads, 4, kNext | kWrite);
  append(1, kPayloads, 4);  // readable behind writable
  append_payload(2, {5});

  rig_.serve(kInflateQueue);

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kReadableAfterWritable, 1u)));
  EXPECT_TRUE(is_returned(0, 1));
  EXPECT_TRUE(is_returned(2, 2));
  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 1}));
}

TEST_F(HostilePackedRingTest, ListBeyond4GibIsReturned) {
  append(0, kPayloads, 0xFFFFFFFF, kNext);
  append(1, kPayloads, 0xFFFFFFFF);

  rig_.serve(kInflateQueue);

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kChainTooLarge, 1u)));
  EXPECT_TRUE(is_returned(0, 1));
}

TEST_F(HostilePackedRingTest, EmptyIndirectTableIsReturned) {
  append(3, kPayloads, 0, kIndirect);

  rig_.serve(kInflateQueue);

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kBadIndirectTable, 1u)));
  EXPECT_TRUE(is_returned(0, 3));
}

TEST_F(HostilePackedRingTest, TableBehindADescriptorIsReturned) {
  append(0, kPayloads, 4, kNext);
  append(1, kPayloads, 16, kIndirect);

  rig_.serve(kInflateQueue);

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kBadIndirectTable, 1u)));
  EXPECT_TRUE(is_returned(0, 1));
}

TEST_F(HostilePackedRingTest, IdsThatAreAllTheSameComeBackAsOftenAsTheyWereGiven) {
  for (int i = 0; i < kSize; ++i) append_payload(0xFFFF, {5});

  rig_.serve(kInflateQueue);

  EXPECT_TRUE(is_returned(0, 0xFFFF));
  EXPECT_TRUE(is_returned(kSize - 1, 0xFFFF));
  EXPECT_EQ(rig_.errors(Errc::kPageRepeated), kSize - 1u);
}

// The driver writes over entries that it has not got back.
TEST(HostilePackedFloodTest, DriverThatOffersMoreForEachMalformedListCannotHoldTheThread) {
  std::chrono::nanoseconds now{0};
  Rig rig({.device = {.clock = [&now] { return now += std::chrono::seconds(1); }}, .packed = true});
  rig.start();
  RawPackedRing ring = rig.raw_packed(kInflateQueue);
  const RawPackedDescriptor empty_table{kPayloads, 0, 0, kIndirect};
  rig.on_log = [&] { ring.append(empty_table); };  // as above
  ring.append(empty_table);

  (void)rig.device().process(kInflateQueue);

  EXPECT_EQ(rig.errors(Errc::kBadIndirectTable), kSize);
}

TEST(GivenAwayRingTest, PackedRingThatTheDriverGaveAwayIsEmpty) {
  Rig rig({.packed = true, .discarder = make_kernel_discarder()});
  rig.start().send(kInflateQueue, pfn_message(numbers(kRings / kPageSize, 8)));

  rig.serve(kInflateQueue);

  EXPECT_EQ(rig.device().read_status(), Rig::kRunning) << "zeros are no entry that is available";
  EXPECT_TRUE(balanced(rig.device().metrics()));
}

}  // namespace
}  // namespace vballoon
