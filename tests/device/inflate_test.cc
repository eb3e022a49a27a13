// SPDX-License-Identifier: MIT
// Inflate queue of BalloonDevice (src/device/balloon_device.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <system_error>
#include <vector>

#include "device/device_fixture.h"
#include "device/two_mib_pages.h"

namespace vballoon {
namespace {

using testing::balanced;
using testing::borrow_memory;
using ::testing::Contains;
using testing::cut;
using ::testing::ElementsAre;
using testing::everything_but;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kHigh;
using testing::kHole;
using testing::kPagesPerHugePage;
using testing::kPastEnd;
using testing::kTwoMib;
using testing::le32;
using testing::Message;
using testing::numbers;
using ::testing::Pair;
using testing::pfn_message;
using testing::Rig;
using ::testing::SizeIs;

class InflateTest : public ::testing::Test {
 protected:
  InflateTest() { rig_.start(); }

  BalloonMetrics metrics() { return rig_.device().metrics(); }

  Rig rig_;
};

TEST_F(InflateTest, ContiguousPfnsBecomeOneRun) {
  rig_.inflate({5, 6, 7, 9});  // 8 left out on purpose

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 3}, PageRange{9, 1}));
  EXPECT_EQ(rig_.recorded().calls(), 1u);
}

TEST_F(InflateTest, BufferComesBackWithNothingWritten) {
  rig_.inflate({5});

  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
}

TEST_F(InflateTest, PagesAreInTheBalloon) {
  rig_.inflate({5, 9});

  EXPECT_EQ(rig_.device().ballooned_pages(), 2u);
  EXPECT_TRUE(rig_.device().is_ballooned(5));
  EXPECT_FALSE(rig_.device().is_ballooned(6));
}

TEST_F(InflateTest, OrderWithinAMessageDoesNotMatter) {
  rig_.inflate({9, 7, 5, 6, 8});

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 5}));
}

TEST_F(InflateTest, MessagesThatWaitTogetherShareOneDiscard) {
  rig_.send(kInflateQueue, pfn_message({5, 6}));
  rig_.send(kInflateQueue, pfn_message({20}));
  rig_.send(kInflateQueue, pfn_message({7, 8}));

  rig_.serve(kInflateQueue);

  EXPECT_EQ(rig_.recorded().calls(), 1u);
  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 4}, PageRange{20, 1}));
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u, 0u, 0u));
}

TEST_F(InflateTest, OneInterruptAnswersAllMessagesOfATurn) {
  rig_.send(kInflateQueue, pfn_message({5}));
  rig_.send(kInflateQueue, pfn_message({6}));

  rig_.serve(kInflateQueue);

  EXPECT_EQ(rig_.interrupts(kInflateQueue), 1);
  EXPECT_EQ(rig_.interrupts(kDeflateQueue), 0);
  EXPECT_EQ(metrics().notifications, 1u);
}

TEST_F(InflateTest, DriverThatWantsNoInterruptGetsNone) {
  rig_.queue(kInflateQueue).disable_interrupts();

  rig_.inflate({5});

  EXPECT_EQ(rig_.interrupts(kInflateQueue), 0);
  EXPECT_THAT(rig_.completed(kInflateQueue), SizeIs(1));
}

TEST_F(InflateTest, InterruptMayCallTheDevice) {
  rig_.on_interrupt = [this] { rig_.reset(); };

  rig_.inflate({5});

  EXPECT_EQ(rig_.device().read_status(), 0);
}

TEST_F(InflateTest, BufferIsReturnedOnlyAfterItsDiscard) {
  // The ring is looked at from within the discard.
  class Looking final : public Discarder {
   public:
    void discard(std::span<const HostRun> runs, DiscardReport& report) override {
      returned_during_discard = rig->completed(kInflateQueue).size();
      for (const HostRun& run : runs) report.freed_bytes += run.length;
    }
    Rig* rig = nullptr;
    std::size_t returned_during_discard = 99;
  };
  auto owned = std::make_unique<Looking>();
  Looking& looking = *owned;
  Rig rig({.discarder = std::move(owned)});
  looking.rig = &rig;

  rig.start().inflate({5});

  EXPECT_EQ(looking.returned_during_discard, 0u);
  EXPECT_THAT(rig.completed(kInflateQueue), SizeIs(1));
}

TEST_F(InflateTest, MessageOverSeveralDescriptorsIsOne) {
  rig_.inflate(cut(pfn_message(numbers(0, 300)), 256));

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{0, 300}));
  EXPECT_EQ(metrics().inflate_messages, 1u);
}

TEST_F(InflateTest, PageInflatedTwiceIsCountedAndDiscardedAgain) {
  rig_.inflate({5, 6});

  rig_.inflate({6, 7});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kPageAlreadyInflated, 1u)));
  EXPECT_EQ(rig_.device().ballooned_pages(), 3u);
  EXPECT_TRUE(balanced(metrics()));
}

TEST_F(InflateTest, PageNamedTwiceInAMessageIsDiscardedOnce) {
  rig_.inflate({5, 5, 6, 5});

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 2}));
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kPageRepeated, 2u)));
  EXPECT_EQ(metrics().inflated_bytes, 2 * kPageSize);
  EXPECT_TRUE(balanced(metrics()));
}

TEST_F(InflateTest, PageNamedInTwoMessagesOfATurnIsRepeated) {
  rig_.send(kInflateQueue, pfn_message({5}));
  rig_.send(kInflateQueue, pfn_message({5}));

  rig_.serve(kInflateQueue);

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kPageRepeated, 1u)));
}

TEST_F(InflateTest, PagesInTheHoleAndPastTheEndAreCountedAndTheOthersHold) {
  rig_.inflate({kHole - 1, kHole, kHigh - 1, kHigh, kPastEnd, 0xFFFFFFFF});

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{kHole - 1, 1}, PageRange{kHigh, 1}));
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kPageOutOfRange, 4u)));
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_EQ(metrics().inflated_bytes, 2 * kPageSize);
}

TEST_F(InflateTest, EmptyMessageIsCountedAndReturned) {
  rig_.inflate(Message{{testing::Bytes{}}});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kPayloadMissing, 1u)));
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_EQ(rig_.recorded().calls(), 0u);
}

TEST_F(InflateTest, MessageWithWritableBufferHoldsAndNothingIsWritten) {
  rig_.inflate(Message{{le32({5})}, {{kPageSize, 64}}});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kUnexpectedWritable, 1u)));
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_TRUE(rig_.device().is_ballooned(5));
}

TEST(InflateFullRingTest, FullRingIsServedInOneTurn) {
  Rig rig({.queue_size = 4});
  rig.start();
  rig.send(kInflateQueue, pfn_message({1}));
  rig.send(kInflateQueue, pfn_message({2}));
  rig.send(kInflateQueue, pfn_message({3}));
  rig.send(kInflateQueue, pfn_message({4}));

  EXPECT_FALSE(rig.device().process(kInflateQueue)) << "all were taken: the ring is empty";
  EXPECT_THAT(rig.completed(kInflateQueue), SizeIs(4));
}

// Windows sends descriptors of 4096 bytes, which Linux never fills.
TEST_F(InflateTest, MessageOf4096BytesIsReadToTheEnd) {
  rig_.inflate(pfn_message(numbers(0, 1024)));

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{0, 1024}));
}

TEST_F(InflateTest, MessageBeyondOneWindowIsOneDiscard) {
  // 20000 entries: twice as many pages as there are, each named more than once.
  std::vector<std::uint32_t> pfns = numbers(0, 1000);
  for (const std::uint32_t pfn : numbers(1'000'000, 19'000)) pfns.push_back(pfn);

  rig_.inflate(pfn_message(pfns));

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{0, 1000}));
  EXPECT_EQ(rig_.errors(Errc::kPageOutOfRange), 19'000u);
}

// ---- metrics ------------------------------------------------------------------------------------

TEST_F(InflateTest, BytesAreCountedWhereTheyWent) {
  rig_.inflate({5, 6, 7});

  EXPECT_EQ(metrics().inflated_bytes, 3 * kPageSize);
  EXPECT_EQ(metrics().freed_bytes, 3 * kPageSize);
  EXPECT_EQ(metrics().discard_calls, 1u);
  EXPECT_EQ(metrics().discard_failures, 0u);
}

TEST_F(InflateTest, QueueBytesArePayloadAndDescriptors) {
  rig_.inflate(cut(pfn_message({5, 6, 7}), 8));

  EXPECT_EQ(metrics().queue_bytes, 12u + 2 * 16u);
}

TEST(InflateTimesTest, StagesAreTimesOfTheInjectedClock) {
  std::chrono::nanoseconds now{0};
  Rig rig({.device = {.clock = [&now] { return now += std::chrono::nanoseconds(1); }}});
  rig.start().inflate({5});

  const StageTimes stages = rig.device().metrics().stages;

  EXPECT_EQ(stages.discard.count(), 1);
  EXPECT_EQ(stages.translate.count(), 1);
  EXPECT_GE(stages.decode.count(), 2);
  EXPECT_EQ(now - stages.last_discard_end, std::chrono::nanoseconds(1)) << "then one more lap";
}

// ---- refused by the kernel ----------------------------------------------------------------------

TEST_F(InflateTest, RefusedPageIsOwedAndTheBufferIsReturned) {
  rig_.recorded().fail_at(rig_.host(9), EAGAIN);

  rig_.inflate({5, 9, 10});

  EXPECT_EQ(metrics().freed_bytes, kPageSize);
  EXPECT_EQ(metrics().owed_bytes, 2 * kPageSize);
  EXPECT_EQ(metrics().discard_failures, 1u);
  EXPECT_EQ(metrics().last_discard_errno, EAGAIN);
  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_TRUE(balanced(metrics()));
}

TEST_F(InflateTest, RefusedPageIsSaidInTheLog) {
  rig_.recorded().fail_at(rig_.host(9), EAGAIN);

  rig_.inflate({9});

  EXPECT_THAT(rig_.log(), ElementsAre("balloon: kernel refused to take memory back: " +
                                      std::generic_category().message(EAGAIN)));
}

TEST_F(InflateTest, RefusedPageIsSaidThoughTheGuestHasFilledItsLog) {
  rig_.recorded().fail_at(rig_.host(9), EAGAIN);
  for (int i = 0; i < 10; ++i) rig_.inflate({kPastEnd});

  rig_.inflate({9});

  EXPECT_THAT(rig_.log(), Contains(HasSubstr("kernel refused to take memory back")));
}

TEST_F(InflateTest, OwedPageThatIsInflatedAgainIsTriedAgain) {
  rig_.recorded().fail_at(rig_.host(9), EAGAIN);
  rig_.inflate({9});
  rig_.recorded().heal();

  rig_.inflate({9});

  EXPECT_EQ(metrics().owed_bytes, 0u);
  EXPECT_EQ(metrics().cancelled_bytes, kPageSize);
  EXPECT_EQ(metrics().freed_bytes, kPageSize);
  EXPECT_TRUE(balanced(metrics()));
}

TEST(InflateWithoutMustTellHostTest, RefusedPageIsForgone) {
  Rig rig({.accepted = everything_but(Feature::kMustTellHost)});
  rig.recorded().fail_at(rig.host(9), ENOMEM);

  rig.start().inflate({5, 9});

  const BalloonMetrics metrics = rig.device().metrics();
  EXPECT_EQ(metrics.forgone_bytes, kPageSize);
  EXPECT_EQ(metrics.owed_bytes, 0u);
  EXPECT_EQ(metrics.last_discard_errno, ENOMEM);
  EXPECT_TRUE(balanced(metrics));
}

// ---- host pages of 2 MiB ------------------------------------------------------------------------

class HugePageInflateTest : public ::testing::Test {
 protected:
  // Two huge pages; rings and payloads lie in ordinary memory behind a hole.
  static Rig rig(Features accepted) {
    return Rig({.accepted = accepted,
                .memory = borrow_memory(
                    {{0, 2 * kTwoMib}, {kHigh << kPageShift, 2 * kTwoMib, kPageSize}})});
  }
  static constexpr std::uint32_t kN = kPagesPerHugePage;
};

TEST_F(HugePageInflateTest, PartsOfAHugePageAreOwedAndGoWithTheMessageThatCompletesIt) {
  Rig guest = rig(everything_but(Feature::kEventIdx));
  guest.start().inflate(pfn_message(numbers(0, kN - 1)));
  ASSERT_THAT(guest.discarded(), IsEmpty());
  ASSERT_EQ(guest.device().metrics().owed_bytes, (kN - 1) * kPageSize);

  guest.inflate({kN - 1});

  EXPECT_THAT(guest.discarded(), ElementsAre(PageRange{0, kN}));
  EXPECT_EQ(guest.device().metrics().freed_bytes, kTwoMib);
  EXPECT_TRUE(balanced(guest.device().metrics()));
}

TEST_F(HugePageInflateTest, PartsOfAHugePageAreForgoneWithoutMustTellHost) {
  Rig guest = rig(everything_but(Feature::kMustTellHost));
  guest.start().inflate(pfn_message(numbers(0, kN - 1)));

  guest.inflate({kN - 1});

  EXPECT_THAT(guest.discarded(), IsEmpty());
  EXPECT_EQ(guest.device().metrics().forgone_bytes, kTwoMib);
  EXPECT_TRUE(balanced(guest.device().metrics()));
}

TEST_F(HugePageInflateTest, MessagesOfOneTurnCompleteAHugePageEvenWithoutMustTellHost) {
  Rig guest = rig(everything_but(Feature::kMustTellHost));
  guest.start();
  guest.send(kInflateQueue, pfn_message(numbers(kN, kN / 2)));
  guest.send(kInflateQueue, pfn_message(numbers(kN + kN / 2, kN / 2)));

  guest.serve(kInflateQueue);

  EXPECT_THAT(guest.discarded(), ElementsAre(PageRange{kN, kN}));
  EXPECT_EQ(guest.device().metrics().freed_bytes, kTwoMib);
}

TEST_F(HugePageInflateTest, RefusedHugePageIsOwed) {
  Rig guest = rig(everything_but(Feature::kEventIdx));
  guest.recorded().fail_at(guest.host(kN), EBUSY);

  guest.start().inflate(pfn_message(numbers(kN, kN)));

  EXPECT_EQ(guest.device().metrics().owed_bytes, kTwoMib);
  EXPECT_EQ(guest.device().metrics().discard_failures, 1u);
  EXPECT_TRUE(balanced(guest.device().metrics()));
}

// ---- the Windows driver ------------------------------------------------------------------------

// Pages 5 and 6 as that driver names them.
testing::Message wide_message() { return {{testing::le32({5, 0, 6, 0})}}; }

TEST(WidePfnsTest, DriverWithoutMustTellHostMayWrite64BitNumbers) {
  Rig rig({.accepted = everything_but(Feature::kMustTellHost)});

  rig.start().inflate(wide_message());

  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{5, 2}));
}

TEST(WidePfnsTest, DriverWithMustTellHostIsTakenAtItsWord) {
  Rig rig;

  rig.start().inflate(wide_message());

  EXPECT_TRUE(rig.device().is_ballooned(0));
}

TEST(WidePfnsTest, OptionDecidesWhateverTheDriverAccepts) {
  Rig with({.device = {.wide_pfns = true}});
  Rig without({.device = {.wide_pfns = false}, .accepted = everything_but(Feature::kMustTellHost)});

  with.start().inflate(wide_message());
  without.start().inflate(wide_message());

  EXPECT_FALSE(with.device().is_ballooned(0));
  EXPECT_TRUE(without.device().is_ballooned(0));
}

}  // namespace
}  // namespace vballoon
