// SPDX-License-Identifier: MIT
// A device behind an IOMMU, on both rings (src/ring/device_memory.cc, src/ring/chain_buffers.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "ring/both_rings_fixture.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using testing::RawUsed;
using testing::RingKind;
using ::testing::Values;

class AddressTranslationTest : public testing::BothRingsFixture {
 protected:
  static constexpr std::uint64_t kPage = 4096;
  // Device addresses of the rings, of tables and of payloads are this far above guest-physical
  // ones.
  static constexpr std::uint64_t kOffset = std::uint64_t{1} << 40;

  AddressTranslationTest() { map(0, kMemoryBytes, true); }

  // Device pages from kOffset + guest on.
  void map(std::uint64_t guest, std::uint64_t bytes, bool writable) {
    for (std::uint64_t at = guest; at < guest + bytes; at += kPage) {
      pages_[kOffset + at] = {at, writable};
    }
  }
  void map_page(std::uint64_t device, std::uint64_t guest) { pages_[device] = {guest, true}; }

  // One page at a time, two where they follow one another.
  std::optional<TranslatedPiece> translate(std::uint64_t address, std::uint64_t length,
                                           bool write) const {
    const auto at = [&](std::uint64_t page) {
      const auto found = pages_.find(page);
      return found == pages_.end() || (write && !found->second.writable) ? nullptr : &found->second;
    };
    const std::uint64_t page = address / kPage * kPage;
    const Page* first = at(page);
    if (first == nullptr) return std::nullopt;
    std::uint64_t end = page + kPage;
    for (const Page* next = at(end);
         next != nullptr && next->guest == first->guest + (end - page) && end < address + length;
         next = at(end)) {
      end += kPage;
    }
    return TranslatedPiece{first->guest + address % kPage, end - address};
  }

  Result<void> start_translated() {
    QueueConfig config = config_;
    config.indirect = true;
    config.descriptor_table += kOffset;
    config.available_ring += kOffset;
    config.used_ring += kOffset;
    return queue_.start(memory_, config, {},
                        [this](std::uint64_t address, std::uint64_t length, bool write) {
                          return translate(address, length, write);
                        });
  }

  struct Page {
    std::uint64_t guest;
    bool writable;
  };
  std::map<std::uint64_t, Page> pages_;
};

INSTANTIATE_TEST_SUITE_P(BothRings, AddressTranslationTest,
                         Values(RingKind::kSplit, RingKind::kPacked), testing::ring_name);

TEST_P(AddressTranslationTest, RingsAndBuffersAreTranslated) {
  ASSERT_TRUE(start_translated());
  driver_->offer(1, {{kOffset + 0x30000, 16}, {kOffset + 0x31000, 32, true}});

  DescriptorChain chain = pop_chain();

  EXPECT_THAT(chain.readable(), ElementsAre(GuestBuffer{0x30000, 16}));
  EXPECT_THAT(chain.writable(), ElementsAre(GuestBuffer{0x31000, 32}));
  chain.complete(5);
  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{1, 5}));
}

TEST_P(AddressTranslationTest, BufferInSeveralPiecesIsSplit) {
  map_page(0x10000, 0x35000);
  map_page(0x11000, 0x33000);
  ASSERT_TRUE(start_translated());
  driver_->offer(0, {{0x10000 + 4000, 200}});

  const DescriptorChain chain = pop_chain();

  EXPECT_THAT(chain.readable(),
              ElementsAre(GuestBuffer{0x35000 + 4000, 96}, GuestBuffer{0x33000, 104}));
  EXPECT_EQ(chain.readable_bytes(), 200u);
}

TEST_P(AddressTranslationTest, PayloadIsReadAcrossItsPieces) {
  map_page(0x10000, 0x35000);
  map_page(0x11000, 0x33000);
  ASSERT_TRUE(memory_->write(0x35FFF, std::vector{std::byte{1}}));
  ASSERT_TRUE(memory_->write(0x33000, std::vector{std::byte{2}}));
  ASSERT_TRUE(start_translated());
  driver_->offer(0, {{0x10FFF, 2}});
  std::vector<std::byte> bytes(2);

  ASSERT_TRUE(pop_chain().read(0, bytes));

  EXPECT_THAT(bytes, ElementsAre(std::byte{1}, std::byte{2}));
}

TEST_P(AddressTranslationTest, MorePiecesThanTheQueueHasEntriesAreReturned) {
  for (std::uint64_t i = 0; i <= kSize; ++i) map_page(0x10000 + i * kPage, 0x50000 - i * 2 * kPage);
  ASSERT_TRUE(start_translated());
  driver_->offer(2, {{0x10000, (kSize + 1) * kPage}});

  EXPECT_EQ(pop_error(), Errc::kDescriptorLoop);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{2, 0}));
}

TEST_P(AddressTranslationTest, AddressWithoutTranslationIsReturned) {
  ASSERT_TRUE(start_translated());
  driver_->offer(2, {{0x30000, 16}});

  EXPECT_EQ(pop_error(), Errc::kAddressOutOfRange);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{2, 0}));
}

TEST_P(AddressTranslationTest, BufferThatEndsWithoutTranslationIsReturned) {
  ASSERT_TRUE(start_translated());
  driver_->offer(2, {{kOffset + kMemoryBytes - 8, 16}});

  EXPECT_EQ(pop_error(), Errc::kAddressOutOfRange);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{2, 0}));
}

TEST_P(AddressTranslationTest, BufferThatComesRoundToAddressZeroIsReturned) {
  ASSERT_TRUE(start_translated());
  driver_->offer(2, {{~std::uint64_t{7}, 16}});

  EXPECT_EQ(pop_error(), Errc::kAddressOutOfRange);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{2, 0}));
}

TEST_P(AddressTranslationTest, WritableBufferInReadOnlyMemoryIsReturned) {
  map(0x40000, kPage, false);
  ASSERT_TRUE(start_translated());
  driver_->offer(2, {{kOffset + 0x40000, 16, true}});

  EXPECT_EQ(pop_error(), Errc::kAddressOutOfRange);

  EXPECT_THAT(publish_and_take(), ElementsAre(RawUsed{2, 0}));
}

TEST_P(AddressTranslationTest, ReadableBufferInReadOnlyMemoryIsTaken) {
  map(0x40000, kPage, false);
  ASSERT_TRUE(start_translated());
  driver_->offer(2, {{kOffset + 0x40000, 16}});

  EXPECT_THAT(pop_chain().readable(), ElementsAre(GuestBuffer{0x40000, 16}));
}

TEST_P(AddressTranslationTest, BufferOfLengthZeroNeedsNoTranslation) {
  ASSERT_TRUE(start_translated());
  driver_->offer(2, {{0x123, 0}});

  EXPECT_EQ(pop_chain().readable().size(), 1u);
}

// The driver of the test writes guest-physical memory, so the second page of the table is moved to
// where the device finds it.
TEST_P(AddressTranslationTest, IndirectTableInTwoPiecesIsRead) {
  map_page(0x35000, 0x35000);
  map_page(0x36000, 0x33000);
  ASSERT_TRUE(start_translated());
  driver_->offer_indirect(4, 0x36000 - 24,
                          {{kOffset + 0x30000, 1}, {kOffset + 0x31000, 2}, {kOffset + 0x32000, 3}});
  std::vector<std::byte> second(24);
  ASSERT_TRUE(memory_->read(0x36000, second));
  ASSERT_TRUE(memory_->write(0x33000, second));
  ASSERT_TRUE(memory_->write(0x36000, std::vector<std::byte>(24)));

  const DescriptorChain chain = pop_chain();

  EXPECT_THAT(chain.readable(), ElementsAre(GuestBuffer{0x30000, 1}, GuestBuffer{0x31000, 2},
                                            GuestBuffer{0x32000, 3}));
}

TEST_P(AddressTranslationTest, RingPartWithoutTranslationIsRefused) {
  pages_.erase(kOffset + config_.available_ring);

  EXPECT_EQ(start_translated().error().code, Errc::kBadQueueConfig);
}

TEST_P(AddressTranslationTest, PartThatTheDeviceCannotWriteIsRefused) {
  map(config_.used_ring, kPage, false);

  EXPECT_EQ(start_translated().error().code, Errc::kBadQueueConfig);
}

TEST_P(AddressTranslationTest, RingPartInTwoPiecesIsRefused) {
  config_ = make_config(512);
  map_page(kOffset + kPage, 0x60000);

  EXPECT_EQ(start_translated().error().code, Errc::kBadQueueConfig);
}

TEST_P(AddressTranslationTest, PieceWithoutBytesEndsTheChain) {
  driver_->offer(2, {{0x30000, 16}});
  ASSERT_TRUE(
      queue_.start(memory_, config_, {}, [](std::uint64_t address, std::uint64_t length, bool) {
        return std::optional(TranslatedPiece{address, address == 0x30000 ? 0 : length});
      }));

  EXPECT_EQ(pop_error(), Errc::kAddressOutOfRange);
}

TEST_P(AddressTranslationTest, PieceLongerThanAskedForIsCut) {
  driver_->offer(2, {{0x30000, 16}});
  ASSERT_TRUE(queue_.start(memory_, config_, {}, [](std::uint64_t address, std::uint64_t, bool) {
    return std::optional(TranslatedPiece{address, ~std::uint64_t{0}});
  }));

  EXPECT_THAT(pop_chain().readable(), ElementsAre(GuestBuffer{0x30000, 16}));
}

}  // namespace
}  // namespace vballoon
