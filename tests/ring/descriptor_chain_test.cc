// SPDX-License-Identifier: MIT
// Reading what a chain carries (src/ring/descriptor_chain.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <numeric>
#include <vector>

#include "ring/device_queue_fixture.h"
#include "vballoon/device_queue.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using testing::kNext;
using testing::kWrite;

std::byte pattern_at(std::uint64_t address) { return static_cast<std::byte>(address * 7 % 251); }

std::vector<std::byte> pattern(std::uint64_t address, std::size_t length) {
  std::vector<std::byte> bytes(length);
  for (std::size_t i = 0; i < length; ++i) bytes[i] = pattern_at(address + i);
  return bytes;
}

class DescriptorChainTest : public testing::DeviceQueueFixture {
 protected:
  DescriptorChainTest() {
    if (!memory_->write(kPayload, pattern(kPayload, 0x1000))) throw std::runtime_error("no memory");
  }
  // Three readable buffers, of 4, 0 and 6 bytes, and a writable one.
  DescriptorChain pop_three_pieces() {
    ring_.describe(0, {kPayload + 100, 4, kNext, 1});
    ring_.describe(1, {kPayload, 0, kNext, 2});
    ring_.describe(2, {kPayload + 200, 6, kNext, 3});
    ring_.describe(3, {kPayload + 300, 8, kWrite, 0});
    ring_.offer(0);
    return pop_chain();
  }
  std::vector<std::byte> bytes_at(std::uint64_t address, std::size_t length) const {
    std::vector<std::byte> bytes(length);
    EXPECT_TRUE(memory_->read(address, bytes));
    return bytes;
  }
  std::vector<std::byte> three_pieces() const {
    auto all = pattern(kPayload + 100, 4);
    const auto rest = pattern(kPayload + 200, 6);
    all.insert(all.end(), rest.begin(), rest.end());
    return all;
  }
};

TEST_F(DescriptorChainTest, ReadCrossesBuffers) {
  const DescriptorChain chain = pop_three_pieces();
  std::vector<std::byte> bytes(10);

  ASSERT_TRUE(chain.read(0, bytes));

  EXPECT_EQ(bytes, three_pieces());
}

TEST_F(DescriptorChainTest, ReadMayGoBack) {
  const DescriptorChain chain = pop_three_pieces();
  std::vector<std::byte> last(1);
  std::vector<std::byte> first(1);

  ASSERT_TRUE(chain.read(9, last));
  ASSERT_TRUE(chain.read(0, first));

  EXPECT_EQ(last[0], pattern_at(kPayload + 205));
  EXPECT_EQ(first[0], pattern_at(kPayload + 100));
}

TEST_F(DescriptorChainTest, ReadOfNothingAtTheEndSucceeds) {
  const DescriptorChain chain = pop_three_pieces();

  EXPECT_TRUE(chain.read(chain.readable_bytes(), {}));
}

TEST_F(DescriptorChainTest, WriteFillsTheWritableBuffersInOrder) {
  ring_.describe(0, {kPayload + 100, 4, static_cast<std::uint16_t>(kNext | kWrite), 1});
  ring_.describe(1, {kPayload + 200, 8, kWrite, 0});
  ring_.offer(0);
  DescriptorChain chain = pop_chain();

  ASSERT_TRUE(chain.write(pattern(7, 6)));

  EXPECT_EQ(chain.writable_bytes(), 12u);
  EXPECT_EQ(bytes_at(kPayload + 100, 4), pattern(7, 4));
  EXPECT_EQ(bytes_at(kPayload + 200, 2), pattern(11, 2));
  EXPECT_EQ(bytes_at(kPayload + 202, 1), pattern(kPayload + 202, 1)) << "nothing behind that";
}

TEST_F(DescriptorChainTest, BufferOutsideMemoryFailsTheWrite) {
  ring_.offer(0, {kMemoryBytes - 8, 16, kWrite, 0});
  DescriptorChain chain = pop_chain();

  const auto written = chain.write(pattern(0, 16));

  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, Errc::kAddressOutOfRange);
}

TEST_F(DescriptorChainTest, BufferThatComesRoundToTheStartOfMemoryFailsTheWrite) {
  ring_.offer(0, {~std::uint64_t{0} - 7, 16, kWrite, 0});
  DescriptorChain chain = pop_chain();

  EXPECT_FALSE(chain.write(pattern(0, 16)));
}

TEST_F(DescriptorChainTest, BufferOutsideMemoryFailsTheRead) {
  ring_.offer(0, {kMemoryBytes - 8, 16, 0, 0});
  const DescriptorChain chain = pop_chain();
  std::vector<std::byte> bytes(16);

  const auto read = chain.read(0, bytes);

  EXPECT_EQ(read.error().code, Errc::kAddressOutOfRange);
}

TEST_F(DescriptorChainTest, BufferThatComesRoundToAddressZeroFailsTheRead) {
  ring_.offer(0, {~std::uint64_t{7}, 16, 0, 0});
  const DescriptorChain chain = pop_chain();
  std::vector<std::byte> bytes(4);

  const auto read = chain.read(12, bytes);

  EXPECT_EQ(read.error().code, Errc::kAddressOutOfRange);
}

TEST_F(DescriptorChainTest, ChainWhoseReadFailedIsStillReturned) {
  ring_.offer(2, {kMemoryBytes, 16, 0, 0});
  {
    const DescriptorChain chain = pop_chain();
    std::vector<std::byte> bytes(16);
    ASSERT_FALSE(chain.read(0, bytes));
  }

  (void)queue_.publish();

  EXPECT_THAT(returned(), ElementsAre(testing::RawUsed{2, 0}));
}

TEST(DescriptorChainRegionsTest, BufferAcrossAdjacentRegionsIsRead) {
  const auto memory =
      GuestMemory::allocate(std::vector<RegionLayout>{{0, 0x10000}, {0x10000, 0x10000}}).value();
  testing::RawRing ring(memory, testing::raw_config(8));
  DeviceQueue queue;
  ASSERT_TRUE(queue.start(memory, testing::raw_config(8)));
  ASSERT_TRUE(memory->write(0x10000 - 4, pattern(0, 8)));
  ring.offer(0, {0x10000 - 4, 8, 0, 0});
  std::vector<std::byte> bytes(8);

  const auto popped = queue.pop();
  ASSERT_TRUE((*popped)->read(0, bytes));

  EXPECT_EQ(bytes, pattern(0, 8));
}

// Any windows, in order, give what one read gives.
RC_GTEST_FIXTURE_PROP(DescriptorChainTest, WindowsGiveTheSameBytesAsOneRead, ()) {
  const auto lengths = *rc::gen::container<std::vector<std::uint32_t>>(
      kSize, rc::gen::inRange<std::uint32_t>(0, 40));
  std::vector<std::byte> expected;
  for (std::uint16_t i = 0; i < kSize; ++i) {
    const std::uint64_t address = kPayload + 64u * i;
    const bool last = i + 1 == kSize;
    ring_.describe(i, {address, lengths[i], last ? std::uint16_t{0} : kNext,
                       static_cast<std::uint16_t>(i + 1)});
    const auto piece = pattern(address, lengths[i]);
    expected.insert(expected.end(), piece.begin(), piece.end());
  }
  ring_.offer(0);
  const DescriptorChain chain = pop_chain();
  const auto window = *rc::gen::inRange<std::size_t>(1, 50);

  std::vector<std::byte> bytes(chain.readable_bytes());
  for (std::size_t at = 0; at < bytes.size(); at += window) {
    RC_ASSERT(chain.read(at, std::span(bytes).subspan(at, std::min(window, bytes.size() - at)))
                  .has_value());
  }

  RC_ASSERT(bytes == expected);
}

}  // namespace
}  // namespace vballoon
