// SPDX-License-Identifier: MIT
// Rings that begin, stop and go on, and how both sides hear of each other
// (src/transport/vhost_user_rings.cc).
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <vector>

#include "ring/raw_ring.h"
#include "transport/vhost_user_rig.h"
#include "vballoon/balloon_registers.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::numbers;
using testing::pfn_message;
using testing::TestBackEnd;
using testing::VhostUserGuest;
namespace vhost = testing::vhost;

class VhostUserRingsTest : public ::testing::Test {
 protected:
  static BalloonOptions options() {
    return {.features = Features{Feature::kMustTellHost, Feature::kRingPacked}};
  }
  static std::uint64_t take(int fd) {
    std::uint64_t value = 0;
    return read(fd, &value, sizeof(value)) == sizeof(value) ? value : 0;
  }
  static void write_to(int fd, std::uint64_t value = 1) {
    ASSERT_EQ(write(fd, &value, sizeof(value)), static_cast<ssize_t>(sizeof(value)));
  }

  TestBackEnd back_end_{options()};
  VhostUserGuest guest_{back_end_};
};

// ---- beginning ---------------------------------------------------------------------------------

TEST_F(VhostUserRingsTest, MessageIsServedAfterAKickAndTheDriverIsCalled) {
  guest_.start();

  guest_.inflate({5});

  EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_TRUE(guest_.front_end().take_call(kInflateQueue));
  EXPECT_FALSE(guest_.front_end().take_call(kInflateQueue)) << "once";
  EXPECT_FALSE(guest_.front_end().take_call(kDeflateQueue));
}

TEST_F(VhostUserRingsTest, RingIsNotTouchedBeforeItsFirstKick) {
  guest_.start().send(kInflateQueue, pfn_message({5}));

  back_end_.work();

  EXPECT_THAT(guest_.completed(kInflateQueue), IsEmpty());
}

TEST_F(VhostUserRingsTest, KickBeforeTheRingIsEnabledCountsWhenItIs) {
  guest_.start();
  guest_.front_end().enable_ring(kInflateQueue, false);
  guest_.inflate({5});
  EXPECT_THAT(guest_.completed(kInflateQueue), IsEmpty());

  guest_.front_end().enable_ring(kInflateQueue, true);

  EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u));
}

TEST_F(VhostUserRingsTest, DisabledRingIsNotServedAndGoesOnWhereItStood) {
  guest_.start().inflate({5});
  guest_.front_end().enable_ring(kInflateQueue, false);
  guest_.inflate({6});
  EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u));

  guest_.front_end().enable_ring(kInflateQueue, true);
  guest_.inflate({7});

  EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u, 0u));
  EXPECT_EQ(back_end_.device().ballooned_pages(), 3u);
}

TEST_F(VhostUserRingsTest, MessageInItsMiddleIsAnsweredWhenItsRingIsDisabled) {
  BalloonOptions short_turns = options();
  short_turns.budget = {.pages = 100};
  TestBackEnd back_end(short_turns);
  VhostUserGuest guest(back_end);
  guest.start().send(kInflateQueue, pfn_message(numbers(0, 1000)));
  guest.front_end().kick(kInflateQueue);
  back_end.back_end().dispatch();
  ASSERT_THAT(guest.completed(kInflateQueue), IsEmpty());

  guest.front_end().enable_ring(kInflateQueue, false);

  EXPECT_THAT(guest.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_EQ(back_end.device().ballooned_pages(), 1000u);
}

TEST_F(VhostUserRingsTest, PipeServesAsKick) {
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  guest_.start().send(kInflateQueue, pfn_message({5}));
  guest_.front_end().tell(vhost::kSetVringKick, vhost::u64(kInflateQueue), read_end.get());

  write_to(write_end.get());
  back_end_.work();

  EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u));
}

TEST_F(VhostUserRingsTest, KickDescriptorThatIsReplacedIsHeardNoMore) {
  guest_.start();
  const UniqueFd old(dup(guest_.front_end().kick_fd(kInflateQueue)));
  const UniqueFd other(eventfd(0, EFD_CLOEXEC));
  guest_.front_end().tell(vhost::kSetVringKick, vhost::u64(kInflateQueue), other.get());
  guest_.send(kInflateQueue, pfn_message({5}));

  write_to(old.get());
  EXPECT_FALSE(back_end_.has_work());
  write_to(other.get());
  back_end_.work();

  EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u));
}

// ---- calls -------------------------------------------------------------------------------------

TEST_F(VhostUserRingsTest, CallThroughAPipeIsEightBytes) {
  guest_.start().inflate({5});

  std::array<std::byte, 64> bytes;
  EXPECT_EQ(read(guest_.front_end().call_fd(kInflateQueue), bytes.data(), bytes.size()), 8);
}

TEST_F(VhostUserRingsTest, FullCallPipeStopsNobody) {
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);  // blocking, as it comes
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  guest_.start().front_end().tell(vhost::kSetVringCall, vhost::u64(kInflateQueue), write_end.get());
  const std::vector<std::byte> much(1 << 20);
  ASSERT_GT(write(write_end.get(), much.data(), much.size()), 0);  // not blocking any more

  guest_.inflate({5});

  EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u));
}

TEST_F(VhostUserRingsTest, CallPipeThatNobodyReadsAnyMoreStopsNobody) {
  guest_.start();
  {
    std::array<int, 2> ends{};
    ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    const UniqueFd read_end(ends[0]);
    const UniqueFd write_end(ends[1]);
    guest_.front_end().tell(vhost::kSetVringCall, vhost::u64(kInflateQueue), write_end.get());
  }

  guest_.inflate({5});

  EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u));
}

// What was used before may have been told to nobody.
TEST_F(VhostUserRingsTest, NewCallDescriptorIsCalledAtOnce) {
  const UniqueFd call(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  guest_.start().inflate({5});

  guest_.front_end().tell(vhost::kSetVringCall, vhost::u64(kInflateQueue), call.get());

  EXPECT_EQ(take(call.get()), 1u);
}

TEST_F(VhostUserRingsTest, WithoutACallDescriptorTheDriverIsNotCalled) {
  guest_.start().front_end().tell(vhost::kSetVringCall, vhost::u64(vhost::kNoFd | kInflateQueue));

  guest_.inflate({5});

  EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_FALSE(guest_.front_end().take_call(kInflateQueue));
}

// ---- in-band -----------------------------------------------------------------------------------

class VhostUserInbandTest : public ::testing::Test {
 protected:
  TestBackEnd back_end_;
  VhostUserGuest inband_{
      back_end_,
      {.front_end = {.protocol_features = vhost::kPlainProtocolFeatures | vhost::kInband},
       .packed = false}};
};

TEST_F(VhostUserInbandTest, KickIsAcknowledgedAfterItWasServed) {
  inband_.start().send(kInflateQueue, pfn_message({5}));

  // Only as far as the answer.
  ASSERT_TRUE(inband_.socket().send(vhost::kVringKick, vhost::state(kInflateQueue, 0), {},
                                    vhost::kVersion | vhost::kNeedReply));
  back_end_.back_end().dispatch();

  EXPECT_TRUE(inband_.socket().receive());
  EXPECT_THAT(inband_.completed(kInflateQueue), ElementsAre(0u));
}

TEST_F(VhostUserInbandTest, DriverIsCalledByAMessage) {
  inband_.start().inflate({5});

  EXPECT_TRUE(inband_.front_end().take_call(kInflateQueue));
  EXPECT_FALSE(inband_.front_end().take_call(kDeflateQueue));
}

TEST_F(VhostUserInbandTest, KickOfARingThatIsNotEnabledCountsWhenItIs) {
  inband_.start().front_end().enable_ring(kInflateQueue, false);
  inband_.inflate({5});
  EXPECT_THAT(inband_.completed(kInflateQueue), IsEmpty());

  inband_.front_end().enable_ring(kInflateQueue, true);

  EXPECT_THAT(inband_.completed(kInflateQueue), ElementsAre(0u));
}

// ---- stopping ----------------------------------------------------------------------------------

TEST_F(VhostUserRingsTest, StoppedRingSaysWhereItStands) {
  guest_.start().inflate({5});
  guest_.inflate({6});

  const std::uint32_t base = guest_.front_end().stop_ring(kInflateQueue);

  EXPECT_EQ(base, guest_.ring_config(kInflateQueue).packed ? 0x8002'8002 : 2u);
}

TEST_F(VhostUserRingsTest, RingThatNeverRanStandsAtItsBeginning) {
  guest_.start();

  const std::uint32_t base = guest_.front_end().stop_ring(kInflateQueue);

  EXPECT_EQ(base, guest_.ring_config(kInflateQueue).packed ? vhost::kFreshPacked : 0u);
}

TEST_F(VhostUserRingsTest, StoppedRingGoesOnThereWithoutAKick) {
  guest_.start().inflate({5});
  const std::uint32_t base = guest_.front_end().stop_ring(kInflateQueue);
  guest_.send(kInflateQueue, pfn_message({6}));

  guest_.front_end().start_ring(kInflateQueue, guest_.ring_config(kInflateQueue), base);

  EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u, 0u));
  EXPECT_EQ(back_end_.device().ballooned_pages(), 2u);
}

TEST_F(VhostUserRingsTest, KickOfAStoppedRingIsForWhoeverHasItNow) {
  guest_.start().inflate({5});
  (void)guest_.front_end().stop_ring(kInflateQueue);
  const UniqueFd kick(dup(guest_.front_end().kick_fd(kInflateQueue)));

  write_to(kick.get(), 7);
  back_end_.work();

  EXPECT_EQ(take(kick.get()), 7u) << "it is still there";
}

// Features are accepted again, and the same: the guest was stopped and goes on.
TEST_F(VhostUserRingsTest, BalloonIsKeptWhileAllRingsStand) {
  guest_.start().inflate({5});
  const std::uint32_t inflate = guest_.front_end().stop_ring(kInflateQueue);
  const std::uint32_t deflate = guest_.front_end().stop_ring(kDeflateQueue);

  guest_.negotiate_again();
  guest_.front_end().start_ring(kInflateQueue, guest_.ring_config(kInflateQueue), inflate);
  guest_.front_end().start_ring(kDeflateQueue, guest_.ring_config(kDeflateQueue), deflate);
  guest_.deflate({5});

  EXPECT_THAT(guest_.completed(kDeflateQueue), ElementsAre(0u));
  EXPECT_EQ(back_end_.device().metrics().deflated_bytes, kPageSize) << "it was in the balloon";
}

// A guest that was started again: other hypervisors stop rings for that in the same way.
TEST_F(VhostUserRingsTest, DriverThatBeginsItsRingsAnewFindsAnEmptyBalloon) {
  BalloonOptions behind = options();
  behind.write_behind = true;
  behind.discards_owed = [] {};
  TestBackEnd back_end(behind);
  VhostUserGuest guest(back_end);
  guest.memory().fill();
  guest.start().inflate({5});
  (void)guest.front_end().stop_ring(kInflateQueue);
  (void)guest.front_end().stop_ring(kDeflateQueue);

  guest.negotiate_again().set_up_rings();
  back_end.device().drain();
  guest.inflate({6});

  EXPECT_TRUE(guest.memory().has_its_number(5)) << "the new driver may have it in use";
  EXPECT_FALSE(back_end.device().is_ballooned(5));
  EXPECT_THAT(guest.completed(kInflateQueue), ElementsAre(0u));
}

// user-mode-linux unbinds a driver so, and binds another one.
TEST_F(VhostUserRingsTest, DriverThatComesAfterDisabledRingsFindsAnEmptyBalloon) {
  guest_.start().inflate({5});
  guest_.front_end().write_status(0);

  guest_.start().inflate({6});

  EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_FALSE(back_end_.device().is_ballooned(5));
  EXPECT_TRUE(back_end_.device().is_ballooned(6));
}

TEST(VhostUserRings, AreEnabledWithoutTheBitOfProtocolFeatures) {
  TestBackEnd back_end;
  VhostUserGuest guest(
      back_end,
      {.front_end = {.protocol_features = 0, .protocol_features_bit = false}, .packed = false});

  guest.start().inflate({5});

  EXPECT_THAT(guest.completed(kInflateQueue), ElementsAre(0u));
}

TEST(VhostUserRings, AnotherBackEndGoesOnInALaterRoundOfTheRing) {
  BalloonOptions options;
  options.features = options.features.with(Feature::kRingPacked);
  TestBackEnd back_end(options);
  TestBackEnd other(options);
  VhostUserGuest guest(back_end, {.queue_size = 4});
  guest.start();
  for (std::uint32_t pfn = 0; pfn < 6; ++pfn) {
    guest.inflate({pfn});
    ASSERT_THAT(guest.completed(kInflateQueue), ElementsAre(0u));
  }
  const std::uint32_t base = guest.front_end().stop_ring(kInflateQueue);
  guest.send(kInflateQueue, pfn_message({6}));

  guest.move_to(other).negotiate();
  guest.front_end().start_ring(kInflateQueue, guest.ring_config(kInflateQueue), base);

  EXPECT_THAT(guest.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_TRUE(other.device().is_ballooned(6));
}

// The place is that of a ring that has not begun, but for the wrap counters.
TEST(VhostUserRings, AnotherBackEndGoesOnInAPackedRingThatHasGoneRoundOnce) {
  BalloonOptions options;
  options.features = options.features.with(Feature::kRingPacked);
  TestBackEnd back_end(options);
  TestBackEnd other(options);
  VhostUserGuest guest(back_end, {.packed = true, .queue_size = 4});
  guest.start();
  for (std::uint32_t pfn = 0; pfn < 4; ++pfn) guest.inflate({pfn});
  EXPECT_EQ(guest.completed(kInflateQueue).size(), 4u);
  const std::uint32_t base = guest.front_end().stop_ring(kInflateQueue);
  ASSERT_EQ(base, 0u);
  guest.send(kInflateQueue, pfn_message({6}));

  guest.move_to(other).negotiate();
  guest.front_end().start_ring(kInflateQueue, guest.ring_config(kInflateQueue), base);

  EXPECT_THAT(guest.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_TRUE(other.device().is_ballooned(6));
}

// ---- failures ----------------------------------------------------------------------------------

class VhostUserBrokenRingTest : public ::testing::Test {
 protected:
  // An available index that ran away.
  void break_ring() {
    testing::RawRing(guest_.memory().guest(), guest_.ring_config(kInflateQueue))
        .set_avail_index(0x1000);
    guest_.serve(kInflateQueue);
  }
  void report_failures_to(int fd) {
    guest_.front_end().tell(vhost::kSetVringErr, vhost::u64(kInflateQueue), fd);
  }

  TestBackEnd back_end_;
  VhostUserGuest guest_{back_end_, {.packed = false}};
};

TEST_F(VhostUserBrokenRingTest, IsReportedByItsDescriptorForFailures) {
  const UniqueFd failures(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  guest_.start();
  report_failures_to(failures.get());

  break_ring();

  std::uint64_t count = 0;
  EXPECT_EQ(read(failures.get(), &count, sizeof(count)), static_cast<ssize_t>(sizeof(count)));
  EXPECT_NE(back_end_.device().read_status() & kStatusNeedsReset, 0);
}

TEST_F(VhostUserBrokenRingTest, ReportsThatAreKicksComeToAnEnd) {
  guest_.start();
  report_failures_to(guest_.front_end().kick_fd(kInflateQueue));

  EXPECT_NO_THROW(break_ring());
}

TEST_F(VhostUserBrokenRingTest, ReportsOfARingOutsideMemoryThatAreKicksComeToAnEnd) {
  guest_.start();
  report_failures_to(guest_.front_end().kick_fd(kInflateQueue));
  guest_.front_end().share({testing::SharedGuestMemory::kLow});

  EXPECT_NO_THROW(guest_.serve(kInflateQueue));
}

TEST_F(VhostUserBrokenRingTest, NextDriverHasRingsThatWorkAfterTheyWereAskedWhereTheyStand) {
  guest_.start();
  break_ring();
  (void)guest_.front_end().stop_ring(kInflateQueue);
  (void)guest_.front_end().stop_ring(kDeflateQueue);

  guest_.negotiate_again().set_up_rings().inflate({5});

  EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u));
}

TEST_F(VhostUserBrokenRingTest, NextDriverHasRingsThatWork) {
  guest_.start();
  break_ring();
  guest_.front_end().write_status(0);

  guest_.start().inflate({5});

  EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u));
}

}  // namespace
}  // namespace vballoon
