// SPDX-License-Identifier: MIT
// VIRTIO_F_IN_ORDER on both rings: what the device and the driver have to keep.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "ring/both_rings_fixture.h"
#include "ring/driver_queue.h"
#include "test_memory.h"

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

// Both sides, with a driver of the library.
class InOrderDriverTest : public ::testing::TestWithParam<RingKind> {
 protected:
  static constexpr std::uint16_t kSize = 8;
  static constexpr GuestBuffer kBuffer{0x30000, 16};

  bool add(std::size_t readable, std::size_t writable, std::uint64_t token) {
    return driver_->add(std::vector<GuestBuffer>(readable, kBuffer),
                        std::vector<GuestBuffer>(writable, kBuffer), token);
  }
  std::uint64_t take_token() {
    const auto used = driver_->take_used();
    if (!used) throw std::runtime_error("nothing used");
    return used->token;
  }
  // Adds a buffer of one piece, lets the device answer it, and takes it back.
  void turn(std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      if (!add(1, 0, i)) throw std::runtime_error("no descriptor");
      (void)driver_->publish();
      device_.pop().value()->complete();
      (void)device_.publish();
      if (take_token() != i) throw std::runtime_error("another buffer");
    }
  }

  QueueConfig make_config() const {
    QueueConfig config = lay_out_ring(kSize, 0, GetParam() == RingKind::kPacked).config;
    config.in_order = true;
    return config;
  }

  std::shared_ptr<const GuestMemory> memory_ = testing::memory_of(1 << 20);
  QueueConfig config_ = make_config();
  testing::RawRing split_{memory_, config_};
  testing::RawPackedRing packed_{memory_, config_};
  std::unique_ptr<DriverQueue> driver_ = DriverQueue::create(memory_, config_).value();
  DeviceQueue device_;
  Result<void> started_ = device_.start(memory_, config_);

  // What a device does that answers `count` buffers, which lie in `entries` entries of the ring
  // from the first on, by one used entry for the last.
  void answer_batch(std::uint16_t count, std::uint16_t last, std::uint32_t written) {
    if (GetParam() == RingKind::kPacked) {
      packed_.write(
          0, {0, written, last,
              static_cast<std::uint16_t>(testing::kAvail | testing::kUsed | testing::kWrite)});
    } else {
      split_.set_used(0, {last, written});
      split_.set_used_index(count);
    }
  }
  // The id of the buffer that begins in entry `at` of an unused ring and is the `number`th.
  std::uint16_t id_of(std::uint16_t at, std::uint16_t number) const {
    return GetParam() == RingKind::kPacked ? number : at;
  }
};

INSTANTIATE_TEST_SUITE_P(BothRings, InOrderDriverTest, Values(RingKind::kSplit, RingKind::kPacked),
                         testing::ring_name);

TEST_P(InOrderDriverTest, BuffersGoThereAndBackForManyRounds) {
  ASSERT_TRUE(started_);

  turn(70000);

  EXPECT_EQ(driver_->free_descriptors(), kSize);
  EXPECT_EQ(driver_->bogus_used(), 0u);
}

TEST_P(InOrderDriverTest, OneEntryAnswersABatch) {
  ASSERT_TRUE(add(2, 0, 40) && add(1, 2, 41) && add(1, 1, 42));
  (void)driver_->publish();
  answer_batch(3, id_of(5, 2), 7);

  EXPECT_EQ(driver_->take_used()->token, 40u);
  EXPECT_EQ(driver_->take_used()->token, 41u);
  EXPECT_EQ(driver_->take_used()->token, 42u);
  EXPECT_FALSE(driver_->take_used());
  EXPECT_EQ(driver_->free_descriptors(), kSize);
}

TEST_P(InOrderDriverTest, BuffersInFrontOfTheNamedOneCountAsWrittenInFull) {
  ASSERT_TRUE(add(1, 0, 40) && add(1, 2, 41) && add(1, 1, 42));
  (void)driver_->publish();
  answer_batch(3, id_of(4, 2), 7);

  EXPECT_EQ(driver_->take_used()->written, 0u);
  EXPECT_EQ(driver_->take_used()->written, 32u);
  EXPECT_EQ(driver_->take_used()->written, 7u);
}

TEST_P(InOrderDriverTest, RestOfABatchIsReportedWhenInterruptsAreEnabled) {
  ASSERT_TRUE(add(1, 0, 40) && add(1, 0, 41));
  (void)driver_->publish();
  answer_batch(2, id_of(1, 1), 0);
  (void)driver_->take_used();

  EXPECT_TRUE(driver_->enable_interrupts());
}

TEST_P(InOrderDriverTest, BufferBehindABatchIsNotTakenBackWithIt) {
  ASSERT_TRUE(add(1, 0, 40) && add(1, 0, 41) && add(1, 0, 42));
  (void)driver_->publish();
  answer_batch(2, id_of(1, 1), 0);
  (void)driver_->take_used();
  (void)driver_->take_used();

  EXPECT_FALSE(driver_->take_used());

  EXPECT_EQ(driver_->free_descriptors(), kSize - 1);
}

TEST_P(InOrderDriverTest, IdThatWasNotGivenOutIsDropped) {
  ASSERT_TRUE(add(1, 0, 40));
  (void)driver_->publish();
  answer_batch(1, 5, 0);

  EXPECT_FALSE(driver_->take_used());

  EXPECT_EQ(driver_->bogus_used(), 1u);
}

// A device that names the last buffer and claims a batch of one.
TEST(SplitInOrderDriverTest, BatchLongerThanTheUsedIndexSaysWaitsForTheIndex) {
  const auto memory = testing::memory_of(1 << 20);
  QueueConfig config = lay_out_ring(8, 0).config;
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
