// SPDX-License-Identifier: MIT
// Answers to the host's requests (src/guest/request_answerer.cc), to a device that answers only
// when it is told to.
#include "guest/request_answerer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "base/page_batch.h"
#include "base/page_ranges.h"
#include "ring/driver_queue.h"
#include "wire/dialect.h"

namespace vballoon {
namespace {

using sim::Block;
using sim::kMaxOrder;
using sim::RequestAnswerer;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::uint16_t kRing = 4;
constexpr Pfn kFirstPage = 0x400;
constexpr std::uint64_t kPages = 0x1000;

struct Answer {
  AnswerHeader header;
  std::uint64_t data_bytes = 0;  // that came
  PageRanges pages;
};

class RequestAnswererTest : public ::testing::Test {
 protected:
  RequestAnswererTest() {
    if (!device_.start(memory_, layout_.config)) throw std::runtime_error("queue does not start");
    (void)answerer_.post();
    take();
  }

  // What the device finds in its queue.
  void take() {
    while (auto chain = device_.pop().value()) {
      if (chain->readable_bytes() == 0) {
        buffers_.push_back(std::move(*chain));
      } else {
        note(*chain);
        unread_.push_back(std::move(*chain));
      }
    }
  }
  void note(const DescriptorChain& chain) {
    std::vector<std::byte> bytes(chain.readable_bytes());
    ASSERT_TRUE(chain.read(0, bytes));
    Answer answer{read_answer_header(std::span(bytes).first<kAnswerHeaderBytes>()),
                  bytes.size() - kAnswerHeaderBytes,
                  {}};
    auto decoder = make_decoder(Codec::kPageBitmap);
    answer.pages.reserve(kMaxRangesPerWindow);
    EXPECT_FALSE(decoder->begin(bytes.size(), 0));
    EXPECT_FALSE(decoder->payload(bytes, answer.pages).error);
    answers_.push_back(std::move(answer));
  }
  void read_answers() {
    unread_.clear();
    (void)device_.publish();
  }
  bool step() {
    const bool waits = answerer_.step().waits;
    take();
    return waits;
  }
  void ask(RequestCommand command, std::uint64_t param,
           std::uint32_t written = static_cast<std::uint32_t>(kRequestBytes)) {
    std::array<std::byte, kRequestBytes> bytes;
    write_request(bytes, {static_cast<std::uint16_t>(command), param});
    ASSERT_TRUE(buffers_.front().write(bytes));
    buffers_.front().complete(written);
    buffers_.erase(buffers_.begin());
    (void)device_.publish();
  }
  // A request and all that comes of it.
  void ask_to_the_end(RequestCommand command, std::uint64_t param) {
    ask(command, param);
    while (step()) read_answers();
  }
  PageRanges named() const {
    PageRanges all;
    for (const Answer& answer : answers_) {
      all.insert(all.end(), answer.pages.begin(), answer.pages.end());
    }
    sort_and_merge(all);
    return all;
  }

  static constexpr std::uint64_t kBuffer = 0x10000;
  static constexpr std::uint64_t kOtherRing = 0x20000;
  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, (kFirstPage + kPages) << kPageShift}})
          .value();
  sim::PageAllocator allocator_{PageRanges{{kFirstPage, kPages}}};
  sim::GuestKernel kernel_{allocator_};
  const RingLayout layout_ = lay_out_ring(kRing, 0);
  std::unique_ptr<DriverQueue> queue_ = DriverQueue::create(memory_, layout_.config).value();
  DeviceQueue device_;
  std::vector<DescriptorChain> buffers_;  // for requests; before device_ goes
  std::vector<DescriptorChain> unread_;
  std::vector<Answer> answers_;
  std::vector<std::uint64_t> data_sizes_;  // of the memory taken for records
  std::uint64_t most_data_ = UINT64_MAX;
  RequestAnswerer answerer_{
      *queue_,
      {kBuffer, {memory_->host(kBuffer, 0x100), RequestAnswerer::kBufferBytes}},
      [this](std::uint64_t bytes) -> std::optional<sim::DmaBuffer> {
        if (bytes > most_data_) return std::nullopt;
        data_sizes_.push_back(bytes);
        return sim::DmaBuffer{0x100000, {memory_->host(0x100000, bytes), bytes}};
      },
      allocator_,
      kernel_};
};

TEST_F(RequestAnswererTest, BufferForRequestsIsPostedAtTheBeginning) {
  ASSERT_THAT(buffers_, SizeIs(1));
  EXPECT_THAT(buffers_[0].writable(), ElementsAre(GuestBuffer{kBuffer, 16}));
}

TEST_F(RequestAnswererTest, AllFreePagesAreNamed) {
  const Block used = *allocator_.allocate(3);

  ask_to_the_end(RequestCommand::kUnusedPages, 5);

  const Pfn behind = used.pages().end();
  EXPECT_THAT(named(), ElementsAre(PageRange{kFirstPage, used.first - kFirstPage},
                                   PageRange{behind, kFirstPage + kPages - behind}));
}

TEST_F(RequestAnswererTest, OrdersComeOneByOneTheLargestFirst) {
  (void)allocator_.allocate(kMaxOrder - 1);

  ask_to_the_end(RequestCommand::kUnusedPages, 5);

  ASSERT_THAT(answers_, SizeIs(3)) << "order 10, order 9, and the end";
  EXPECT_EQ(answers_[0].pages[0].count % (1 << kMaxOrder), 0u);
  EXPECT_EQ(answers_[1].pages[0].count, 1u << (kMaxOrder - 1));
}

TEST_F(RequestAnswererTest, OnlyTheLastAnswerSaysThatItIs) {
  ask_to_the_end(RequestCommand::kUnusedPages, 5);

  ASSERT_THAT(answers_, SizeIs(2));
  EXPECT_FALSE(answers_[0].header.last);
  EXPECT_TRUE(answers_[1].header.last);
}

// The published driver said nothing then, and its host waited for ever.
TEST_F(RequestAnswererTest, EndIsSaidThoughNoSinglePageIsFree) {
  ask_to_the_end(RequestCommand::kUnusedPages, 5);

  EXPECT_EQ(answers_.back().data_bytes, 0u);
  EXPECT_TRUE(answers_.back().header.last);
}

TEST_F(RequestAnswererTest, AnswersCarryTheLowBitsOfTheId) {
  ask_to_the_end(RequestCommand::kUnusedPages, 0x12345);

  EXPECT_EQ(answers_[0].header.id, 0x2345);
  EXPECT_EQ(answers_[1].header.id, 0x2345);
}

TEST_F(RequestAnswererTest, OneAnswerIsOutAtATime) {
  ask(RequestCommand::kUnusedPages, 5);

  EXPECT_TRUE(step());
  EXPECT_TRUE(step());

  EXPECT_THAT(answers_, SizeIs(1));
  read_answers();
}

TEST_F(RequestAnswererTest, BufferIsPostedAgainAfterTheLastAnswer) {
  ask(RequestCommand::kUnusedPages, 5);
  EXPECT_TRUE(step());
  EXPECT_THAT(buffers_, IsEmpty());

  read_answers();
  while (step()) read_answers();

  EXPECT_THAT(buffers_, SizeIs(1));
}

TEST_F(RequestAnswererTest, BlocksForWhichThereIsNoRoomAreNotNamed) {
  most_data_ = 0;

  ask_to_the_end(RequestCommand::kUnusedPages, 5);

  EXPECT_THAT(named(), IsEmpty());
  EXPECT_TRUE(answers_.back().header.last);
}

TEST_F(RequestAnswererTest, BufferOfAnotherLengthThanARequestIsNone) {
  ask(RequestCommand::kUnusedPages, 5, 8);
  (void)step();

  EXPECT_THAT(answers_, IsEmpty());
  EXPECT_THAT(buffers_, SizeIs(1)) << "posted again";
}

TEST_F(RequestAnswererTest, UnknownRequestIsNotAnswered) {
  ask_to_the_end(static_cast<RequestCommand>(9), 5);

  EXPECT_THAT(answers_, IsEmpty());
  EXPECT_THAT(buffers_, SizeIs(1));
}

TEST_F(RequestAnswererTest, CachesAreDroppedAndThatIsSaid) {
  ASSERT_TRUE(kernel_.read_file(1, 0, 100));
  const std::uint64_t before = allocator_.free_pages();

  ask_to_the_end(RequestCommand::kDropCache, 1);

  EXPECT_EQ(allocator_.free_pages(), before + 100);
  ASSERT_THAT(answers_, SizeIs(1));
  EXPECT_EQ(answers_[0].header.command, 1);
  EXPECT_EQ(answers_[0].header.id, 1);
  EXPECT_TRUE(answers_[0].header.last);
  EXPECT_EQ(answers_[0].data_bytes, 0u);
}

TEST_F(RequestAnswererTest, AnswerThatAResetQueueLostIsSentAgain) {
  ask(RequestCommand::kUnusedPages, 5);
  EXPECT_TRUE(step());
  device_.reset();
  unread_.clear();
  answers_.clear();

  answerer_.queue_was_reset();
  const RingLayout elsewhere = lay_out_ring(kRing, kOtherRing);
  queue_ = DriverQueue::create(memory_, elsewhere.config).value();
  ASSERT_TRUE(device_.start(memory_, elsewhere.config));
  answerer_.use(*queue_);
  while (step()) read_answers();

  EXPECT_THAT(named(), ElementsAre(PageRange{kFirstPage, kPages}));
  EXPECT_TRUE(answers_.back().header.last);
}

}  // namespace
}  // namespace vballoon
