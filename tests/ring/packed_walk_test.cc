// SPDX-License-Identifier: MIT
// Lists of a hostile driver in a packed ring (src/ring/packed_walk.cc), as a device sees them
// through pop().
#include "ring/packed_walk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "ring/packed_queue_fixture.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using testing::kAvail;
using testing::kIndirect;
using testing::kNext;
using testing::kUsed;
using testing::kWrite;

class PackedWalkTest : public testing::PackedQueueFixture {
 protected:
  // A list of `count` descriptors of 16 bytes each; the last one has the id.
  void offer_list(std::uint16_t count, std::uint16_t id) {
    for (std::uint16_t i = 1; i < count; ++i) ring_.append({kPayload + 16u * i, 16, 0, kNext});
    ring_.append({kPayload, 16, id, 0});
  }
  // The first entry, which answers the malformed list, and where the next answer comes.
  void expect_returned(std::uint16_t id, std::uint16_t entries) {
    EXPECT_EQ(ring_.read(0).id, id);
    EXPECT_EQ(ring_.read(0).flags, kAvail | kUsed);
    EXPECT_EQ(queue_.position(), (QueuePosition{static_cast<std::uint16_t>(entries % kSize),
                                                static_cast<std::uint16_t>(entries % kSize),
                                                entries < kSize, entries < kSize}));
  }
};

TEST_F(PackedWalkTest, ReadableAndWritableBuffersAreToldApart) {
  ring_.append({0x30000, 10, 0, kNext});
  ring_.append({0x31000, 20, 0, kNext});
  ring_.append({0x32000, 30, 0, kWrite});

  const DescriptorChain chain = pop_chain();

  EXPECT_THAT(chain.readable(), ElementsAre(GuestBuffer{0x30000, 10}, GuestBuffer{0x31000, 20}));
  EXPECT_THAT(chain.writable(), ElementsAre(GuestBuffer{0x32000, 30}));
  EXPECT_EQ(chain.readable_bytes(), 30u);
}

TEST_F(PackedWalkTest, IdCountsInTheLastDescriptorOnly) {
  ring_.append({kPayload, 16, 99, kNext});
  ring_.append({kPayload, 16, 4, 0});
  answer();
  (void)queue_.publish();

  EXPECT_EQ(ring_.read(0).id, 4u);
}

TEST_F(PackedWalkTest, ListAsLongAsTheQueueIsTaken) {
  offer_list(kSize, 3);

  EXPECT_EQ(pop_chain().readable().size(), kSize);
}

TEST_F(PackedWalkTest, ListThatNeverEndsIsReturned) {
  for (std::uint16_t i = 0; i < kSize; ++i) ring_.append({kPayload, 16, i, kNext});

  EXPECT_EQ(pop_error_and_publish(), Errc::kDescriptorLoop);

  expect_returned(kSize - 1, kSize);
}

TEST_F(PackedWalkTest, ListThatRunsIntoEntriesOfTheDeviceIsReturned) {
  offer(1);
  const DescriptorChain held = pop_chain();
  for (std::uint16_t i = 1; i < kSize; ++i) ring_.append({kPayload, 16, i, kNext});

  EXPECT_EQ(pop_error(), Errc::kDescriptorLoop);

  EXPECT_TRUE(pop_is_empty());
}

TEST_F(PackedWalkTest, ListThatGoesOnInAnEntryNotMadeAvailableIsReturned) {
  ring_.append({kPayload, 16, 5, kNext});
  ring_.append({kPayload, 16, 6, kNext});

  EXPECT_EQ(pop_error_and_publish(), Errc::kDescriptorIndexOutOfRange);

  expect_returned(6, 2);
}

TEST_F(PackedWalkTest, ListBehindAMalformedOneIsTaken) {
  ring_.append({kPayload, 16, 0, kWrite | kNext});
  ring_.append({kPayload, 16, 0, kNext});
  ring_.append({kPayload, 16, 5, 0});
  ring_.append({0x31000, 8, 6, 0});
  (void)pop_error();

  EXPECT_THAT(pop_chain().readable(), ElementsAre(GuestBuffer{0x31000, 8}));
}

TEST_F(PackedWalkTest, ReadableBehindWritableIsReturned) {
  ring_.append({kPayload, 16, 0, kWrite | kNext});
  ring_.append({kPayload, 16, 0, kNext});
  ring_.append({kPayload, 16, 5, 0});

  EXPECT_EQ(pop_error_and_publish(), Errc::kReadableAfterWritable);

  expect_returned(5, 3);
}

TEST_F(PackedWalkTest, OneByteOverFourGibibytesIsReturned) {
  ring_.append({0, 0xFFFFFFFF, 0, kNext});
  ring_.append({0, 2, 5, kWrite});

  EXPECT_EQ(pop_error_and_publish(), Errc::kChainTooLarge);

  expect_returned(5, 2);
}

TEST_F(PackedWalkTest, BufferOutsideMemoryIsNotTheWalksConcern) {
  ring_.append({~std::uint64_t{0}, 4096, 0, kWrite});

  EXPECT_THAT(pop_chain().writable(), ElementsAre(GuestBuffer{~std::uint64_t{0}, 4096}));
}

TEST_F(PackedWalkTest, IndirectWithoutTheFeatureIsReturned) {
  ring_.append({kTable, 32, 5, kIndirect});

  EXPECT_EQ(pop_error_and_publish(), Errc::kIndirectNotNegotiated);

  expect_returned(5, 1);
}

class PackedIndirectWalkTest : public PackedWalkTest {
 protected:
  PackedIndirectWalkTest() { start_with_indirect(); }

  void describe_table(std::uint16_t count) {
    for (std::uint16_t i = 0; i < count; ++i) {
      ring_.write_at(kTable, i, {kPayload + 16u * i, 16, 0, 0});
    }
  }
};

TEST_F(PackedIndirectWalkTest, EntriesOfATableFollowOneAnother) {
  ring_.write_at(kTable, 0, {0x30000, 1, 0, 0});
  ring_.write_at(kTable, 1, {0x31000, 2, 0, kWrite});
  ring_.append({kTable, 32, 5, kIndirect});

  const DescriptorChain chain = pop_chain();

  EXPECT_THAT(chain.readable(), ElementsAre(GuestBuffer{0x30000, 1}));
  EXPECT_THAT(chain.writable(), ElementsAre(GuestBuffer{0x31000, 2}));
}

TEST_F(PackedIndirectWalkTest, IdAndFlagsButWriteAreIgnoredInATable) {
  ring_.write_at(kTable, 0, {0x30000, 1, 77, 0xFFFF});
  ring_.append({kTable, 16, 5, kIndirect});
  {
    const DescriptorChain chain = pop_chain();
    EXPECT_THAT(chain.writable(), ElementsAre(GuestBuffer{0x30000, 1}));
  }
  (void)queue_.publish();

  EXPECT_EQ(ring_.read(0).id, 5u);
}

TEST_F(PackedIndirectWalkTest, WriteFlagOfTheTableIsIgnored) {
  describe_table(1);
  ring_.append({kTable, 16, 5, kIndirect | kWrite});

  EXPECT_THAT(pop_chain().readable(), ElementsAre(GuestBuffer{kPayload, 16}));
}

TEST_F(PackedIndirectWalkTest, TableTakesOneEntryOfTheRing) {
  describe_table(4);
  ring_.append({kTable, 64, 5, kIndirect});
  ring_.append({0x31000, 8, 6, 0});
  (void)pop_chain();

  EXPECT_THAT(pop_chain().readable(), ElementsAre(GuestBuffer{0x31000, 8}));
}

TEST_F(PackedIndirectWalkTest, TableAsLongAsTheQueueIsTaken) {
  describe_table(kSize);
  ring_.append({kTable, kSize * 16, 5, kIndirect});

  EXPECT_EQ(pop_chain().readable().size(), kSize);
}

TEST_F(PackedIndirectWalkTest, TableLongerThanTheQueueIsReturned) {
  describe_table(kSize + 1);
  ring_.append({kTable, (kSize + 1) * 16, 5, kIndirect});

  EXPECT_EQ(pop_error_and_publish(), Errc::kDescriptorLoop);

  expect_returned(5, 1);
}

TEST_F(PackedIndirectWalkTest, TableInFrontOfADescriptorIsReturned) {
  describe_table(1);
  ring_.append({kTable, 16, 0, kIndirect | kNext});
  ring_.append({kPayload, 16, 5, 0});

  EXPECT_EQ(pop_error_and_publish(), Errc::kBadIndirectTable);

  expect_returned(5, 2);
}

TEST_F(PackedIndirectWalkTest, TableBehindADescriptorIsReturned) {
  describe_table(1);
  ring_.append({kPayload, 16, 0, kNext});
  ring_.append({kTable, 16, 5, kIndirect});

  EXPECT_EQ(pop_error_and_publish(), Errc::kBadIndirectTable);

  expect_returned(5, 2);
}

TEST_F(PackedIndirectWalkTest, EmptyTableIsReturned) {
  ring_.append({kTable, 0, 5, kIndirect});

  EXPECT_EQ(pop_error_and_publish(), Errc::kBadIndirectTable);

  expect_returned(5, 1);
}

TEST_F(PackedIndirectWalkTest, TableThatEndsWithinADescriptorIsReturned) {
  ring_.append({kTable, 24, 5, kIndirect});

  EXPECT_EQ(pop_error_and_publish(), Errc::kBadIndirectTable);

  expect_returned(5, 1);
}

TEST_F(PackedIndirectWalkTest, TableThatLeavesMemoryIsReturned) {
  ring_.append({kMemoryBytes - 16, 32, 5, kIndirect});

  EXPECT_EQ(pop_error_and_publish(), Errc::kAddressOutOfRange);

  expect_returned(5, 1);
}

TEST_F(PackedIndirectWalkTest, TableThatComesRoundToAddressZeroIsReturned) {
  ring_.append({~std::uint64_t{15}, 32, 5, kIndirect});

  EXPECT_EQ(pop_error_and_publish(), Errc::kAddressOutOfRange);

  expect_returned(5, 1);
}

TEST_F(PackedIndirectWalkTest, ReadableBehindWritableInATableIsReturned) {
  ring_.write_at(kTable, 0, {kPayload, 16, 0, kWrite});
  ring_.write_at(kTable, 1, {kPayload, 16, 0, 0});
  ring_.append({kTable, 32, 5, kIndirect});

  EXPECT_EQ(pop_error_and_publish(), Errc::kReadableAfterWritable);

  expect_returned(5, 1);
}

}  // namespace
}  // namespace vballoon
