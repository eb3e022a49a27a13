// SPDX-License-Identifier: MIT
// The dialect with queues for blocks of its own (src/wire/dialect.cc, src/device/serve.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/device_fixture.h"
#include "device/test_messages.h"

namespace vballoon {
namespace {

using testing::cont_message;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kLowPages;
using testing::Rig;

constexpr std::uint16_t kInflateBlocks = 2;
constexpr std::uint16_t kDeflateBlocks = 3;

class ContDeviceTest : public ::testing::Test {
 protected:
  void send(std::uint16_t queue, std::initializer_list<PageRange> ranges) {
    rig_.send(queue, cont_message(ranges));
    rig_.serve(queue);
  }

  Rig rig_{{.device = testing::speaking(Dialect::kContPages)}};
};

TEST_F(ContDeviceTest, BlocksAreDiscardedAndTheirBufferComesBack) {
  rig_.start();

  send(kInflateBlocks, {{0, 512}, {600, 1}});

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{0, 512}, PageRange{600, 1}));
  EXPECT_THAT(rig_.completed(kInflateBlocks), ElementsAre(0u));
}

TEST_F(ContDeviceTest, NumbersOnTheFirstQueuesStayNumbers) {
  rig_.start();

  rig_.inflate({5, 64});

  EXPECT_EQ(rig_.device().ballooned_pages(), 2u);
}

TEST_F(ContDeviceTest, BothPairsOfQueuesShareOneBalloon) {
  rig_.start();
  send(kInflateBlocks, {{0, 8}});
  rig_.inflate({100});

  send(kDeflateBlocks, {{100, 1}});
  rig_.deflate({0, 1});

  EXPECT_EQ(rig_.device().ballooned_pages(), 6u);
  EXPECT_THAT(rig_.all_errors(), IsEmpty());
}

TEST_F(ContDeviceTest, PartOfABlockBeyondARegionIsCountedAndTheRestDiscarded) {
  rig_.start();

  send(kInflateBlocks, {{kLowPages - 2, 4}});

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{kLowPages - 2, 2}));
  EXPECT_THAT(rig_.all_errors(), ElementsAre(std::pair(Errc::kPageOutOfRange, 2u)));
}

TEST_F(ContDeviceTest, QueuesForBlocksComeBehindThoseOfTheFeatures) {
  Rig rig({.device = {.dialect = Dialect::kContPages,
                      .features = Features{Feature::kMustTellHost, Feature::kStatsVq,
                                           Feature::kPageReporting}}});
  rig.start();

  rig.send(4, cont_message({{0, 8}}));
  rig.serve(4);

  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{0, 8}));
  EXPECT_TRUE(rig.device().has_queue(5));
  EXPECT_FALSE(rig.device().has_queue(6));
}

TEST_F(ContDeviceTest, WithFixedNumbersTheyAreQueuesFiveAndSix) {
  Rig rig({.device = {.dialect = Dialect::kContPages, .numbering = QueueNumbering::kFixed}});
  rig.start();

  rig.send(5, cont_message({{0, 8}}));
  rig.serve(5);

  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{0, 8}));
  EXPECT_FALSE(rig.device().has_queue(2));
}

TEST_F(ContDeviceTest, DriverWithoutTheBitHasNoQueuesForBlocks) {
  Rig rig({.device = testing::speaking(Dialect::kContPages),
           .accepted = Features{Feature::kMustTellHost, Feature::kVersion1}});
  rig.negotiate();

  EXPECT_FALSE(rig.device().has_queue(kInflateBlocks));
}

}  // namespace
}  // namespace vballoon
