// SPDX-License-Identifier: MIT
#include "device/message_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

#include "base/page_ranges.h"
#include "device/device_fixture.h"

namespace vballoon {
namespace {

using testing::bitmap_message;
using testing::Bytes;
using testing::cut;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::le32;
using testing::Message;
using testing::numbers;
using testing::pfn_message;
using testing::record_head;

// A reader and chains for it: a ring of which the test holds both ends.
class MessageReaderTest : public ::testing::Test {
 protected:
  MessageReaderTest() {
    driver_ = DriverQueue::create(memory_, config_).value();
    if (!device_.start(memory_, config_)) throw std::runtime_error("start");
  }

  DescriptorChain chain_of(const Message& message) {
    std::vector<GuestBuffer> readable;
    for (const Bytes& piece : message.pieces) {
      readable.push_back({next_, static_cast<std::uint32_t>(piece.size())});
      if (!memory_->write(next_, piece)) throw std::length_error("payload");
      next_ += piece.size();
    }
    return chain_of(readable, message.writable);
  }
  DescriptorChain chain_of(const std::vector<GuestBuffer>& readable,
                           const std::vector<GuestBuffer>& writable = {}) {
    if (!driver_->add(readable, writable, 0)) throw std::length_error("ring");
    (void)driver_->publish();
    return std::move(device_.pop().value().value());
  }

  // Reads a chain; what the batch lost when it was full is kept in front of what it holds at the
  // end.
  void read(Codec codec, const DescriptorChain& chain) {
    const auto keep_error = [this](Errc code) { errors_.push_back(code); };
    if (const auto bad = reader_.begin(codec, chain)) keep_error(*bad);
    while (reader_.reading() && steps_left_-- > 0) {
      if (!reader_.has_room()) {
        ++full_;
        take_batch();
      }
      reader_.step(chain, keep_error);
    }
    reader_.stop();
    take_batch();
  }
  void read_into_batch(Codec codec, const DescriptorChain& chain) {
    ASSERT_EQ(reader_.begin(codec, chain), std::nullopt);
    while (reader_.reading()) reader_.step(chain, [](Errc) {});
  }
  // Reads a bitmap behind what is in the batch.
  void read_into_batch(const Message& message) {
    read_into_batch(Codec::kPageBitmap, chain_of(message));
  }
  void take_batch() {
    most_ranges_ = std::max(most_ranges_, reader_.batch().size());
    ranges_.insert(ranges_.end(), reader_.batch().begin(), reader_.batch().end());
    reader_.batch().clear();
  }
  std::uint64_t page_count() const {
    std::uint64_t pages = 0;
    for (const PageRange& range : ranges_) pages += range.count;
    return pages;
  }

  static constexpr std::uint64_t kMemoryBytes = 8 << 20;
  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, kMemoryBytes}}).value();
  QueueConfig config_ = lay_out_ring(1024, 0, testing::packed_by_default()).config;
  std::unique_ptr<DriverQueue> driver_;
  DeviceQueue device_;
  std::uint64_t next_ = 0x10000;

  MessageReader reader_;
  PageRanges ranges_;
  std::vector<Errc> errors_;
  int full_ = 0;
  int steps_left_ = 1 << 20;
  std::size_t most_ranges_ = 0;
};

TEST_F(MessageReaderTest, PagesOfAShortArrayStandInTheBatch) {
  const auto chain = chain_of(pfn_message({5, 6, 7, 9}));

  read(Codec::kPfnArray, chain);

  EXPECT_THAT(ranges_, ElementsAre(PageRange{5, 3}, PageRange{9, 1}));
  EXPECT_THAT(errors_, IsEmpty());
}

TEST_F(MessageReaderTest, ArrayOverSeveralDescriptorsIsOneMessage) {
  const auto chain = chain_of({{le32({1}), le32({3, 5}), le32({7})}});

  read(Codec::kPfnArray, chain);

  EXPECT_THAT(ranges_,
              ElementsAre(PageRange{1, 1}, PageRange{3, 1}, PageRange{5, 1}, PageRange{7, 1}));
}

TEST_F(MessageReaderTest, EntriesCutByDescriptorsOfThreeBytesAreWhole) {
  const auto chain = chain_of(cut(pfn_message({0x10203, 0x40506, 0x70809}), 3));

  read(Codec::kPfnArray, chain);

  EXPECT_THAT(ranges_,
              ElementsAre(PageRange{0x10203, 1}, PageRange{0x40506, 1}, PageRange{0x70809, 1}));
  EXPECT_THAT(errors_, IsEmpty());
}

TEST_F(MessageReaderTest, EmptyDescriptorsBetweenOthersAreSkipped) {
  const auto chain = chain_of({{Bytes{}, le32({4}), Bytes{}, Bytes{}, le32({6}), Bytes{}}});

  read(Codec::kPfnArray, chain);

  EXPECT_THAT(ranges_, ElementsAre(PageRange{4, 1}, PageRange{6, 1}));
}

// Windows fills descriptors of 4096 bytes.
TEST_F(MessageReaderTest, DescriptorsOf1024EntriesEachAreReadToTheEnd) {
  const auto chain = chain_of(cut(pfn_message(numbers(1, 4096, 2)), 4096));

  read(Codec::kPfnArray, chain);

  EXPECT_EQ(ranges_.size(), 4096u);
  EXPECT_EQ(ranges_.back(), (PageRange{8191, 1}));
}

TEST_F(MessageReaderTest, PayloadOfManyWindowsIsReadToTheEnd) {
  const auto chain = chain_of(pfn_message(numbers(1, 100'000)));

  read(Codec::kPfnArray, chain);

  EXPECT_EQ(page_count(), 100'000u);
  EXPECT_EQ(ranges_.back().end(), 100'001u);
  EXPECT_THAT(errors_, IsEmpty());
}

TEST_F(MessageReaderTest, RunThatAWindowCutsIsWhole) {
  // A header of 8 bytes and records of 16: the window's end lies within the last one of it.
  std::vector<std::uint64_t> data;
  for (std::uint64_t i = 0; i < 5000; ++i) {
    data.push_back(record_head(64 * i, kPageShift, 8));
    data.push_back(1);
  }
  const auto chain = chain_of(bitmap_message(data));

  read(Codec::kPageBitmap, chain);

  EXPECT_EQ(page_count(), 5000u);
  EXPECT_EQ(ranges_.back(), (PageRange{64 * 4999, 1}));
  EXPECT_THAT(errors_, IsEmpty());
}

TEST_F(MessageReaderTest, PayloadThatEndsWithinAnEntryKeepsTheWholeOnes) {
  Bytes bytes = le32({5, 9});
  bytes.push_back(std::byte{1});
  const auto chain = chain_of({{bytes}});

  read(Codec::kPfnArray, chain);

  EXPECT_THAT(ranges_, ElementsAre(PageRange{5, 1}, PageRange{9, 1}));
  EXPECT_THAT(errors_, ElementsAre(Errc::kPayloadNotMultiple));
}

TEST_F(MessageReaderTest, PayloadShorterThanAnEntryNamesNothing) {
  const auto chain = chain_of({{Bytes(3)}});

  read(Codec::kPfnArray, chain);

  EXPECT_THAT(ranges_, IsEmpty());
  EXPECT_THAT(errors_, ElementsAre(Errc::kPayloadNotMultiple));
}

TEST_F(MessageReaderTest, ChainWithoutPayloadIsRefused) {
  const auto chain = chain_of({{Bytes{}}});

  read(Codec::kPfnArray, chain);

  EXPECT_THAT(errors_, ElementsAre(Errc::kPayloadMissing));
}

TEST_F(MessageReaderTest, PayloadOutsideGuestMemoryKeepsTheWindowsBeforeIt) {
  const std::uint64_t window = kPayloadWindowBytes;
  const auto chain = chain_of({{kMemoryBytes - window, static_cast<std::uint32_t>(window + 4)}});

  read(Codec::kPfnArray, chain);

  EXPECT_EQ(page_count(), window / 4);
  EXPECT_THAT(errors_, ElementsAre(Errc::kAddressOutOfRange));
}

TEST_F(MessageReaderTest, MessageAfterABrokenOneIsReadFromItsBeginning) {
  read(Codec::kPfnArray, chain_of({{kMemoryBytes, 6}}));

  read(Codec::kPfnArray, chain_of(pfn_message({8})));

  EXPECT_THAT(ranges_, ElementsAre(PageRange{8, 1}));
}

TEST_F(MessageReaderTest, MessagesThatFollowOneAnotherShareTheBatch) {
  const auto first = chain_of(pfn_message({1}));
  const auto second = chain_of(pfn_message({2}));

  read_into_batch(Codec::kPfnArray, first);
  read_into_batch(Codec::kPfnArray, second);

  EXPECT_THAT(reader_.batch(), ElementsAre(PageRange{1, 1}, PageRange{2, 1}));
}

TEST_F(MessageReaderTest, BitmapBelowTheOneBeforeIsPutInOrder) {
  read_into_batch(bitmap_message({record_head(64, kPageShift, 8), 5}));
  read_into_batch(bitmap_message({record_head(0, kPageShift, 8), 5}));

  EXPECT_EQ(reader_.order_batch(), 0u);
  EXPECT_THAT(reader_.batch(),
              ElementsAre(PageRange{0, 1}, PageRange{2, 1}, PageRange{64, 1}, PageRange{66, 1}));
}

TEST_F(MessageReaderTest, BitmapThatRepeatsPagesOfTheOneBeforeIsMerged) {
  read_into_batch(bitmap_message({record_head(0, kPageShift, 8), 5}));
  read_into_batch(bitmap_message({record_head(0, kPageShift, 8), 5}));

  EXPECT_EQ(reader_.order_batch(), 2u);
  EXPECT_THAT(reader_.batch(), ElementsAre(PageRange{0, 1}, PageRange{2, 1}));
}

TEST_F(MessageReaderTest, BitmapAfterAnUnorderedOneDoesNotMakeTheBatchOrdered) {
  read_into_batch(
      bitmap_message({record_head(64, kPageShift, 8), 1, record_head(0, kPageShift, 8), 1}));
  read_into_batch(bitmap_message({record_head(128, kPageShift, 8), 1}));

  EXPECT_EQ(reader_.order_batch(), 0u);
  EXPECT_THAT(reader_.batch(), ElementsAre(PageRange{0, 1}, PageRange{64, 1}, PageRange{128, 1}));
}

// Whoever finds host addresses for a batch relies on its order: without it they are any.
TEST_F(MessageReaderTest, MessageWithoutPagesDoesNotMakeTheBatchOrdered) {
  read_into_batch(Codec::kPfnArray, chain_of(pfn_message({5, 0xC80, 9, 1})));
  read_into_batch(bitmap_message({}));

  EXPECT_EQ(reader_.order_batch(), 0u);
  EXPECT_THAT(reader_.batch(),
              ElementsAre(PageRange{1, 1}, PageRange{5, 1}, PageRange{9, 1}, PageRange{0xC80, 1}));
}

TEST_F(MessageReaderTest, WindowOfZeroWordsDoesNotMakeTheBatchOrdered) {
  std::vector<std::uint64_t> data{record_head(64, kPageShift, 8), 1, record_head(0, kPageShift, 8),
                                  1};
  while (data.size() < 2 * kPayloadWindowBytes / 8) {
    data.push_back(record_head(128, kPageShift, 8));
    data.push_back(0);
  }
  read_into_batch(bitmap_message(data));

  EXPECT_EQ(reader_.order_batch(), 0u);
  EXPECT_THAT(reader_.batch(), ElementsAre(PageRange{0, 1}, PageRange{64, 1}));
}

TEST_F(MessageReaderTest, BatchInOrderStaysSoBehindAMessageWithoutPages) {
  read_into_batch(bitmap_message({record_head(0, kPageShift, 8), 1}));
  read_into_batch(bitmap_message({}));
  read_into_batch(bitmap_message({record_head(64, kPageShift, 8), 1}));

  EXPECT_EQ(reader_.order_batch(), 0u);
  EXPECT_THAT(reader_.batch(), ElementsAre(PageRange{0, 1}, PageRange{64, 1}));
}

// Every other page of a word makes 32 ranges of 8 bytes: the densest there is.
TEST_F(MessageReaderTest, DensestMessageEmptiesTheBatchBeforeItOverflows) {
  std::vector<std::uint64_t> data;
  for (std::uint64_t i = 0; i < 8000; ++i) {
    data.push_back(record_head(448 * i, kPageShift, 56));
    data.insert(data.end(), 7, 0x5555555555555555);
  }
  const auto chain = chain_of(bitmap_message(data));

  read(Codec::kPageBitmap, chain);

  EXPECT_EQ(page_count(), 8000u * 224);
  EXPECT_GT(full_, 0);
  EXPECT_LE(most_ranges_, MessageReader::kMaxBatchRanges);
  EXPECT_EQ(reader_.batch().capacity(), MessageReader::kMaxBatchRanges);
}

TEST_F(MessageReaderTest, BuffersOfAChainAreTheMessageOfScatterGather) {
  const auto chain = chain_of({}, {{0x3000, 0x2000}, {0x9000, 0x1000}});

  read(Codec::kChunk, chain);

  EXPECT_THAT(ranges_, ElementsAre(PageRange{3, 2}, PageRange{9, 1}));
  EXPECT_THAT(errors_, IsEmpty());
}

TEST_F(MessageReaderTest, BufferThatFindsTheBatchFullMakesRoomFirst) {
  reader_.batch().resize(MessageReader::kMaxBatchRanges, PageRange{0, 1});
  const auto chain = chain_of({}, {{0x3000, 0x2000}});

  read(Codec::kChunk, chain);

  EXPECT_EQ(full_, 1);
  EXPECT_EQ(ranges_.size(), MessageReader::kMaxBatchRanges + 1);
  EXPECT_EQ(most_ranges_, MessageReader::kMaxBatchRanges);
}

TEST_F(MessageReaderTest, MessageThatIsStoppedBetweenWindowsKeepsWhatWasRead) {
  steps_left_ = 1;

  read(Codec::kPfnArray, chain_of({{0, 3 * kPayloadWindowBytes}}));

  EXPECT_EQ(page_count(), kPayloadWindowBytes / 4);
  EXPECT_THAT(errors_, IsEmpty());
}

TEST_F(MessageReaderTest, ManyBuffersAreReadSomeAtATime) {
  steps_left_ = 1;

  read(Codec::kChunk, chain_of({}, std::vector<GuestBuffer>(1000, {0x3000, 0x1000})));

  EXPECT_GT(ranges_.size(), 0u);
  EXPECT_LT(ranges_.size(), 1000u);
}

TEST_F(MessageReaderTest, MessageBehindAStoppedOneIsReadFromItsBeginning) {
  steps_left_ = 1;
  read(Codec::kPfnArray, chain_of({{0, 3 * kPayloadWindowBytes}}));
  ranges_.clear();
  steps_left_ = 10;

  read(Codec::kPfnArray, chain_of(pfn_message({8})));

  EXPECT_THAT(ranges_, ElementsAre(PageRange{8, 1}));
}

TEST_F(MessageReaderTest, BadBufferOfScatterGatherLeavesTheOthers) {
  const auto chain = chain_of({}, {{0x3000, 0x2000}, {0x9001, 0x1000}, {0xA000, 0x1000}});

  read(Codec::kChunk, chain);

  EXPECT_THAT(ranges_, ElementsAre(PageRange{3, 2}, PageRange{10, 1}));
  EXPECT_THAT(errors_, ElementsAre(Errc::kUnalignedRange));
}

TEST_F(MessageReaderTest, PayloadInScatterGatherIsRefusedAsAWhole) {
  const auto chain = chain_of({{0x10000, 4}}, {{0x3000, 0x1000}});

  read(Codec::kChunk, chain);

  EXPECT_THAT(ranges_, IsEmpty());
  EXPECT_THAT(errors_, ElementsAre(Errc::kUnexpectedReadable));
}

TEST_F(MessageReaderTest, WritableBufferBehindAnArrayIsCountedAndThePagesHold) {
  const auto chain = chain_of({{le32({5})}, {{0x3000, 0x1000}}});

  read(Codec::kPfnArray, chain);

  EXPECT_THAT(ranges_, ElementsAre(PageRange{5, 1}));
  EXPECT_THAT(errors_, ElementsAre(Errc::kUnexpectedWritable));
}

}  // namespace
}  // namespace vballoon
