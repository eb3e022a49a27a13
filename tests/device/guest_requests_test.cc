// SPDX-License-Identifier: MIT
// What is said to the guest, and when (src/device/guest_requests.cc).
#include "device/guest_requests.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>

#include "device/hint_round.h"

namespace vballoon {
namespace {

class GuestRequestsTest : public ::testing::Test {
 protected:
  void begin_walk() {
    hints_.start();
    requests_.sent(ControlCommand::kStart, hints_);
  }
  std::optional<ControlCommand> next_command() const { return requests_.next_command(hints_); }

  HintRound hints_;
  GuestRequests requests_;
};

TEST_F(GuestRequestsTest, NothingIsAskedUnasked) {
  EXPECT_FALSE(requests_.next_request(hints_));
  EXPECT_FALSE(next_command());
}

TEST_F(GuestRequestsTest, RoundOfHintsIsAskedForByItsId) {
  const std::uint32_t id = hints_.start();

  EXPECT_EQ(requests_.next_request(hints_)->command, 0);
  EXPECT_EQ(requests_.next_request(hints_)->param, id);
}

TEST_F(GuestRequestsTest, RoundBeginsWhenItHasBeenAskedFor) {
  hints_.start();

  requests_.sent(*requests_.next_request(hints_), hints_);

  EXPECT_TRUE(hints_.active());
  EXPECT_FALSE(requests_.next_request(hints_));
}

TEST_F(GuestRequestsTest, CacheDropIsAskedForByWhatIsToBeDropped) {
  requests_.drop_cache(CacheKinds::kBoth);

  EXPECT_EQ(requests_.next_request(hints_)->command, 1);
  EXPECT_EQ(requests_.next_request(hints_)->param, 3u);
}

TEST_F(GuestRequestsTest, CacheDropIsPendingUntilItIsAnswered) {
  requests_.drop_cache(CacheKinds::kPageCache);
  requests_.sent(*requests_.next_request(hints_), hints_);
  EXPECT_TRUE(requests_.cache_drop_pending());

  requests_.cache_dropped(1);

  EXPECT_FALSE(requests_.cache_drop_pending());
}

TEST_F(GuestRequestsTest, AnswerToAnotherCacheDropIsNone) {
  requests_.drop_cache(CacheKinds::kPageCache);
  requests_.sent(*requests_.next_request(hints_), hints_);

  requests_.cache_dropped(2);

  EXPECT_TRUE(requests_.cache_drop_pending());
}

TEST_F(GuestRequestsTest, SecondCacheDropWaitsForTheAnswerToTheFirst) {
  requests_.drop_cache(CacheKinds::kPageCache);
  requests_.sent(*requests_.next_request(hints_), hints_);
  requests_.drop_cache(CacheKinds::kSlab);
  EXPECT_FALSE(requests_.next_request(hints_));

  requests_.cache_dropped(1);

  EXPECT_EQ(requests_.next_request(hints_)->param, 2u);
}

TEST_F(GuestRequestsTest, StartIsSentForARoundThatWasRequested) {
  hints_.start();

  EXPECT_EQ(next_command(), ControlCommand::kStart);
}

TEST_F(GuestRequestsTest, StopIsSentToAGuestWhoseHintsAreOfNoMoreUse) {
  begin_walk();
  EXPECT_FALSE(next_command());

  hints_.stop();

  EXPECT_EQ(next_command(), ControlCommand::kStop);
}

TEST_F(GuestRequestsTest, GuestThatHasEndedNeedsNoStop) {
  begin_walk();
  requests_.walk_ended();

  hints_.stop();

  EXPECT_FALSE(next_command());
}

TEST_F(GuestRequestsTest, NewRoundWaitsForTheEndOfTheOneBefore) {
  begin_walk();
  hints_.start();
  EXPECT_EQ(next_command(), ControlCommand::kStop);

  requests_.sent(ControlCommand::kStop, hints_);
  EXPECT_FALSE(next_command()) << "the guest has not seen it";
  requests_.buffer_posted();

  EXPECT_EQ(next_command(), ControlCommand::kStart);
}

TEST_F(GuestRequestsTest, EndOfAnOldRoundIsNotThatOfANewOne) {
  begin_walk();
  requests_.walk_ended();

  begin_walk();

  EXPECT_FALSE(requests_.all_named());
}

TEST_F(GuestRequestsTest, GuestOfARestoredDeviceIsStoppedFirst) {
  requests_.restored();
  hints_.start();

  EXPECT_EQ(next_command(), ControlCommand::kStop);
}

}  // namespace
}  // namespace vballoon
