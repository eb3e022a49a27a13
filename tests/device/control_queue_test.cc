// SPDX-License-Identifier: MIT
// The control queue of scatter-gather and its queue for free pages (src/device/serve_requests.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "device/device_fixture.h"
#include "wire/guest_request.h"
#include "wire/little_endian.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using testing::Rig;
using ::testing::SizeIs;

constexpr std::uint16_t kControlQueue = 2;
constexpr std::uint16_t kFreePageQueue = 3;
constexpr std::uint64_t kBuffer = testing::kPayloads - 0x10000;

class ControlQueueTest : public ::testing::Test {
 protected:
  ControlQueueTest() { rig_.start(); }

  void post_buffer(std::uint32_t length = static_cast<std::uint32_t>(kControlBytes)) {
    const GuestBuffer buffer{kBuffer, length};
    rig_.offer(kControlQueue, {}, std::span(&buffer, 1));
    serve();
  }
  ControlMessage command() const {
    std::array<std::byte, kControlBytes> bytes;
    EXPECT_TRUE(rig_.memory().read(kBuffer, bytes));
    return read_control(bytes);
  }
  void say(std::uint32_t of_class, std::uint32_t command) {
    std::vector<std::byte> bytes(kControlBytes);
    store_le(bytes.data(), of_class);
    store_le(bytes.data() + 4, command);
    rig_.send(kControlQueue, {{bytes}});
    serve();
  }
  void say_stop() { say(0, 0); }
  // Not kicked: the control queue's turn finds it.
  void name(PageRange pages) {
    rig_.send(kFreePageQueue,
              {{}, {{pages.first * kPageSize, static_cast<std::uint32_t>(pages.bytes())}}});
  }
  void serve() { rig_.serve(kControlQueue); }
  void start_round() {
    ASSERT_TRUE(rig_.device().start_hints());
    serve();
  }
  HintState state() { return rig_.device().hint_status().state; }

  std::vector<PageRange> hinted_;
  Rig rig_{{.device = {.dialect = Dialect::kScatterGather,
                       .guest_requests = true,
                       .features = Features{Feature::kMustTellHost},
                       .on_free_page_hints = [this](std::span<const PageRange> pages) {
                         hinted_.insert(hinted_.end(), pages.begin(), pages.end());
                       }}}};
};

TEST_F(ControlQueueTest, StartIsWrittenIntoThePostedBuffer) {
  post_buffer();

  start_round();

  EXPECT_THAT(rig_.completed(kControlQueue), ElementsAre(8));
  EXPECT_EQ(command().of_class, 0u);
  EXPECT_EQ(command().command, 1u);
  EXPECT_EQ(state(), HintState::kActive);
}

TEST_F(ControlQueueTest, FreePagesAreHandedOverAndReturned) {
  post_buffer();
  start_round();

  name({0x10, 4});
  rig_.serve(kFreePageQueue);

  EXPECT_THAT(hinted_, ElementsAre(PageRange{0x10, 4}));
  EXPECT_THAT(rig_.completed(kFreePageQueue), ElementsAre(0));
  EXPECT_THAT(rig_.discarded(), IsEmpty());
}

TEST_F(ControlQueueTest, FreePagesBeforeTheGuestWasAskedAreOfNoRound) {
  post_buffer();
  name({0x10, 4});

  start_round();

  EXPECT_THAT(hinted_, IsEmpty());
  EXPECT_THAT(rig_.completed(kFreePageQueue), SizeIs(1));
}

TEST_F(ControlQueueTest, FreePagesBeforeTheGuestsStopAreOfTheRound) {
  post_buffer();
  start_round();
  name({0x10, 4});

  say_stop();

  EXPECT_THAT(hinted_, ElementsAre(PageRange{0x10, 4}));
  EXPECT_EQ(state(), HintState::kExhausted);
}

TEST_F(ControlQueueTest, GuestIsToldWhenHintsAreOfNoMoreUse) {
  post_buffer();
  start_round();
  post_buffer();

  rig_.device().stop_hints();
  serve();

  EXPECT_EQ(command().command, 0u);
  EXPECT_THAT(rig_.completed(kControlQueue), ElementsAre(8, 8));
}

TEST_F(ControlQueueTest, FreePagesAfterTheHostsStopAreDropped) {
  post_buffer();
  start_round();
  rig_.device().stop_hints();

  name({0x10, 4});
  rig_.serve(kFreePageQueue);

  EXPECT_THAT(hinted_, IsEmpty());
}

TEST_F(ControlQueueTest, NewRoundTakesNothingOfTheOneBefore) {
  post_buffer();
  start_round();
  post_buffer();
  start_round();
  EXPECT_EQ(command().command, 0u) << "the guest is to end the first one";
  name({0x10, 4});

  post_buffer();

  EXPECT_EQ(command().command, 1u);
  EXPECT_THAT(hinted_, IsEmpty());
  EXPECT_EQ(state(), HintState::kActive);
}

TEST_F(ControlQueueTest, UnknownClassIsCounted) {
  say(1, 0);

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kBadMessageHeader, 1u)));
}

TEST_F(ControlQueueTest, StartOfTheGuestIsCounted) {
  say(0, 1);

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kBadMessageHeader, 1u)));
}

TEST_F(ControlQueueTest, ShortCommandIsCounted) {
  rig_.send(kControlQueue, {{std::vector<std::byte>(7)}});
  serve();

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kBadMessageHeader, 1u)));
  EXPECT_THAT(rig_.completed(kControlQueue), ElementsAre(0));
}

TEST_F(ControlQueueTest, BufferThatIsTooSmallIsReturnedAndCounted) {
  post_buffer(7);

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kBadRequestBuffer, 1u)));
}

TEST_F(ControlQueueTest, UnalignedFreePagesAreCounted) {
  post_buffer();
  start_round();

  rig_.send(kFreePageQueue, {{}, {{0x10001, 4096}}});
  rig_.serve(kFreePageQueue);

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kUnalignedRange, 1u)));
}

TEST_F(ControlQueueTest, CachesCannotBeDroppedThisWay) {
  EXPECT_EQ(rig_.device().request_cache_drop(CacheKinds::kBoth).error().code, Errc::kNotSupported);
}

TEST_F(ControlQueueTest, HeldBufferIsTakenAgainByARestoredDevice) {
  post_buffer();
  const auto saved = rig_.save();

  rig_.replace_device();
  ASSERT_TRUE(rig_.restore(saved));
  start_round();

  EXPECT_THAT(rig_.completed(kControlQueue), ElementsAre(8));
}

// A buffer in front of a message that was answered cannot be taken again, and nothing be written
// into it: the guest gets it back, and has posted another one. It is told to stop, as nobody knows
// whether it names pages just now.
TEST_F(ControlQueueTest, BufferThatIsLostByAMigrationGoesBackToTheGuest) {
  post_buffer();
  start_round();
  post_buffer();
  say_stop();
  post_buffer();
  (void)rig_.completed(kControlQueue);
  const auto saved = rig_.save();

  rig_.replace_device();
  ASSERT_TRUE(rig_.restore(saved));
  serve();

  EXPECT_THAT(rig_.completed(kControlQueue), ElementsAre(0, 8));
  EXPECT_EQ(command().command, 0u);
}

// Found by guest_requests_fuzz: a buffer that was given back too early was not published.
TEST_F(ControlQueueTest, RestoredDeviceCanBeSavedBeforeItWasServed) {
  post_buffer();
  start_round();
  post_buffer();
  say_stop();
  post_buffer();
  (void)rig_.completed(kControlQueue);
  const auto saved = rig_.save();
  rig_.replace_device();
  ASSERT_TRUE(rig_.restore(saved));

  const auto again = rig_.save();

  rig_.replace_device();
  ASSERT_TRUE(rig_.restore(again));
  serve();
  EXPECT_THAT(rig_.completed(kControlQueue), ElementsAre(0, 8));
}

}  // namespace
}  // namespace vballoon
