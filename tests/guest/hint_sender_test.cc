// SPDX-License-Identifier: MIT
// Free page hints through a ring that a round does not fit into (src/guest/hint_sender.cc), to a
// device that answers only when it is told to.
#include "guest/hint_sender.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/page_ranges.h"
#include "ring/driver_queue.h"
#include "vballoon/balloon_registers.h"
#include "wire/little_endian.h"

namespace vballoon {
namespace {

using sim::HintSender;
using sim::kMaxOrder;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr std::uint16_t kRing = 4;
constexpr std::uint64_t kBlocks = 8;  // free ones
constexpr std::uint64_t kBlockPages = std::uint64_t{1} << kMaxOrder;
constexpr std::uint32_t kFirstId = 2;
constexpr std::uint32_t kSecondId = 3;

class HintSenderTest : public ::testing::Test {
 protected:
  HintSenderTest() {
    if (!device_.start(memory_, layout_.config)) throw std::runtime_error("queue does not start");
  }

  // A step of the sender with this command id in force; the device sees what was sent. True when
  // the sender waits for answers.
  bool step(std::uint32_t command) {
    const bool waits = sender_.step(command).waits;
    while (auto chain = device_.pop().value()) {
      note(*chain);
      out_.push_back(std::move(*chain));
    }
    return waits;
  }
  void answer(std::size_t buffers = SIZE_MAX) {
    for (; buffers != 0 && !out_.empty(); --buffers) {
      out_.front().complete();
      out_.erase(out_.begin());
    }
    (void)device_.publish();
  }
  // Steps and answers until the sender waits for nothing any more; the last step is not answered.
  void finish_round(std::uint32_t command) {
    while (step(command)) answer();
  }

  // Both sides go over to a queue elsewhere; what was not answered is lost.
  void reset_queue() {
    device_.reset();
    out_.clear();
    sender_.queue_was_reset();
    const RingLayout elsewhere = lay_out_ring(kRing, kOtherRing);
    queue_ = DriverQueue::create(memory_, elsewhere.config).value();
    ASSERT_TRUE(device_.start(memory_, elsewhere.config));
    sender_.use(*queue_);
  }

  void note(const DescriptorChain& chain) {
    if (chain.readable_bytes() == 0) {
      said_.emplace_back("block");
      named_.push_back(chain.writable()[0].address >> kPageShift);
      return;
    }
    std::array<std::byte, 4> id;
    EXPECT_TRUE(chain.read(0, id));
    said_.push_back("id " + std::to_string(load_le<std::uint32_t>(id.data())));
  }
  [[nodiscard]] bool names_a_block_twice() const {
    return std::set<Pfn>(named_.begin(), named_.end()).size() != named_.size();
  }

  // The first block is the driver's: its ring and its buffer lie there.
  static constexpr std::uint64_t kBuffer = 0x10000;
  static constexpr std::uint64_t kOtherRing = 0x20000;
  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(
          std::vector<RegionLayout>{{0, (kBlocks + 1) * kBlockPages << kPageShift}})
          .value();
  sim::PageAllocator allocator_{PageRanges{{kBlockPages, kBlocks* kBlockPages}}};
  sim::DriverPages pages_{allocator_, {}};
  const RingLayout layout_ = lay_out_ring(kRing, 0);
  std::unique_ptr<DriverQueue> queue_ = DriverQueue::create(memory_, layout_.config).value();
  DeviceQueue device_;
  std::vector<DescriptorChain> out_;  // unanswered; before device_ goes
  std::vector<std::string> said_;     // all that was sent so far
  std::vector<Pfn> named_;            // and the blocks among that
  HintSender sender_{*queue_,
                     {kBuffer, {memory_->host(kBuffer, 8), HintSender::kBufferBytes}},
                     allocator_,
                     pages_};
};

// ---- a round that is longer than the ring -------------------------------------------------------

TEST_F(HintSenderTest, BAL_G_31_RoundLongerThanTheRingKeepsASlotForItsStop) {
  for (bool waits = step(kFirstId); waits; waits = step(kFirstId)) {
    EXPECT_EQ(out_.size(), kRing - 1u);
    answer();
  }

  EXPECT_THAT(out_, SizeIs(kRing)) << "the last three blocks are not answered";
  EXPECT_EQ(said_.back(), "id 0");
}

TEST_F(HintSenderTest, BAL_G_27_BAL_G_29_RoundLongerThanTheRingNamesEachBlockOnce) {
  finish_round(kFirstId);

  EXPECT_EQ(said_.front(), "id 2");
  EXPECT_THAT(named_, SizeIs(kBlocks));
  EXPECT_FALSE(names_a_block_twice());
}

TEST_F(HintSenderTest, BAL_G_28_RoundThatIsOverIsNotBegunAgain) {
  finish_round(kFirstId);
  answer();
  const auto said = said_;

  EXPECT_FALSE(step(kFirstId));

  EXPECT_THAT(said_, ElementsAreArray(said));
}

TEST_F(HintSenderTest, BAL_G_35_BlocksComeBackWhenTheHostIsDone) {
  finish_round(kFirstId);
  ASSERT_EQ(allocator_.free_pages(), 0u);

  step(kHintDone);

  EXPECT_EQ(allocator_.free_pages(), kBlocks * kBlockPages);
}

// ---- a host that changes its mind in the middle -------------------------------------------------

TEST_F(HintSenderTest, BAL_G_30_NoMorePagesAreNamedOnceTheHostStopsInTheMiddle) {
  step(kFirstId);
  answer();
  said_.clear();

  EXPECT_FALSE(step(kHintStop));

  EXPECT_THAT(said_, ElementsAre("id 0"));
}

TEST_F(HintSenderTest, BAL_G_30_NoMorePagesAreNamedOnceTheHostIsDoneInTheMiddle) {
  step(kFirstId);
  answer();
  said_.clear();

  EXPECT_FALSE(step(kHintDone));

  EXPECT_THAT(said_, ElementsAre("id 0"));
  EXPECT_EQ(allocator_.free_pages(), kBlocks * kBlockPages);
}

TEST_F(HintSenderTest, BAL_G_31_StopGoesInThoughBlocksFillTheRing) {
  step(kFirstId);
  answer();
  step(kFirstId);
  ASSERT_THAT(out_, SizeIs(kRing - 1));
  said_.clear();

  EXPECT_FALSE(step(kHintStop));

  EXPECT_THAT(said_, ElementsAre("id 0"));
}

TEST_F(HintSenderTest, NewIdWhileTheRingIsFullEndsTheOldRoundWithStopFirst) {
  step(kFirstId);
  ASSERT_THAT(out_, SizeIs(kRing - 1));
  said_.clear();

  EXPECT_TRUE(step(kSecondId));
  EXPECT_THAT(said_, ElementsAre("id 0"));
  answer();
  step(kSecondId);

  EXPECT_THAT(said_, ElementsAre("id 0", "id 3", "block", "block"));
}

// They hold the ids, and the device has not read them.
TEST_F(HintSenderTest, NewRoundWaitsForTheBuffersOfTheOldOne) {
  step(kFirstId);
  step(kSecondId);
  answer(kRing - 1);
  said_.clear();

  EXPECT_TRUE(step(kSecondId));

  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(HintSenderTest, BlocksOfTheOldRoundAreKeptAndNotNamedAgain) {
  step(kFirstId);
  step(kSecondId);
  answer();
  finish_round(kSecondId);

  EXPECT_FALSE(names_a_block_twice());
  EXPECT_EQ(sender_.count(), kBlocks * kBlockPages);
}

// ---- a guest that wants its pages ---------------------------------------------------------------

TEST_F(HintSenderTest, BAL_G_32_ShrinkerTakesBlocksWhoseHintIsStillOut) {
  step(kFirstId);
  const auto said = said_;
  const std::uint64_t free_before = allocator_.free_pages();

  EXPECT_EQ(sender_.scan(1), kBlockPages);

  EXPECT_EQ(allocator_.free_pages(), free_before + kBlockPages);
  EXPECT_THAT(out_, SizeIs(kRing - 1)) << "the device has the hint all the same";
  EXPECT_THAT(said_, ElementsAreArray(said)) << "and is not told";
}

TEST_F(HintSenderTest, RoundGoesOnWhenTheShrinkerWasThere) {
  step(kFirstId);
  sender_.scan(UINT64_MAX);

  answer();
  finish_round(kFirstId);

  EXPECT_EQ(said_.back(), "id 0");
  EXPECT_EQ(sender_.count(), kBlocks * kBlockPages);
}

// ---- a queue that is reset ----------------------------------------------------------------------

TEST_F(HintSenderTest, RoundThatTheDeviceKnowsNothingOfBeginsAnew) {
  ASSERT_TRUE(sender_.step(kFirstId).waits);

  reset_queue();
  finish_round(kFirstId);

  EXPECT_EQ(said_.front(), "id 2");
  EXPECT_THAT(named_, SizeIs(kBlocks));
  EXPECT_EQ(said_.back(), "id 0");
}

TEST_F(HintSenderTest, BAL_G_28_IdThatTheDeviceHasSeenIsNotSaidAgain) {
  step(kFirstId);
  answer(1);
  said_.clear();
  named_.clear();

  reset_queue();
  finish_round(kFirstId);

  EXPECT_THAT(said_, Not(Contains("id 2")));
  EXPECT_THAT(named_, SizeIs(kBlocks)) << "those that were lost are named again";
  EXPECT_EQ(said_.back(), "id 0");
}

TEST_F(HintSenderTest, StopThatTheDeviceHasNotSeenIsSaidAgain) {
  finish_round(kFirstId);
  answer(kRing - 1);
  said_.clear();

  reset_queue();
  finish_round(kFirstId);

  EXPECT_EQ(said_.back(), "id 0");
}

TEST_F(HintSenderTest, RoundThatTheDeviceHasSeenAllOfIsNotGoneOnWith) {
  finish_round(kFirstId);
  answer();
  said_.clear();

  reset_queue();

  EXPECT_FALSE(step(kFirstId));
  EXPECT_THAT(said_, IsEmpty());
  EXPECT_EQ(sender_.count(), kBlocks * kBlockPages);
}

TEST_F(HintSenderTest, LostRoundThatIsNotWantedAnyMoreIsForgotten) {
  ASSERT_TRUE(sender_.step(kFirstId).waits);

  reset_queue();

  EXPECT_FALSE(step(kHintStop));
  EXPECT_THAT(said_, IsEmpty());
  EXPECT_EQ(allocator_.free_pages(), kBlocks * kBlockPages);
}

}  // namespace
}  // namespace vballoon
