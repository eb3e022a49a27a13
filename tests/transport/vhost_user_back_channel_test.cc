// SPDX-License-Identifier: MIT
// What the back end says over its own channel (src/transport/vhost_user_session.cc).
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <vector>

#include "base/unique_fd.h"
#include "transport/vhost_user_rig.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using testing::TestBackEnd;
using testing::VhostUserGuest;
using namespace std::chrono_literals;
namespace vhost = testing::vhost;
using vhost::Message;

class VhostUserBackChannelTest : public ::testing::Test {
 protected:
  VhostUserBackChannelTest() { guest_.start(); }

  TestBackEnd back_end_;
  VhostUserGuest guest_{back_end_, {.packed = false}};
};

TEST_F(VhostUserBackChannelTest, VHU_D_03_ConfigurationChangeHasTheFlags1AndNoPayload) {
  ASSERT_TRUE(back_end_.device().set_target_pages(5));
  back_end_.work();

  EXPECT_THAT(guest_.front_end().take_messages(),
              ElementsAre(Message{vhost::kConfigChange, vhost::kVersion, {}}));
}

// It has not kicked anything: there was nothing to do.
TEST_F(VhostUserBackChannelTest, TargetReachesADriverThatHasNotKicked) {
  ASSERT_TRUE(back_end_.device().set_target_pages(5));
  back_end_.work();

  EXPECT_EQ(guest_.front_end().take_config_changes(), 1);
}

TEST_F(VhostUserBackChannelTest, SeveralChangesAtOnceAreSaidOnce) {
  ASSERT_TRUE(back_end_.device().set_target_pages(5));
  ASSERT_TRUE(back_end_.device().set_target_pages(6));
  back_end_.work();

  EXPECT_EQ(guest_.front_end().take_config_changes(), 1);
}

// A front end that does not read stops nobody, and hears of the change when it does.
TEST_F(VhostUserBackChannelTest, FullChannelIsSaidTheRestWhenThereIsRoom) {
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  guest_.front_end().tell(vhost::kSetBackendReqFd, {}, write_end.get());
  const std::vector<std::byte> much(4096);
  while (write(write_end.get(), much.data(), much.size()) > 0) {
  }
  ASSERT_TRUE(back_end_.device().set_target_pages(5));
  back_end_.work();

  std::vector<std::byte> taken(1 << 20);
  ASSERT_GT(read(read_end.get(), taken.data(), taken.size()), 0);
  back_end_.work();

  EXPECT_EQ(testing::read_message(read_end.get()),
            (Message{vhost::kConfigChange, vhost::kVersion, {}}));
}

TEST_F(VhostUserBackChannelTest, ChannelThatNobodyReadsAnyMoreIsGivenUp) {
  {
    std::array<int, 2> ends{};
    ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    const UniqueFd read_end(ends[0]);
    const UniqueFd write_end(ends[1]);
    guest_.front_end().tell(vhost::kSetBackendReqFd, {}, write_end.get());
  }

  ASSERT_TRUE(back_end_.device().set_target_pages(5));
  back_end_.work();

  guest_.inflate({5});
  EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u));
}

TEST(VhostUserInbandCalls, VHU_D_03_CallHasTheFlags1AndTheNumberOfTheQueue) {
  TestBackEnd back_end;
  VhostUserGuest guest(back_end, {.front_end = {.protocol_features = vhost::kPlainProtocolFeatures |
                                                                     vhost::kInband}});
  guest.start();

  guest.deflate({5});

  EXPECT_THAT(guest.front_end().take_messages(),
              ElementsAre(Message{vhost::kVringCall, vhost::kVersion, vhost::state(1, 0)}));
}

// ---- changes that may come together with calls -------------------------------------------------

// Linux forgets a change that it takes from the channel together with a call.
class VhostUserInbandChangeTest : public ::testing::Test {
 protected:
  void change_target() {
    guest_.start();
    ASSERT_TRUE(back_end_.device().set_target_pages(5));
    back_end_.work();
    ASSERT_EQ(guest_.front_end().take_config_changes(), 1);
  }
  // If it was said again when that much more time had passed.
  bool said_after(std::chrono::milliseconds pause) {
    now_ += pause;
    back_end_.back_end().dispatch();
    return guest_.front_end().take_config_changes() != 0;
  }

  std::chrono::milliseconds now_{};
  TestBackEnd back_end_{{.clock = [this] { return now_; }}};
  VhostUserGuest guest_{
      back_end_,
      {.front_end = {.protocol_features = vhost::kPlainProtocolFeatures | vhost::kInband}}};
};

TEST_F(VhostUserInbandChangeTest, IsSaidAgainFiveTimesEachTimeAfterTwiceAsLong) {
  change_target();

  for (std::chrono::milliseconds pause = 100ms; pause <= 1600ms; pause *= 2) {
    EXPECT_FALSE(said_after(pause - 1ms));
    EXPECT_TRUE(said_after(1ms));
  }
  EXPECT_FALSE(said_after(1h));
}

TEST_F(VhostUserInbandChangeTest, IsSaidAgainWithoutAnythingElseThatWakesTheBackEnd) {
  change_target();
  ASSERT_FALSE(back_end_.has_work());

  EXPECT_TRUE(back_end_.has_work(20s));
}

// It may have done so for the change before.
TEST_F(VhostUserInbandChangeTest, IsSaidAgainToADriverThatHasReadItsConfiguration) {
  change_target();

  ASSERT_EQ(guest_.front_end().read_config(0), 5u);

  EXPECT_TRUE(said_after(100ms));
}

// A change that has the channel for itself cannot come together with a call.
TEST_F(VhostUserBackChannelTest, WithoutInbandCallsAChangeIsSaidOnce) {
  ASSERT_TRUE(back_end_.device().set_target_pages(5));
  back_end_.work();
  ASSERT_EQ(guest_.front_end().take_config_changes(), 1);

  EXPECT_FALSE(back_end_.has_work(300ms));
}

}  // namespace
}  // namespace vballoon
