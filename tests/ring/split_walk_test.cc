// SPDX-License-Identifier: MIT
// Chains of a hostile driver (src/ring/split_walk.cc), as a device sees them through pop().
#include "ring/split_walk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "ring/device_queue_fixture.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using testing::kIndirect;
using testing::kNext;
using testing::kWrite;
using testing::RawUsed;

class SplitWalkTest : public testing::DeviceQueueFixture {
 protected:
  // Descriptors `from` to `to` in a row, each naming 16 bytes and the next one.
  void describe_row(std::uint16_t from, std::uint16_t to) {
    for (std::uint16_t i = from; i <= to; ++i) {
      ring_.describe(i, {kPayload + 16u * i, 16, kNext, static_cast<std::uint16_t>(i + 1)});
    }
  }
  void describe_table_row(std::uint16_t count) {
    for (std::uint16_t i = 0; i < count; ++i) {
      const bool last = i + 1 == count;
      ring_.describe_at(kTable, i,
                        {kPayload + 16u * i, 16, last ? std::uint16_t{0} : kNext,
                         static_cast<std::uint16_t>(i + 1)});
    }
  }
};

TEST_F(SplitWalkTest, ReadableAndWritableBuffersAreToldApart) {
  ring_.describe(3, {0x30000, 10, kNext, 1});
  ring_.describe(1, {0x31000, 20, kNext, 6});
  ring_.describe(6, {0x32000, 30, kWrite, 0});
  ring_.offer(3);

  const DescriptorChain chain = pop_chain();

  EXPECT_THAT(chain.readable(), ElementsAre(GuestBuffer{0x30000, 10}, GuestBuffer{0x31000, 20}));
  EXPECT_THAT(chain.writable(), ElementsAre(GuestBuffer{0x32000, 30}));
  EXPECT_EQ(chain.readable_bytes(), 30u);
}

TEST_F(SplitWalkTest, BufferOutsideMemoryIsNotTheWalksConcern) {
  ring_.offer(0, {~std::uint64_t{0}, 4096, kWrite, 0});

  const DescriptorChain chain = pop_chain();

  EXPECT_THAT(chain.writable(), ElementsAre(GuestBuffer{~std::uint64_t{0}, 4096}));
}

TEST_F(SplitWalkTest, BufferOfLengthZeroStays) {
  ring_.offer(0, {kPayload, 0, 0, 0});

  const DescriptorChain chain = pop_chain();

  EXPECT_THAT(chain.readable(), ElementsAre(GuestBuffer{kPayload, 0}));
}

TEST_F(SplitWalkTest, ChainAsLongAsTheQueueIsTaken) {
  describe_row(0, 6);
  ring_.describe(7, {kPayload, 16, 0, 0});
  ring_.offer(0);

  const DescriptorChain chain = pop_chain();

  EXPECT_EQ(chain.readable().size(), 8u);
}

TEST_F(SplitWalkTest, LoopIsReturnedWithLengthZero) {
  describe_row(0, 7);
  ring_.describe(7, {kPayload, 16, kNext, 0});
  ring_.offer(0);

  EXPECT_EQ(pop_error_and_publish(), Errc::kDescriptorLoop);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(SplitWalkTest, DescriptorThatNamesItselfIsReturned) {
  ring_.offer(5, {kPayload, 0, kNext, 5});

  EXPECT_EQ(pop_error_and_publish(), Errc::kDescriptorLoop);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{5, 0}));
}

TEST_F(SplitWalkTest, NextOutsideTheTableIsReturned) {
  ring_.offer(2, {kPayload, 16, kNext, 8});

  EXPECT_EQ(pop_error_and_publish(), Errc::kDescriptorIndexOutOfRange);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{2, 0}));
}

TEST_F(SplitWalkTest, NextWithoutItsFlagIsIgnored) {
  ring_.offer(2, {kPayload, 16, 0, 60000});

  const DescriptorChain chain = pop_chain();

  EXPECT_THAT(chain.readable(), ElementsAre(GuestBuffer{kPayload, 16}));
}

TEST_F(SplitWalkTest, ReadableBehindWritableIsReturned) {
  ring_.describe(1, {kPayload, 16, 0, 0});
  ring_.offer(0, {kPayload, 16, kWrite | kNext, 1});

  EXPECT_EQ(pop_error_and_publish(), Errc::kReadableAfterWritable);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(SplitWalkTest, FourGibibytesAreTaken) {
  ring_.describe(1, {0, 1, kWrite, 0});
  ring_.offer(0, {0, 0xFFFFFFFF, kWrite | kNext, 1});

  const DescriptorChain chain = pop_chain();

  EXPECT_EQ(chain.writable().size(), 2u);
}

TEST_F(SplitWalkTest, OneByteOverFourGibibytesIsReturned) {
  ring_.describe(1, {0, 2, kWrite, 0});
  ring_.offer(0, {0, 0xFFFFFFFF, kNext, 1});

  EXPECT_EQ(pop_error_and_publish(), Errc::kChainTooLarge);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(SplitWalkTest, IndirectWithoutTheFeatureIsReturned) {
  describe_table_row(2);
  ring_.offer(0, {kTable, 32, kIndirect, 0});

  EXPECT_EQ(pop_error_and_publish(), Errc::kIndirectNotNegotiated);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

class IndirectWalkTest : public SplitWalkTest {
 protected:
  IndirectWalkTest() { start_with_indirect(); }
};

// SPL-D-07: WRITE has no meaning in the descriptor of a table.
TEST_F(IndirectWalkTest, WriteFlagOfTheTableIsIgnored) {
  describe_table_row(2);
  ring_.offer(0, {kTable, 32, kIndirect | kWrite, 0});

  const DescriptorChain chain = pop_chain();

  EXPECT_THAT(chain.readable(),
              ElementsAre(GuestBuffer{kPayload, 16}, GuestBuffer{kPayload + 16, 16}));
}

// SPL-D-08.
TEST_F(IndirectWalkTest, DirectDescriptorsInFrontOfATableComeFirst) {
  describe_table_row(1);
  ring_.describe(4, {kTable, 16, kIndirect, 0});
  ring_.offer(2, {0x50000, 8, kNext, 4});

  const DescriptorChain chain = pop_chain();

  EXPECT_THAT(chain.readable(), ElementsAre(GuestBuffer{0x50000, 8}, GuestBuffer{kPayload, 16}));
}

TEST_F(IndirectWalkTest, TableNeedNotBeAligned) {
  ring_.describe_at(kTable + 3, 0, {kPayload, 16, 0, 0});
  ring_.offer(0, {kTable + 3, 16, kIndirect, 0});

  const DescriptorChain chain = pop_chain();

  EXPECT_THAT(chain.readable(), ElementsAre(GuestBuffer{kPayload, 16}));
}

TEST_F(IndirectWalkTest, TableChainAsLongAsTheQueueIsTaken) {
  describe_table_row(8);
  ring_.offer(0, {kTable, 8 * 16, kIndirect, 0});

  const DescriptorChain chain = pop_chain();

  EXPECT_EQ(chain.readable().size(), 8u);
}

TEST_F(IndirectWalkTest, TableChainLongerThanTheQueueIsReturned) {
  describe_table_row(9);
  ring_.offer(0, {kTable, 9 * 16, kIndirect, 0});

  EXPECT_EQ(pop_error_and_publish(), Errc::kDescriptorLoop);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(IndirectWalkTest, DirectAndTableTogetherLongerThanTheQueueAreReturned) {
  describe_table_row(8);
  ring_.describe(1, {kTable, 8 * 16, kIndirect, 0});
  ring_.offer(0, {kPayload, 16, kNext, 1});

  EXPECT_EQ(pop_error_and_publish(), Errc::kDescriptorLoop);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(IndirectWalkTest, LoopInATableIsReturned) {
  ring_.describe_at(kTable, 0, {kPayload, 16, kNext, 0});
  ring_.offer(0, {kTable, 16, kIndirect, 0});

  EXPECT_EQ(pop_error_and_publish(), Errc::kDescriptorLoop);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(IndirectWalkTest, NextOutsideItsTableIsReturned) {
  ring_.describe_at(kTable, 0, {kPayload, 16, kNext, 1});
  ring_.describe_at(kTable, 1, {kPayload, 16, 0, 0});
  ring_.offer(0, {kTable, 16, kIndirect, 0});

  EXPECT_EQ(pop_error_and_publish(), Errc::kDescriptorIndexOutOfRange);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(IndirectWalkTest, TableInATableIsReturned) {
  ring_.describe_at(kTable, 0, {kTable, 16, kIndirect, 0});
  ring_.offer(0, {kTable, 16, kIndirect, 0});

  EXPECT_EQ(pop_error_and_publish(), Errc::kBadIndirectTable);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(IndirectWalkTest, EmptyTableIsReturned) {
  ring_.offer(0, {kTable, 0, kIndirect, 0});

  EXPECT_EQ(pop_error_and_publish(), Errc::kBadIndirectTable);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(IndirectWalkTest, TableThatEndsWithinADescriptorIsReturned) {
  ring_.offer(0, {kTable, 24, kIndirect, 0});

  EXPECT_EQ(pop_error_and_publish(), Errc::kBadIndirectTable);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(IndirectWalkTest, TableWithADescriptorBehindItIsReturned) {
  describe_table_row(1);
  ring_.describe(1, {kPayload, 16, 0, 0});
  ring_.offer(0, {kTable, 16, kIndirect | kNext, 1});

  EXPECT_EQ(pop_error_and_publish(), Errc::kBadIndirectTable);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(IndirectWalkTest, TableOutsideMemoryIsReturned) {
  ring_.offer(0, {kMemoryBytes, 16, kIndirect, 0});

  EXPECT_EQ(pop_error_and_publish(), Errc::kAddressOutOfRange);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(IndirectWalkTest, TableThatLeavesMemoryIsReturned) {
  ring_.describe_at(kMemoryBytes - 16, 0, {kPayload, 16, kNext, 1});
  ring_.offer(0, {kMemoryBytes - 16, 32, kIndirect, 0});

  EXPECT_EQ(pop_error_and_publish(), Errc::kAddressOutOfRange);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(IndirectWalkTest, TableThatComesRoundToAddressZeroIsReturned) {
  ring_.offer(0, {~std::uint64_t{15}, 32, kIndirect, 0});

  EXPECT_EQ(pop_error_and_publish(), Errc::kAddressOutOfRange);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST_F(IndirectWalkTest, ReadableBehindWritableInATableIsReturned) {
  ring_.describe_at(kTable, 0, {kPayload, 16, kNext | kWrite, 1});
  ring_.describe_at(kTable, 1, {kPayload, 16, 0, 0});
  ring_.offer(0, {kTable, 32, kIndirect, 0});

  EXPECT_EQ(pop_error_and_publish(), Errc::kReadableAfterWritable);

  EXPECT_THAT(returned(), ElementsAre(RawUsed{0, 0}));
}

TEST(SplitWalkRegionsTest, TableAcrossAdjacentRegionsIsRead) {
  const auto memory =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, 0x10000}, {0x10000, 0x10000}}).value();
  QueueConfig config = testing::raw_config(8);
  config.indirect = true;
  testing::RawRing ring(memory, config);
  const std::uint64_t table = 0x10000 - 24;
  ring.describe_at(table, 0, {0x1000, 1, kNext, 1});
  ring.describe_at(table, 1, {0x2000, 2, 0, 0});
  const auto layout = SplitLayout::locate(*memory, config);
  ring.describe(0, {table, 32, kIndirect, 0});
  std::vector<GuestBuffer> buffers(8);
  WalkedChain chain;

  const auto error = walk_chain(*memory, layout.value(), true, 0, buffers, chain);

  EXPECT_EQ(error, std::nullopt);
  EXPECT_EQ(chain.readable, 2u);
  EXPECT_EQ(buffers[1], (GuestBuffer{0x2000, 2}));
}

}  // namespace
}  // namespace vballoon
