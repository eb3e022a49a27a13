// SPDX-License-Identifier: MIT
// The control queue as the guest serves it (src/guest/control_answerer.cc), to a device that
// answers only when it is told to.
#include "guest/control_answerer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

#include "base/page_batch.h"
#include "base/page_ranges.h"
#include "ring/driver_queue.h"

namespace vballoon {
namespace {

using sim::ControlAnswerer;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::uint16_t kRing = 4;
constexpr Pfn kFirstPage = 0x400;
constexpr std::uint64_t kBlocks = 8;  // of 4 MiB, free
constexpr std::uint64_t kBlockPages = 1024;

class ControlAnswererTest : public ::testing::Test {
 protected:
  explicit ControlAnswererTest(bool skips = false) : skips_(skips) {
    if (!control_device_.start(memory_, control_layout_.config) ||
        !page_device_.start(memory_, page_layout_.config)) {
      throw std::runtime_error("queue does not start");
    }
    (void)answerer_.post();
    take();
  }

  void take() {
    while (auto chain = control_device_.pop().value()) {
      if (chain->readable_bytes() == 0) {
        buffers_.push_back(std::move(*chain));
      } else {
        std::array<std::byte, kControlBytes> bytes;
        EXPECT_TRUE(chain->read(0, bytes));
        said_.push_back(read_control(bytes).command);
      }
    }
    (void)control_device_.publish();
  }
  bool step() {
    const bool waits = answerer_.step().waits;
    take();
    return waits;
  }
  // Answers a kick of the queue for pages, as a device on a thread of its own would in time.
  void take_pages() {
    ++kicks_;
    while (auto chain = reads_pages_ ? page_device_.pop().value() : std::nullopt) {
      named_.push_back(
          {chain->writable()[0].address >> kPageShift, chain->writable()[0].length >> kPageShift});
    }
    (void)page_device_.publish();
  }
  void command(ControlCommand command, std::uint32_t written = 8) {
    std::array<std::byte, kControlBytes> bytes;
    write_control(bytes, command);
    ASSERT_TRUE(buffers_.front().write(bytes));
    buffers_.front().complete(written);
    buffers_.erase(buffers_.begin());
    (void)control_device_.publish();
    (void)step();
  }

  static constexpr std::uint64_t kBuffer = 0x30000;
  const bool skips_;
  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(
          std::vector<RegionLayout>{{0, (kFirstPage + kBlocks * kBlockPages) << kPageShift}})
          .value();
  sim::PageAllocator allocator_{PageRanges{{kFirstPage, kBlocks* kBlockPages}}};
  const RingLayout control_layout_ = lay_out_ring(kRing, 0);
  const RingLayout page_layout_ = lay_out_ring(kRing, 0x10000);
  std::unique_ptr<DriverQueue> control_ =
      DriverQueue::create(memory_, control_layout_.config).value();
  std::unique_ptr<DriverQueue> pages_ = DriverQueue::create(memory_, page_layout_.config).value();
  DeviceQueue control_device_;
  DeviceQueue page_device_;
  std::vector<DescriptorChain> buffers_;  // for commands; before control_device_ goes
  std::vector<std::uint32_t> said_;       // by the guest
  PageRanges named_;
  int kicks_ = 0;
  bool reads_pages_ = true;
  ControlAnswerer answerer_{
      *control_,  *pages_, {kBuffer, {memory_->host(kBuffer, 64), ControlAnswerer::kBufferBytes}},
      allocator_, skips_,  [this] { take_pages(); }};
};

TEST_F(ControlAnswererTest, BufferForCommandsIsPostedAtTheBeginning) {
  EXPECT_THAT(buffers_, SizeIs(1));
}

TEST_F(ControlAnswererTest, NothingIsNamedUnasked) {
  EXPECT_FALSE(step());

  EXPECT_THAT(named_, IsEmpty());
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(ControlAnswererTest, StartNamesAllFreeBlocks) {
  command(ControlCommand::kStart);

  sort_and_merge(named_);
  EXPECT_THAT(named_, ElementsAre(PageRange{kFirstPage, kBlocks * kBlockPages}));
  EXPECT_EQ(answerer_.skipped_blocks(), 0u);
}

TEST_F(ControlAnswererTest, LargestBlocksAreNamedFirst) {
  ASSERT_TRUE(allocator_.allocate(9));

  command(ControlCommand::kStart);

  ASSERT_THAT(named_, SizeIs(kBlocks));
  EXPECT_EQ(named_.front().count, kBlockPages);
  EXPECT_EQ(named_.back().count, kBlockPages / 2);
}

TEST_F(ControlAnswererTest, EachBlockIsKicked) {
  command(ControlCommand::kStart);

  EXPECT_EQ(kicks_, static_cast<int>(kBlocks));
}

TEST_F(ControlAnswererTest, FullRingEndsAStep) {
  reads_pages_ = false;

  command(ControlCommand::kStart);

  EXPECT_TRUE(step()) << "it waits for the device";
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(ControlAnswererTest, AllBlocksAreNamedToADeviceThatIsLate) {
  reads_pages_ = false;
  command(ControlCommand::kStart);
  reads_pages_ = true;

  take_pages();
  EXPECT_FALSE(step());

  sort_and_merge(named_);
  EXPECT_THAT(named_, ElementsAre(PageRange{kFirstPage, kBlocks * kBlockPages}));
  EXPECT_THAT(said_, ElementsAre(0));
}

TEST_F(ControlAnswererTest, StopOfTheHostEndsTheRoundInTheMiddle) {
  reads_pages_ = false;
  command(ControlCommand::kStart);
  reads_pages_ = true;

  command(ControlCommand::kStop);
  take_pages();
  EXPECT_FALSE(step());

  EXPECT_THAT(named_, SizeIs(kRing)) << "what lay in the ring before";
  EXPECT_THAT(said_, IsEmpty()) << "the host knows";
}

TEST_F(ControlAnswererTest, BlocksThatWereUsedMeanwhileAreNotNamed) {
  reads_pages_ = false;
  command(ControlCommand::kStart);
  while (allocator_.allocate(10)) {
  }
  reads_pages_ = true;

  take_pages();
  EXPECT_FALSE(step());

  EXPECT_THAT(named_, SizeIs(kRing)) << "those that were named before";
  EXPECT_THAT(said_, ElementsAre(0));
}

class PublishedControlAnswererTest : public ControlAnswererTest {
 protected:
  PublishedControlAnswererTest() : ControlAnswererTest(true) {}
};

TEST_F(PublishedControlAnswererTest, BlocksForWhichTheRingHasNoRoomAreSkipped) {
  reads_pages_ = false;

  command(ControlCommand::kStart);

  EXPECT_EQ(answerer_.skipped_blocks(), kBlocks - kRing);
  EXPECT_THAT(said_, ElementsAre(0));
}

TEST_F(ControlAnswererTest, EndIsSaidWithStop) {
  command(ControlCommand::kStart);

  EXPECT_THAT(said_, ElementsAre(0));
}

TEST_F(ControlAnswererTest, SecondBufferIsPostedAtTheEnd) {
  command(ControlCommand::kStart);

  EXPECT_THAT(buffers_, SizeIs(2)) << "one may be lost in a migration";
}

TEST_F(ControlAnswererTest, NoMoreThanTwoBuffersAreOut) {
  command(ControlCommand::kStart);

  command(ControlCommand::kStart);

  EXPECT_THAT(buffers_, SizeIs(2));
}

TEST_F(ControlAnswererTest, BuffersLieInDifferentMemory) {
  command(ControlCommand::kStart);

  EXPECT_NE(buffers_[0].writable()[0].address, buffers_[1].writable()[0].address);
}

TEST_F(ControlAnswererTest, StopNeedsNoAnswer) {
  command(ControlCommand::kStop);

  EXPECT_THAT(said_, IsEmpty());
  EXPECT_THAT(buffers_, SizeIs(1)) << "posted again";
}

TEST_F(ControlAnswererTest, BufferOfAnotherLengthThanACommandIsNone) {
  command(ControlCommand::kStart, 0);

  EXPECT_THAT(named_, IsEmpty());
  EXPECT_THAT(buffers_, SizeIs(1)) << "posted again";
}

TEST_F(ControlAnswererTest, BufferIsPostedAgainToAQueueThatWasReset) {
  control_device_.reset();
  buffers_.clear();

  answerer_.control_was_reset();
  const RingLayout elsewhere = lay_out_ring(kRing, 0x20000);
  control_ = DriverQueue::create(memory_, elsewhere.config).value();
  ASSERT_TRUE(control_device_.start(memory_, elsewhere.config));
  answerer_.use_control(*control_);
  (void)answerer_.post();
  take();

  EXPECT_THAT(buffers_, SizeIs(1));
}

}  // namespace
}  // namespace vballoon
