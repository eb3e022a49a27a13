// SPDX-License-Identifier: MIT
// VIRTIO_F_IN_ORDER on both rings: what the device and the driver have to keep.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "ring/both_rings_fixture.h"
#include "ring/driver_queue_fixture.h"
#include "ring/hand_device.h"
#include "ring/ring_kind.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::RawUsed;
using testing::RingKind;
using ::testing::Values;

class InOrderDeviceTest : public testing::BothRingsFixture {
 protected:
  InOrderDeviceTest() { start_in_order(); }
};

INSTANTIATE_TEST_SUITE_P(BothRings, InOrderDeviceTest, Values(RingKind::kSplit, RingKind::kPacked),
                         testing::ring_name);

TEST_P(InOrderDeviceTest, ChainCompletedEarlyWaitsForTheOneInFront) {
  auto chains = offer_and_pop(3);

  chains[2].complete(12);
  chains[1].complete(11);
  const auto before = publish_and_take();
  chains[0].complete(10);

  EXPECT_THAT(before, IsEmpty());
  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{0, 10}, RawUsed{1, 11}, RawUsed{2, 12}));
}

TEST_P(InOrderDeviceTest, ChainsThatNeedNotWaitAreReturned) {
  auto chains = offer_and_pop(3);

  chains[0].complete(10);
  chains[2].complete(12);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{0, 10}));
}

TEST_P(InOrderDeviceTest, MalformedChainWaitsForTheOneInFront) {
  offer_one(0);
  offer_malformed(1);
  offer_one(3);
  DescriptorChain first = pop_chain();
  const auto error = pop_error();
  pop_chain().complete(13);
  const auto before = publish_and_take();

  first.complete(10);

  EXPECT_EQ(error, Errc::kReadableAfterWritable);
  EXPECT_THAT(before, IsEmpty());
  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{0, 10}, RawUsed{1, 0}, RawUsed{3, 13}));
}

TEST_P(InOrderDeviceTest, MalformedChainWithNoneInFrontIsReturnedAtOnce) {
  offer_malformed(1);

  EXPECT_EQ(pop_error(), Errc::kReadableAfterWritable);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{1, 0}));
}

TEST_P(InOrderDeviceTest, ChainsThatWaitTakeRoom) {
  auto chains = offer_and_pop(kSize);
  chains.erase(chains.begin() + 1, chains.end());
  offer_one(1);
  const bool full = pop_is_empty();

  chains.clear();

  EXPECT_TRUE(full);
  EXPECT_EQ(publish_and_take().size(), kSize);
}

TEST_P(InOrderDeviceTest, RoomComesBackWhenAllAreReturned) {
  { const auto chains = offer_and_pop(kSize); }
  (void)publish_and_take();

  const auto chains = offer_and_pop(kSize);

  EXPECT_EQ(chains.size(), kSize);
}

TEST_P(InOrderDeviceTest, ChainThatWaitsOverAResetIsNotReturned) {
  auto chains = offer_and_pop(2);
  chains[1].complete(11);
  queue_.reset();

  chains[0].complete(10);

  EXPECT_THAT(publish_and_take(), IsEmpty());
}

class InOrderDriverTest : public ::testing::TestWithParam<RingKind>,
                          protected testing::DriverUnderTest {
 protected:
  static constexpr std::uint16_t kSize = 8;

  InOrderDriverTest() : DriverUnderTest(in_order_config(GetParam())) {}

  static QueueConfig in_order_config(RingKind kind) {
    QueueConfig config = testing::raw_config(kind, kSize);
    config.in_order = true;
    return config;
  }

  std::unique_ptr<testing::HandDevice> device_ = testing::make_hand_device(memory_, config_);
};

INSTANTIATE_TEST_SUITE_P(BothRings, InOrderDriverTest, Values(RingKind::kSplit, RingKind::kPacked),
                         testing::ring_name);

// With a device of the library.
TEST_P(InOrderDriverTest, BuffersGoThereAndBackForManyRounds) {
  DeviceQueue device;
  ASSERT_TRUE(device.start(memory_, config_));

  for (std::uint64_t i = 0; i < 70000; ++i) {
    ASSERT_TRUE(add(1, 0, i));
    (void)driver_->publish();
    device.pop().value()->complete();
    (void)device.publish();
    const auto used = driver_->take_used();
    ASSERT_TRUE(used.has_value());
    ASSERT_EQ(used->token, i);
  }

  EXPECT_EQ(driver_->free_descriptors(), kSize);
  EXPECT_EQ(driver_->bogus_used(), 0u);
}

TEST_P(InOrderDriverTest, OneEntryAnswersABatch) {
  ASSERT_TRUE(add(2, 0, 40) && add(1, 2, 41) && add(1, 1, 42));
  (void)driver_->publish();
  device_->use_first(3, 7);

  EXPECT_EQ(driver_->take_used()->token, 40u);
  EXPECT_EQ(driver_->take_used()->token, 41u);
  EXPECT_EQ(driver_->take_used()->token, 42u);
  EXPECT_FALSE(driver_->take_used());
  EXPECT_EQ(driver_->free_descriptors(), kSize);
}

TEST_P(InOrderDriverTest, BuffersInFrontOfTheNamedOneCountAsWrittenInFull) {
  ASSERT_TRUE(add(1, 0, 40) && add(1, 2, 41) && add(1, 1, 42));
  (void)driver_->publish();
  device_->use_first(3, 7);

  EXPECT_EQ(driver_->take_used()->written, 0u);
  EXPECT_EQ(driver_->take_used()->written, 32u);
  EXPECT_EQ(driver_->take_used()->written, 7u);
}

TEST_P(InOrderDriverTest, RestOfABatchIsReportedWhenInterruptsAreEnabled) {
  ASSERT_TRUE(add(1, 0, 40) && add(1, 0, 41));
  (void)driver_->publish();
  device_->use_first(2);
  (void)driver_->take_used();

  EXPECT_TRUE(driver_->enable_interrupts());
}

TEST_P(InOrderDriverTest, BufferBehindABatchIsNotTakenBackWithIt) {
  ASSERT_TRUE(add(1, 0, 40) && add(1, 0, 41) && add(1, 0, 42));
  (void)driver_->publish();
  device_->use_first(2);
  (void)driver_->take_used();
  (void)driver_->take_used();

  EXPECT_FALSE(driver_->take_used());

  EXPECT_EQ(driver_->free_descriptors(), kSize - 1);
}

TEST_P(InOrderDriverTest, IdThatWasNotGivenOutIsDropped) {
  ASSERT_TRUE(add(1, 0, 40));
  (void)driver_->publish();
  device_->use_id(5);

  EXPECT_FALSE(driver_->take_used());

  EXPECT_EQ(driver_->bogus_used(), 1u);
}

// A device that names the last buffer and claims a batch of one.
TEST(SplitInOrderDriverTest, BatchLongerThanTheUsedIndexSaysWaitsForTheIndex) {
  const auto memory = testing::memory_of(1 << 20);
  QueueConfig config = testing::raw_config(8);
  config.in_order = true;
  testing::RawRing ring(memory, config);
  const auto driver = DriverQueue::create(memory, config).value();
  const std::vector<GuestBuffer> buffer{{0x30000, 16}};
  ASSERT_TRUE(driver->add(buffer, {}, 40) && driver->add(buffer, {}, 41));
  ring.set_used(0, {1, 0});
  ring.set_used_index(1);

  EXPECT_EQ(driver->take_used()->token, 40u);
  EXPECT_FALSE(driver->take_used());
  ring.set_used_index(2);
  EXPECT_EQ(driver->take_used()->token, 41u);
}

}  // namespace
}  // namespace vballoon
