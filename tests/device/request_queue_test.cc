// SPDX-License-Identifier: MIT
// The request queue of the page bitmap (src/device/serve_requests.cc, ask_guest.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "device/device_fixture.h"
#include "wire/guest_request.h"
#include "wire/little_endian.h"
#include "wire/page_bitmap.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using testing::Rig;
using ::testing::SizeIs;

constexpr std::uint16_t kRequestQueue = 3;
constexpr std::uint64_t kBuffer = testing::kPayloads - 0x10000;

class RequestQueueTest : public ::testing::Test {
 protected:
  RequestQueueTest() { rig_.start(); }

  void post_buffer(std::uint64_t address = kBuffer,
                   std::uint32_t length = static_cast<std::uint32_t>(kRequestBytes)) {
    const GuestBuffer buffer{address, length};
    rig_.offer(kRequestQueue, {}, std::span(&buffer, 1));
    serve();
  }
  // What the device wrote into the buffer.
  GuestRequest request() const {
    std::array<std::byte, kRequestBytes> bytes;
    EXPECT_TRUE(rig_.memory().read(kBuffer, bytes));
    return read_request(bytes);
  }
  // An answer that names these blocks of 4 MiB.
  void answer(RequestCommand command, std::uint32_t id, bool last, std::vector<Pfn> blocks = {}) {
    std::vector<std::byte> header(kAnswerHeaderBytes);
    std::vector<std::byte> data(blocks.size() * 8);
    write_answer_header(std::span(header).first<kAnswerHeaderBytes>(),
                        {.command = static_cast<std::uint8_t>(command),
                         .last = last,
                         .id = static_cast<std::uint16_t>(id),
                         .data_bytes = static_cast<std::uint32_t>(data.size())});
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      store_le(data.data() + i * 8, block_record(blocks[i], 8));
    }
    testing::Message message{{header}};
    if (!data.empty()) message.pieces.push_back(data);
    rig_.send(kRequestQueue, message);
    serve();
  }
  void serve() { rig_.serve(kRequestQueue); }
  // A round that the guest has been asked for.
  std::uint32_t ask() {
    post_buffer();
    const std::uint32_t id = rig_.device().start_hints().value();
    serve();
    return id;
  }
  HintState state() { return rig_.device().hint_status().state; }

  std::vector<PageRange> hinted_;
  Rig rig_{{.device = {.dialect = Dialect::kPageBitmap,
                       .guest_requests = true,
                       .features = Features{Feature::kMustTellHost, Feature::kStatsVq},
                       .on_free_page_hints = [this](std::span<const PageRange> pages) {
                         hinted_.insert(hinted_.end(), pages.begin(), pages.end());
                       }}}};
};

TEST_F(RequestQueueTest, BufferIsHeldUntilThereIsSomethingToAsk) {
  post_buffer();

  EXPECT_THAT(rig_.completed(kRequestQueue), IsEmpty());
}

TEST_F(RequestQueueTest, GuestIsAskedForUnusedPagesByTheIdOfTheRound) {
  const std::uint32_t id = ask();

  EXPECT_THAT(rig_.completed(kRequestQueue), ElementsAre(16));
  EXPECT_EQ(request().command, 0);
  EXPECT_EQ(request().param, id);
  EXPECT_EQ(state(), HintState::kActive);
}

TEST_F(RequestQueueTest, DeviceWantsTheQueueServedWhenItHasSomethingToAsk) {
  ASSERT_TRUE(rig_.device().start_hints());

  EXPECT_THAT(rig_.woken(), ElementsAre(kRequestQueue));
}

TEST_F(RequestQueueTest, RequestWaitsForABuffer) {
  ASSERT_TRUE(rig_.device().start_hints());
  serve();
  EXPECT_EQ(state(), HintState::kRequested);

  post_buffer();

  EXPECT_EQ(state(), HintState::kActive);
}

TEST_F(RequestQueueTest, PagesOfAnAnswerAreHandedOver) {
  const std::uint32_t id = ask();

  answer(RequestCommand::kUnusedPages, id, false, {0x100, 0x800});

  EXPECT_THAT(hinted_, ElementsAre(PageRange{0x100, 0x100}, PageRange{0x800, 0x100}));
  EXPECT_EQ(rig_.device().metrics().hinted_bytes, 0x200 * kPageSize);
  EXPECT_EQ(state(), HintState::kActive);
}

TEST_F(RequestQueueTest, UnusedPagesAreNotDiscarded) {
  const std::uint32_t id = ask();

  answer(RequestCommand::kUnusedPages, id, false, {0x100});

  EXPECT_THAT(rig_.discarded(), IsEmpty());
}

TEST_F(RequestQueueTest, LastAnswerEndsTheRound) {
  const std::uint32_t id = ask();

  answer(RequestCommand::kUnusedPages, id, true, {0x100});

  EXPECT_THAT(hinted_, ElementsAre(PageRange{0x100, 0x100})) << "its own pages are of the round";
  EXPECT_EQ(state(), HintState::kExhausted);
}

TEST_F(RequestQueueTest, LastAnswerNeedsNoPages) {
  const std::uint32_t id = ask();

  answer(RequestCommand::kUnusedPages, id, true);

  EXPECT_EQ(state(), HintState::kExhausted);
  EXPECT_THAT(rig_.all_errors(), IsEmpty());
}

TEST_F(RequestQueueTest, AnswerToAnOlderRequestIsDroppedAndReturned) {
  const std::uint32_t old = ask();
  (void)rig_.completed(kRequestQueue);
  ask();

  answer(RequestCommand::kUnusedPages, old, true, {0x100});

  EXPECT_THAT(hinted_, IsEmpty());
  EXPECT_EQ(state(), HintState::kActive);
  EXPECT_THAT(rig_.completed(kRequestQueue), ElementsAre(16, 0));
}

TEST_F(RequestQueueTest, AnswerAfterTheHostsStopIsDropped) {
  const std::uint32_t id = ask();
  rig_.device().stop_hints();

  answer(RequestCommand::kUnusedPages, id, true, {0x100});

  EXPECT_THAT(hinted_, IsEmpty());
  EXPECT_EQ(state(), HintState::kStopped);
}

TEST_F(RequestQueueTest, ConfigurationIsNotTouchedByARound) {
  ask();

  EXPECT_EQ(rig_.config_interrupts(), 0);
}

TEST_F(RequestQueueTest, GuestIsAskedToDropItsCaches) {
  post_buffer();

  ASSERT_TRUE(rig_.device().request_cache_drop(CacheKinds::kPageCache));
  serve();

  EXPECT_EQ(request().command, 1);
  EXPECT_EQ(request().param, 1u);
  EXPECT_TRUE(rig_.device().cache_drop_pending());
}

TEST_F(RequestQueueTest, AnswerEndsTheCacheDrop) {
  post_buffer();
  ASSERT_TRUE(rig_.device().request_cache_drop(CacheKinds::kBoth));
  serve();

  answer(RequestCommand::kDropCache, 3, true);

  EXPECT_FALSE(rig_.device().cache_drop_pending());
}

TEST_F(RequestQueueTest, ResetForgetsWhatWasAsked) {
  ASSERT_TRUE(rig_.device().request_cache_drop(CacheKinds::kBoth));
  ASSERT_TRUE(rig_.device().start_hints());

  rig_.reset();

  EXPECT_FALSE(rig_.device().cache_drop_pending());
  EXPECT_EQ(state(), HintState::kStopped);
}

TEST_F(RequestQueueTest, WithoutADriverThatRunsNothingCanBeAsked) {
  rig_.reset();

  EXPECT_EQ(rig_.device().request_cache_drop(CacheKinds::kBoth).error().code, Errc::kNotSupported);
  EXPECT_EQ(rig_.device().start_hints().error().code, Errc::kNotSupported);
}

// ---- a driver that knows no rules ---------------------------------------------------------------

TEST_F(RequestQueueTest, BufferThatIsTooSmallIsReturnedAndCounted) {
  post_buffer(kBuffer, 15);

  EXPECT_THAT(rig_.completed(kRequestQueue), ElementsAre(0));
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kBadRequestBuffer, 1u)));
}

TEST_F(RequestQueueTest, FifthBufferIsReturnedAndCounted) {
  for (int i = 0; i < 5; ++i) post_buffer();

  EXPECT_THAT(rig_.completed(kRequestQueue), ElementsAre(0));
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kBadRequestBuffer, 1u)));
}

TEST_F(RequestQueueTest, BufferOutsideMemoryIsReturnedAndTheNextOneTaken) {
  post_buffer();
  post_buffer(testing::kHole * kPageSize);

  ASSERT_TRUE(rig_.device().start_hints());
  serve();

  EXPECT_THAT(rig_.completed(kRequestQueue), ElementsAre(0, 16));
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kAddressOutOfRange, 1u)));
}

TEST_F(RequestQueueTest, BufferThatComesRoundToTheStartOfMemoryIsReturned) {
  post_buffer(~std::uint64_t{0} - 7);

  ASSERT_TRUE(rig_.device().start_hints());
  serve();

  EXPECT_THAT(rig_.completed(kRequestQueue), ElementsAre(0));
  EXPECT_EQ(rig_.errors(Errc::kAddressOutOfRange), 1u);
}

// Found by guest_requests_fuzz: with a buffer held behind them, the room of as many messages as the
// queue has entries did not come back.
TEST_F(RequestQueueTest, BufferBehindAFullRingOfMessagesLeavesRoomForMore) {
  for (int i = 0; i < 63; ++i) rig_.send(kRequestQueue, {{std::vector<std::byte>(8)}});
  post_buffer();
  EXPECT_THAT(rig_.completed(kRequestQueue), SizeIs(63));

  for (int i = 0; i < 63; ++i) rig_.send(kRequestQueue, {{std::vector<std::byte>(8)}});
  serve();

  EXPECT_THAT(rig_.completed(kRequestQueue), SizeIs(63));
  EXPECT_EQ(rig_.device().metrics().hint_messages, 127u) << "each counts once";
}

TEST_F(RequestQueueTest, AnswerShorterThanItsHeaderIsCounted) {
  ask();
  (void)rig_.completed(kRequestQueue);

  rig_.send(kRequestQueue, {{std::vector<std::byte>(7)}});
  serve();

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kBadMessageHeader, 1u)));
  EXPECT_THAT(rig_.completed(kRequestQueue), ElementsAre(0));
}

TEST_F(RequestQueueTest, UnknownAnswerIsCounted) {
  answer(static_cast<RequestCommand>(9), 2, true);

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kBadMessageHeader, 1u)));
}

TEST_F(RequestQueueTest, PagesOutsideMemoryAreNotHandedOver) {
  const std::uint32_t id = ask();

  answer(RequestCommand::kUnusedPages, id, false, {testing::kHole});

  EXPECT_THAT(hinted_, IsEmpty());
  EXPECT_EQ(rig_.errors(Errc::kPageOutOfRange), 0x100u);
}

TEST_F(RequestQueueTest, DropThatNobodyAskedForChangesNothing) {
  ASSERT_TRUE(rig_.device().request_cache_drop(CacheKinds::kBoth));

  answer(RequestCommand::kDropCache, 3, true);

  EXPECT_TRUE(rig_.device().cache_drop_pending()) << "it has not been sent";
}

// ---- another device goes on ---------------------------------------------------------------------

TEST_F(RequestQueueTest, HeldBufferIsTakenAgainByARestoredDevice) {
  post_buffer();
  const auto state = rig_.save();

  rig_.replace_device();
  ASSERT_TRUE(rig_.restore(state));
  ASSERT_TRUE(rig_.device().start_hints());
  serve();

  EXPECT_THAT(rig_.completed(kRequestQueue), ElementsAre(16));
}

TEST_F(RequestQueueTest, SavedDeviceThatGoesOnTakesTheBufferAgain) {
  post_buffer();
  (void)rig_.save();

  ASSERT_TRUE(rig_.device().request_cache_drop(CacheKinds::kBoth));
  serve();

  EXPECT_THAT(rig_.completed(kRequestQueue), ElementsAre(16));
}

TEST_F(RequestQueueTest, RoundIsNotSaved) {
  const std::uint32_t id = ask();
  const auto saved = rig_.save();

  rig_.replace_device();
  ASSERT_TRUE(rig_.restore(saved));
  answer(RequestCommand::kUnusedPages, id, true, {0x100});

  EXPECT_EQ(state(), HintState::kStopped);
  EXPECT_THAT(hinted_, IsEmpty());
}

// With the same bits on offer.
TEST_F(RequestQueueTest, StateOfADeviceWithoutTheQueueIsRefused) {
  testing::Rig other({.device = {.dialect = Dialect::kPageBitmap,
                                 .features = Features{Feature::kMustTellHost, Feature::kStatsVq,
                                                      Feature::kPagePoison}}});
  rig_.reset();

  EXPECT_EQ(rig_.restore(other.save()).error().code, Errc::kBadSavedState);
}

// ---- what is offered ----------------------------------------------------------------------------

Error creation_error(const BalloonOptions& options) {
  return BalloonDevice::create(testing::memory_with_hole(),
                               std::make_unique<testing::RecordingDiscarder>(), options)
      .error();
}

TEST(DeviceCreationTest, RequestsHaveTheBitOfTheirAuthors) {
  const auto device = BalloonDevice::create(
      testing::memory_with_hole(), std::make_unique<testing::RecordingDiscarder>(),
      {.dialect = Dialect::kScatterGather, .guest_requests = true, .features = Features()});

  EXPECT_EQ((*device)->offered_features().bits() & 0xFF, 0b11000u);
}

TEST(DeviceCreationTest, RequestsCanBeMovedToAnotherBit) {
  const auto device = BalloonDevice::create(testing::memory_with_hole(),
                                            std::make_unique<testing::RecordingDiscarder>(),
                                            {.dialect = Dialect::kScatterGather,
                                             .guest_requests = true,
                                             .guest_requests_bit = 50,
                                             .features = Features{Feature::kPagePoison}});

  EXPECT_TRUE((*device)->offered_features().has_bit(50));
}

TEST(DeviceCreationTest, RequestsAreRefusedInADialectWithoutTheQueues) {
  EXPECT_THAT(creation_error({.dialect = Dialect::kPageChunks, .guest_requests = true}).message(),
              ::testing::HasSubstr("of the page bitmap and of scatter-gather only"));
}

TEST(DeviceCreationTest, RequestsAreRefusedBesideFreePageHints) {
  EXPECT_THAT(creation_error({.dialect = Dialect::kScatterGather,
                              .dialect_bit = 50,
                              .guest_requests = true,
                              .features = Features{Feature::kFreePageHint},
                              .on_free_page_hints = [](std::span<const PageRange>) {}})
                  .message(),
              ::testing::HasSubstr("not by both"));
}

TEST(DeviceCreationTest, RequestQueueIsRefusedWithoutStatistics) {
  EXPECT_THAT(creation_error({.dialect = Dialect::kPageBitmap, .guest_requests = true}).message(),
              ::testing::HasSubstr("offer STATS_VQ"));
}

TEST(DeviceCreationTest, BitOfRequestsThatIsTakenIsRefused) {
  EXPECT_THAT(creation_error({.dialect = Dialect::kScatterGather,
                              .guest_requests = true,
                              .features = Features{Feature::kPagePoison}})
                  .message(),
              ::testing::HasSubstr("requests bit 4 is a feature that is offered"));
}

TEST(DeviceCreationTest, RequestsAndDialectNeedBitsOfTheirOwn) {
  EXPECT_THAT(
      creation_error(
          {.dialect = Dialect::kScatterGather, .guest_requests = true, .guest_requests_bit = 3})
          .message(),
      ::testing::HasSubstr("the same bit"));
}

}  // namespace
}  // namespace vballoon
