// SPDX-License-Identifier: MIT
// Putting chains back, and going on with a ring where another device left it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "ring/both_rings_fixture.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::RawUsed;
using testing::RingKind;
using ::testing::Values;

class ReleaseTest : public testing::BothRingsFixture {};

INSTANTIATE_TEST_SUITE_P(BothRings, ReleaseTest, Values(RingKind::kSplit, RingKind::kPacked),
                         testing::ring_name);

TEST_P(ReleaseTest, ReleasedChainIsGivenAgain) {
  driver_->offer(2, {{0x30000, 1}, {0x31000, 2, true}});
  DescriptorChain chain = pop_chain();

  ASSERT_TRUE(chain.release());

  const DescriptorChain again = pop_chain();
  EXPECT_THAT(again.readable(), ElementsAre(GuestBuffer{0x30000, 1}));
  EXPECT_THAT(again.writable(), ElementsAre(GuestBuffer{0x31000, 2}));
}

TEST_P(ReleaseTest, ReleasedChainIsNotReturned) {
  offer_one(2);
  ASSERT_TRUE(pop_chain().release());

  EXPECT_THAT(publish_and_take(), IsEmpty());
}

TEST_P(ReleaseTest, ChainsReleasedFromTheLastOnComeInTheSameOrderAgain) {
  auto chains = offer_and_pop(3);

  ASSERT_TRUE(chains[2].release());
  ASSERT_TRUE(chains[1].release());

  EXPECT_THAT(pop_chain().readable(), ElementsAre(GuestBuffer{kPayload + 16, 16}));
  EXPECT_THAT(pop_chain().readable(), ElementsAre(GuestBuffer{kPayload + 32, 16}));
}

TEST_P(ReleaseTest, ChainInFrontOfAHeldOneIsNotReleased) {
  auto chains = offer_and_pop(2);

  EXPECT_FALSE(chains[0].release());

  EXPECT_THAT(chains[0].readable(), ElementsAre(GuestBuffer{kPayload, 16}));
}

TEST_P(ReleaseTest, ChainInFrontOfAReturnedOneIsNotReleased) {
  auto chains = offer_and_pop(2);
  chains[1].complete(1);

  EXPECT_FALSE(chains[0].release());

  chains[0].complete(2);
  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{1, 1}, RawUsed{0, 2}));
}

TEST_P(ReleaseTest, ChainInFrontOfAMalformedOneIsNotReleased) {
  offer_one(0);
  offer_malformed(1);
  DescriptorChain first = pop_chain();
  (void)pop_error();

  EXPECT_FALSE(first.release());
}

TEST_P(ReleaseTest, ChainInFrontOfAWaitingOneIsNotReleasedInOrder) {
  start_in_order();
  auto chains = offer_and_pop(2);
  chains[1].complete(1);

  EXPECT_FALSE(chains[0].release());
}

TEST_P(ReleaseTest, ChainBehindAWaitingOneIsReleasedInOrder) {
  start_in_order();
  auto chains = offer_and_pop(3);
  chains[1].complete(11);

  ASSERT_TRUE(chains[2].release());
  chains[0].complete(10);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{0, 10}, RawUsed{1, 11}));
  EXPECT_THAT(pop_chain().readable(), ElementsAre(GuestBuffer{kPayload + 32, 16}));
}

TEST_P(ReleaseTest, ReleasingTheLastChainMakesRoomAgain) {
  auto chains = offer_and_pop(kSize);

  ASSERT_TRUE(chains.back().release());

  EXPECT_FALSE(pop_is_empty());
}

TEST_P(ReleaseTest, ReleaseAfterAResetDoesNothing) {
  auto chains = offer_and_pop(2);
  queue_.reset();

  EXPECT_TRUE(chains[0].release());
  EXPECT_TRUE(chains[1].release());
}

TEST_P(ReleaseTest, ReleasedChainMakesEnablingKicksReportIt) {
  offer_one(0);
  ASSERT_TRUE(pop_chain().release());

  EXPECT_TRUE(queue_.enable_kicks());
}

class QueuePositionTest : public testing::BothRingsFixture {
 protected:
  // What the queue knows goes to another one on the same rings.
  void move_to_another_queue() {
    const QueuePosition position = queue_.position();
    queue_.reset();
    if (!queue_.start(memory_, config_, position)) throw std::runtime_error("does not start");
  }
  bool starts_at(const QueuePosition& position) {
    return queue_.start(memory_, config_, position).has_value();
  }
};

INSTANTIATE_TEST_SUITE_P(BothRings, QueuePositionTest, Values(RingKind::kSplit, RingKind::kPacked),
                         testing::ring_name);

TEST_P(QueuePositionTest, FreshQueueIsAtTheDefault) {
  EXPECT_EQ(queue_.position(), QueuePosition{});
}

TEST_P(QueuePositionTest, ChainsBeforeAreNotGivenAgain) {
  turn(3);

  move_to_another_queue();

  EXPECT_TRUE(pop_is_empty());
}

TEST_P(QueuePositionTest, ChainsBehindAreReturnedWhereTheDriverLooks) {
  turn(3);
  offer_one(5);

  move_to_another_queue();
  pop_chain().complete(7);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{5, 7}));
}

TEST_P(QueuePositionTest, QueueGoesOnInTheSecondRound) {
  turn(kSize + 3);
  offer_one(5);

  move_to_another_queue();
  pop_chain().complete(7);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{5, 7}));
}

TEST_P(QueuePositionTest, ReleasedChainIsGivenByTheOtherQueue) {
  auto chains = offer_and_pop(2);
  chains[0].complete(1);
  ASSERT_TRUE(chains[1].release());
  (void)publish_and_take();

  move_to_another_queue();

  EXPECT_THAT(pop_chain().readable(), ElementsAre(GuestBuffer{kPayload + 16, 16}));
}

TEST_P(QueuePositionTest, MoreChainsInFlightThanEntriesAreRefused) {
  EXPECT_FALSE(starts_at({.next_available = 2, .next_used = 3}));
  EXPECT_FALSE(queue_.ready());
}

TEST_P(QueuePositionTest, WholeQueueInFlightIsTaken) {
  EXPECT_TRUE(starts_at({.next_available = packed() ? std::uint16_t{3} : std::uint16_t{11},
                         .next_used = 3,
                         .available_wrap = false}));
}

// ---- chains that are held ----------------------------------------------------------------------

class RetakeTest : public testing::BothRingsFixture {
 protected:
  // What the queue knows, and what it owes the driver, goes to another one on the same rings.
  std::vector<DescriptorChain> move_to_another_queue(std::vector<DescriptorChain> held) {
    const QueuePosition position = queue_.position();
    const std::vector<HeldChain> chains = queue_.held();
    queue_.reset();
    held.clear();
    if (!queue_.start(memory_, config_, position)) throw std::runtime_error("does not start");
    return queue_.retake(chains).value();
  }
  // Two pieces, so that it takes two entries of a packed ring.
  void offer_two_pieces(std::uint16_t id) {
    driver_->offer(id, {{kPayload, 16}, {kPayload, 16, true}});
  }
};

INSTANTIATE_TEST_SUITE_P(BothRings, RetakeTest, Values(RingKind::kSplit, RingKind::kPacked),
                         testing::ring_name);

TEST_P(RetakeTest, HeldChainIsReturnedByTheOtherQueue) {
  auto chains = offer_and_pop(1);

  auto retaken = move_to_another_queue(std::move(chains));
  ASSERT_EQ(retaken.size(), 1u);
  retaken[0].complete(7);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{0, 7}));
}

TEST_P(RetakeTest, QueueThatTakesTheOthersPlaceReturnsWhatThatHeldOnce) {
  auto chains = offer_and_pop(1);
  DeviceQueue other;
  ASSERT_TRUE(other.start(memory_, config_, queue_.position()));
  auto retaken = other.retake(queue_.held()).value();

  queue_ = std::move(other);
  chains.clear();
  const auto before = publish_and_take();
  retaken.at(0).complete(7);

  EXPECT_THAT(before, IsEmpty());
  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{0, 7}));
}

TEST_P(RetakeTest, HeldChainIsNotGivenAgain) {
  auto chains = offer_and_pop(1);

  const auto retaken = move_to_another_queue(std::move(chains));

  EXPECT_TRUE(pop_is_empty());
}

TEST_P(RetakeTest, ChainInFrontOfAReturnedOneIsReturnedByTheOtherQueue) {
  offer_two_pieces(0);
  offer_one(3);
  std::vector<DescriptorChain> held;
  held.push_back(pop_chain());
  pop_chain().complete(3);
  const auto before = publish_and_take();

  auto retaken = move_to_another_queue(std::move(held));
  ASSERT_EQ(retaken.size(), 1u);
  retaken[0].complete(7);

  EXPECT_THAT(before, ElementsAre(RawUsed{3, 3}));
  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{0, 7}));
}

TEST_P(RetakeTest, RetakenChainIsNotReleased) {
  auto chains = offer_and_pop(1);

  auto retaken = move_to_another_queue(std::move(chains));

  EXPECT_FALSE(retaken.at(0).release());
}

TEST_P(RetakeTest, ChainsBehindAreTakenAsBefore) {
  auto chains = offer_and_pop(2);
  offer_one(5);

  const auto retaken = move_to_another_queue(std::move(chains));

  EXPECT_THAT(pop_chain().readable(), ElementsAre(GuestBuffer{kPayload + 80, 16}));
}

TEST_P(RetakeTest, RetakenChainsCountForThePool) {
  auto chains = offer_and_pop(kSize);

  auto retaken = move_to_another_queue(std::move(chains));
  EXPECT_TRUE(pop_is_empty());
  retaken.clear();
  (void)publish_and_take();
  offer_one(1);

  EXPECT_FALSE(pop_is_empty());
}

TEST_P(RetakeTest, AnsweredChainWaitsForThoseInFrontOfItInOrder) {
  start_in_order();
  auto chains = offer_and_pop(3);
  chains[1].complete(11);

  auto retaken = move_to_another_queue(std::move(chains));
  ASSERT_EQ(retaken.size(), 2u);
  retaken[1].complete(12);
  EXPECT_THAT(publish_and_take(), IsEmpty());
  retaken[0].complete(10);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{0, 10}, RawUsed{1, 11}, RawUsed{2, 12}));
}

TEST_P(RetakeTest, MalformedChainWaitsForThoseInFrontOfItInOrder) {
  start_in_order();
  auto chains = offer_and_pop(1);
  offer_malformed(4);
  (void)pop_error();

  auto retaken = move_to_another_queue(std::move(chains));
  ASSERT_EQ(retaken.size(), 1u);
  retaken[0].complete(10);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{0, 10}, RawUsed{4, 0}));
}

TEST_P(RetakeTest, ChainsThatAreNotAllOfThoseInFlightAreRefused) {
  auto chains = offer_and_pop(2);
  const QueuePosition position = queue_.position();
  const std::vector<HeldChain> held = queue_.held();
  ASSERT_TRUE(queue_.start(memory_, config_, position));

  EXPECT_FALSE(queue_.retake({}));
  EXPECT_FALSE(queue_.retake(std::span(held).first(1)));
  EXPECT_FALSE(queue_.retake(std::vector<HeldChain>{held[0], held[1], held[1]}));
}

TEST_P(RetakeTest, AnsweredChainIsRefusedWhereNoneWaits) {
  EXPECT_FALSE(queue_.start(memory_, config_, {.next_available = 1}) &&
               queue_.retake(std::vector<HeldChain>{{.id = 0, .written = 0}}));
}

TEST_P(RetakeTest, ChainWithoutEntriesIsRefused) {
  ASSERT_TRUE(queue_.start(memory_, config_, {.next_available = 1}));

  EXPECT_FALSE(queue_.retake(std::vector<HeldChain>{{.id = 0}, {.id = 1, .entries = 0}}));
}

class SplitQueuePositionTest : public QueuePositionTest {};
class PackedQueuePositionTest : public QueuePositionTest {};

INSTANTIATE_TEST_SUITE_P(Ring, SplitQueuePositionTest, Values(RingKind::kSplit),
                         testing::ring_name);
INSTANTIATE_TEST_SUITE_P(Ring, PackedQueuePositionTest, Values(RingKind::kPacked),
                         testing::ring_name);

TEST_P(SplitQueuePositionTest, IndicesGoOnAcrossTheirWrap) {
  turn(65535);
  offer_one(5);

  move_to_another_queue();
  pop_chain().complete(7);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{5, 7}));
  EXPECT_EQ(queue_.position(), QueuePosition{});
}

TEST_P(PackedQueuePositionTest, PositionHasTheWrapCounters) {
  turn(kSize + 3);

  EXPECT_EQ(queue_.position(), (QueuePosition{3, 3, false, false}));
}

TEST_P(PackedQueuePositionTest, PlacesOutsideTheRingAreRefused) {
  EXPECT_FALSE(starts_at({.next_available = kSize}));
  EXPECT_FALSE(starts_at({.next_used = kSize, .used_wrap = false}));
}

TEST_P(PackedQueuePositionTest, MoreThanARoundInFlightIsRefused) {
  EXPECT_FALSE(starts_at({.next_available = 3, .next_used = 2, .available_wrap = false}));
}

}  // namespace
}  // namespace vballoon
