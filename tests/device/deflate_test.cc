// SPDX-License-Identifier: MIT
// Deflate queue of BalloonDevice (src/device/balloon_device.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <memory>

#include "device/device_fixture.h"
#include "dialect_param.h"

namespace vballoon {
namespace {

using testing::balanced;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kHole;
using testing::message_of;
using ::testing::Pair;
using testing::pfn_message;
using testing::Rig;
using testing::speaking;

class DeflateTest : public ::testing::Test {
 protected:
  DeflateTest() { rig_.start(); }

  BalloonMetrics metrics() { return rig_.device().metrics(); }

  Rig rig_;
};

TEST_F(DeflateTest, PagesLeaveTheBalloon) {
  rig_.inflate({5, 6, 7});

  rig_.deflate({6});

  EXPECT_EQ(rig_.device().ballooned_pages(), 2u);
  EXPECT_FALSE(rig_.device().is_ballooned(6));
  EXPECT_THAT(rig_.completed(kDeflateQueue), ElementsAre(0u));
}

TEST_F(DeflateTest, NothingIsDiscarded) {
  rig_.inflate({5});
  rig_.recorded().forget();

  rig_.deflate({5});

  EXPECT_EQ(rig_.recorded().calls(), 0u);
}

TEST_F(DeflateTest, BytesAndMessagesAreCounted) {
  rig_.inflate({5, 6});

  rig_.deflate({5, 6});

  EXPECT_EQ(metrics().deflated_bytes, 2 * kPageSize);
  EXPECT_EQ(metrics().deflate_messages, 1u);
  EXPECT_EQ(metrics().inflate_messages, 1u);
  EXPECT_TRUE(balanced(metrics()));
}

TEST_F(DeflateTest, InterruptIsTheDeflateQueues) {
  rig_.deflate({5});

  EXPECT_EQ(rig_.interrupts(kDeflateQueue), 1);
  EXPECT_EQ(rig_.interrupts(kInflateQueue), 0);
}

TEST_F(DeflateTest, PageThatIsNotInTheBalloonIsCountedAndNotAsDeflated) {
  rig_.inflate({5});

  rig_.deflate({4, 5});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kPageNotInflated, 1u)));
  EXPECT_EQ(metrics().deflated_bytes, kPageSize);
  EXPECT_EQ(rig_.device().ballooned_pages(), 0u);
}

TEST_F(DeflateTest, PageDeflatedTwiceIsNotInTheBalloon) {
  rig_.inflate({5});
  rig_.deflate({5});

  rig_.deflate({5});

  EXPECT_EQ(rig_.errors(Errc::kPageNotInflated), 1u);
}

TEST_F(DeflateTest, PageNamedTwiceInAMessageIsRepeated) {
  rig_.inflate({5});

  rig_.deflate({5, 5});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kPageRepeated, 1u)));
}

TEST_F(DeflateTest, PageOutsideGuestMemoryIsCounted) {
  rig_.deflate({kHole});

  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kPageOutOfRange, 1u)));
}

TEST_F(DeflateTest, PageMayBeInflatedAgainAfterwards) {
  rig_.inflate({5});
  rig_.deflate({5});

  rig_.inflate({5});

  EXPECT_TRUE(rig_.device().is_ballooned(5));
  EXPECT_THAT(rig_.all_errors(), IsEmpty());
}

TEST_F(DeflateTest, OwedPageIsCancelled) {
  rig_.recorded().fail_at(rig_.host(5), EAGAIN);
  rig_.inflate({5});

  rig_.deflate({5});

  EXPECT_EQ(metrics().owed_bytes, 0u);
  EXPECT_EQ(metrics().cancelled_bytes, kPageSize);
  EXPECT_TRUE(balanced(metrics()));
}

TEST_F(DeflateTest, MessagesThatWaitTogetherAreAllAnswered) {
  rig_.inflate({5, 6});
  rig_.send(kDeflateQueue, pfn_message({5}));
  rig_.send(kDeflateQueue, pfn_message({6}));

  rig_.serve(kDeflateQueue);

  EXPECT_THAT(rig_.completed(kDeflateQueue), ElementsAre(0u, 0u));
  EXPECT_EQ(rig_.interrupts(kDeflateQueue), 1);
}

TEST_F(DeflateTest, ContentOfADeflatedPageStays) {
  *rig_.host(5) = std::byte{0x5A};

  rig_.deflate({5});

  EXPECT_EQ(*rig_.host(5), std::byte{0x5A});
}

TEST(DeflateWillNeedTest, PagesLeaveTheBalloonAndKeepTheirContent) {
  Rig rig({.device = {.deflate_action = DeflateAction::kWillNeed}});
  rig.start().inflate({5, 6, 9});
  *rig.host(6) = std::byte{0x5A};

  rig.deflate({5, 6, 9, kHole});

  EXPECT_EQ(rig.device().ballooned_pages(), 0u);
  EXPECT_EQ(*rig.host(6), std::byte{0x5A});
  EXPECT_THAT(rig.completed(kDeflateQueue), ElementsAre(0u));
  EXPECT_THAT(rig.all_errors(), ElementsAre(Pair(Errc::kPageOutOfRange, 1u)));
}

TEST(DeflateWillNeedTest, TimeInTheKernelIsCountedAsThatOfDiscards) {
  std::chrono::nanoseconds now{0};
  Rig rig({.device = {.deflate_action = DeflateAction::kWillNeed,
                      .clock = [&now] { return now += std::chrono::nanoseconds(1); }}});

  rig.start().deflate({5});

  EXPECT_EQ(rig.device().metrics().stages.discard.count(), 1);
}

class DeflateDialectTest : public ::testing::TestWithParam<Dialect> {
 protected:
  DeflateDialectTest() { rig_.start(); }

  Rig rig_{{.device = speaking(GetParam())}};
};

TEST_P(DeflateDialectTest, NamedPagesLeaveTheBalloonAndTheBufferIsReturned) {
  rig_.inflate(message_of(GetParam(), {{5, 3}, {0x100, 64}}));

  rig_.deflate(message_of(GetParam(), {{6, 1}, {0x100, 64}}));

  EXPECT_EQ(rig_.device().ballooned_pages(), 2u);
  EXPECT_THAT(rig_.completed(kDeflateQueue), ElementsAre(0u));
  EXPECT_THAT(rig_.all_errors(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(All, DeflateDialectTest, testing::every_dialect(), testing::dialect_name);

}  // namespace
}  // namespace vballoon
