// SPDX-License-Identifier: MIT
// A back end of vhost-user from its first front end to its last (src/transport/vhost_user.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "memory/residency.h"
#include "transport/vhost_user_rig.h"
#include "vballoon/balloon_registers.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::numbers;
using testing::open_file_count;
using testing::pfn_message;
using testing::SocketPath;
using testing::TestBackEnd;
using testing::VhostUserGuest;
using testing::VhostUserSocket;
namespace vhost = testing::vhost;

// ---- front ends that come and go ---------------------------------------------------------------

// While it lives nothing can be opened. One would be the standard output; poll() takes no more.
class NoDescriptorsLeft {
 public:
  NoDescriptorsLeft() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit none{.rlim_cur = 1, .rlim_max = before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &none);
  }
  NoDescriptorsLeft(const NoDescriptorsLeft&) = delete;
  NoDescriptorsLeft& operator=(const NoDescriptorsLeft&) = delete;
  ~NoDescriptorsLeft() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

class VhostUserBackEndTest : public ::testing::Test {
 protected:
  TestBackEnd back_end_{{.features = Features{Feature::kMustTellHost, Feature::kStatsVq}}};
};

TEST_F(VhostUserBackEndTest, EmbedderHearsOfFrontEndsThatComeAndGo) {
  VhostUserGuest guest(back_end_);
  EXPECT_THAT(back_end_.connections, ElementsAre(true));

  guest.front_end().die();

  EXPECT_THAT(back_end_.connections, ElementsAre(true, false));
}

TEST_F(VhostUserBackEndTest, FrontEndThatComesWhileThereIsOneWaits) {
  VhostUserGuest guest(back_end_);
  VhostUserSocket second = VhostUserSocket::connect(back_end_.path());
  ASSERT_TRUE(second.send(vhost::kGetFeatures));
  back_end_.work();
  EXPECT_EQ(second.receive(), std::nullopt);
  guest.start().inflate({5});
  EXPECT_THAT(guest.completed(kInflateQueue), ElementsAre(0u));

  guest.front_end().die();

  EXPECT_TRUE(second.receive());
  EXPECT_THAT(back_end_.connections, ElementsAre(true, false, true));
}

TEST_F(VhostUserBackEndTest, ThoseThatWaitKeepNobodyBusy) {
  VhostUserGuest guest(back_end_);
  const VhostUserSocket second = VhostUserSocket::connect(back_end_.path());

  back_end_.work();

  EXPECT_FALSE(back_end_.has_work());
}

TEST_F(VhostUserBackEndTest, FrontEndThatCameWhenNoDescriptorWasLeftIsAcceptedLater) {
  VhostUserSocket front_end = VhostUserSocket::connect(back_end_.path());
  {
    const NoDescriptorsLeft shortage;
    back_end_.work();
  }
  ASSERT_THAT(back_end_.connections, IsEmpty());

  ASSERT_TRUE(back_end_.has_work(std::chrono::seconds(20)));
  back_end_.work();

  EXPECT_THAT(back_end_.connections, ElementsAre(true));
}

TEST_F(VhostUserBackEndTest, FrontEndThatDiesInTheMiddleOfAnInflateMakesRoomForTheNext) {
  BalloonOptions short_turns{.budget = {.pages = 100}};
  TestBackEnd back_end(short_turns);
  VhostUserGuest guest(back_end);
  guest.start().send(kInflateQueue, pfn_message(numbers(0, 1000)));
  guest.front_end().kick(kInflateQueue);
  back_end.back_end().dispatch();
  ASSERT_NE(back_end.device().ballooned_pages(), 0u);
  ASSERT_LT(back_end.device().ballooned_pages(), 1000u);

  guest.connect_anew();
  EXPECT_EQ(back_end.device().ballooned_pages(), 0u);
  guest.start().inflate({5});

  EXPECT_THAT(guest.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_EQ(back_end.device().ballooned_pages(), 1u);
}

TEST_F(VhostUserBackEndTest, WhatWasOwedIsForgoneWhenTheFrontEndGoes) {
  TestBackEnd back_end({.write_behind = true, .discards_owed = [] {}});
  VhostUserGuest guest(back_end);
  guest.memory().fill();
  guest.start().inflate({5});
  ASSERT_EQ(back_end.device().metrics().owed_bytes, kPageSize);

  guest.front_end().die();
  back_end.device().drain();

  EXPECT_EQ(back_end.device().metrics().forgone_bytes, kPageSize);
  EXPECT_TRUE(guest.memory().has_its_number(5));
}

TEST_F(VhostUserBackEndTest, NoDescriptorIsLostHoweverManyFrontEndsCome) {
  VhostUserGuest guest(back_end_);
  guest.start().inflate({5});
  const std::size_t files = open_file_count();

  for (int i = 0; i < 50; ++i) guest.connect_anew().start().inflate({5});

  EXPECT_EQ(open_file_count(), files);
}

TEST_F(VhostUserBackEndTest, FrontEndThatReadsNoRepliesLosesItsConnection) {
  VhostUserSocket socket = VhostUserSocket::connect(back_end_.path());
  for (int i = 0; i < 10'000 && socket.send(vhost::kGetFeatures); ++i) back_end_.work();

  EXPECT_THAT(back_end_.connections, ElementsAre(true, false));
}

TEST_F(VhostUserBackEndTest, TargetAndActualOutliveAFrontEnd) {
  VhostUserGuest guest(back_end_);
  ASSERT_TRUE(back_end_.device().set_target_pages(77));
  guest.start().front_end().write_config(kActualOffset, 33);

  guest.front_end().die();

  EXPECT_EQ(back_end_.device().target_pages(), 77u);
  EXPECT_EQ(back_end_.device().actual_pages(), 33u);
}

TEST_F(VhostUserBackEndTest, FrontEndLosesItsConnectionWhenTheBackEndEnds) {
  VhostUserGuest guest(back_end_);
  guest.start().memory().fill();

  back_end_.end();

  EXPECT_TRUE(guest.socket().is_closed());
  EXPECT_TRUE(guest.memory().has_its_number(5));
}

TEST_F(VhostUserBackEndTest, EmbedderMaySetTheTargetWhenMemoryComes) {
  std::unique_ptr<VhostUserBackend> back_end;
  const SocketPath path;
  back_end =
      VhostUserBackend::create(
          listen_on_unix_socket(path.str()).value(), make_kernel_discarder(), {},
          {.memory_changed =
               [&back_end] {
                 (void)back_end->device().set_target_bytes(back_end->device().memory_bytes() / 2);
               }})
          .value();
  const testing::SharedGuestMemory memory;
  testing::VhostUserFrontEnd front_end(path.str(), memory, {.let_work = [&back_end] {
                                         pollfd wait{
                                             .fd = back_end->fd(), .events = POLLIN, .revents = 0};
                                         while (poll(&wait, 1, 0) > 0) back_end->dispatch();
                                       }});

  front_end.write_features(Features{Feature::kVersion1});
  front_end.write_status(kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk);

  EXPECT_EQ(front_end.read_config(kNumPagesOffset), 0x400u);
}

// The guest answers some time; what is due by then is a matter of time alone.
TEST_F(VhostUserBackEndTest, StatisticsAreAskedForWhenTheirTimeHasCome) {
  VhostUserGuest guest(back_end_);
  guest.start().send(2, {{testing::stats_entries({{4, 1}})}});
  guest.serve(2);
  ASSERT_THAT(guest.completed(2), IsEmpty());

  back_end_.device().set_stats_interval(std::chrono::milliseconds(1));
  back_end_.work();
  ASSERT_TRUE(back_end_.has_work(std::chrono::seconds(20)));
  back_end_.work();

  EXPECT_THAT(guest.completed(2), ElementsAre(0u));
}

// ---- making one --------------------------------------------------------------------------------

class VhostUserCreationTest : public ::testing::Test {
 protected:
  int listener() { return listen_on_unix_socket(path_.str()).value(); }
  std::string error_of(BalloonOptions options) {
    const auto made =
        VhostUserBackend::create(listener(), make_kernel_discarder(), std::move(options));
    return made ? "" : made.error().message();
  }

  SocketPath path_;
};

TEST_F(VhostUserCreationTest, FeaturesWithoutAPlaceAreRefused) {
  EXPECT_THAT(error_of({.features = Features{Feature::kRingReset}}), HasSubstr("RING_RESET"));
  EXPECT_THAT(error_of({.features = Features{Feature::kNotificationData}}),
              HasSubstr("NOTIFICATION_DATA"));
  EXPECT_THAT(error_of({.features = Features{Feature::kAccessPlatform}}),
              HasSubstr("ACCESS_PLATFORM"));
}

TEST_F(VhostUserCreationTest, OptionsOfNoDeviceAreRefused) {
  EXPECT_THAT(error_of({.budget = {.pages = 0}}), HasSubstr("budget"));
}

// The bit says something else on this transport.
TEST_F(VhostUserCreationTest, BitOfProtocolFeaturesIsOfferedToTheFrontEndOnly) {
  TestBackEnd back_end;

  EXPECT_FALSE(back_end.device().offered_features().has_bit(vhost::kProtocolFeaturesBit));
}

TEST_F(VhostUserCreationTest, ListenerIsClosedThoughThisFails) {
  const std::size_t files = open_file_count();

  (void)error_of({.features = Features{Feature::kRingReset}});

  EXPECT_EQ(open_file_count(), files);
}

TEST_F(VhostUserCreationTest, BackEndThatEndsClosesAllItHad) {
  const std::size_t files = open_file_count();
  {
    TestBackEnd back_end;
    VhostUserGuest guest(back_end);
    guest.start();
  }

  EXPECT_EQ(open_file_count(), files);
}

// ---- the socket --------------------------------------------------------------------------------

TEST_F(VhostUserCreationTest, PathsThatNoSocketCanHaveAreRefused) {
  EXPECT_FALSE(listen_on_unix_socket(""));
  EXPECT_FALSE(listen_on_unix_socket(std::string(200, 'x')));
  EXPECT_FALSE(listen_on_unix_socket("/nowhere/at/all"));
}

TEST_F(VhostUserCreationTest, SocketThatIsServedIsLeftAlone) {
  const UniqueFd first(listener());

  const auto second = listen_on_unix_socket(path_.str());

  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message(), HasSubstr(path_.str()));
  EXPECT_NO_THROW((void)VhostUserSocket::connect(path_.str()));
}

TEST_F(VhostUserCreationTest, SocketThatNobodyServesIsReplaced) {
  { const UniqueFd first(listener()); }

  const UniqueFd second(listener());

  EXPECT_NO_THROW((void)VhostUserSocket::connect(path_.str()));
}

TEST_F(VhostUserCreationTest, FileThatIsNoSocketIsLeftAlone) {
  std::ofstream(path_.str()) << "important";

  EXPECT_FALSE(listen_on_unix_socket(path_.str()));

  std::string kept;
  std::ifstream(path_.str()) >> kept;
  EXPECT_EQ(kept, "important");
}

}  // namespace
}  // namespace vballoon
