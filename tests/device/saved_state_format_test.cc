// SPDX-License-Identifier: MIT
// The frame of a saved state and the numbers in it (src/device/saved_state.cc), and how long a
// state gets (src/device/device_state.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string_view>
#include <utility>

#include "device/device_state.h"
#include "device/saved_state.h"
#include "device/test_messages.h"

namespace vballoon {
namespace {

using testing::Bytes;

TEST(SavedStateFormatTest, ChecksumIsFnv1a) {
  const std::string_view text = "foobar";

  EXPECT_EQ(state_checksum(std::as_bytes(std::span(text))), 0x85944171F73967E8);
}

TEST(SavedStateFormatTest, FrameIsAsDocumented) {
  StateWriter content;
  content.put(std::uint8_t{0xAB});
  const Bytes sealed = seal(StateKind::kMmioTransport, std::move(content));

  Bytes expected;
  for (const char letter : std::string_view("vballoon")) {
    testing::append_le(expected, static_cast<std::uint8_t>(letter));
  }
  testing::append_le(expected, std::uint32_t{2});
  testing::append_le(expected, std::uint32_t{2});
  testing::append_le(expected, std::uint64_t{1});
  testing::append_le(expected, std::uint8_t{0xAB});
  testing::append_le(expected, state_checksum(expected));
  EXPECT_EQ(sealed, expected);
}

TEST(SavedStateFormatTest, NumbersComeBack) {
  StateWriter out;
  out.put(std::uint8_t{1});
  out.put(std::uint16_t{0x1234});
  out.put(std::uint64_t{0x123456789ABCDEF0});
  StateReader in(out.bytes());

  EXPECT_EQ(in.get<std::uint8_t>(), 1);
  EXPECT_EQ(in.get<std::uint16_t>(), 0x1234);
  EXPECT_EQ(in.get<std::uint64_t>(), 0x123456789ABCDEF0);
  EXPECT_TRUE(in.ok() && in.at_end());
}

TEST(SavedStateFormatTest, NothingIsReadBehindTheEnd) {
  const Bytes bytes(3, std::byte{1});
  StateReader in(bytes);

  EXPECT_EQ(in.get<std::uint32_t>(), 0u);
  EXPECT_EQ(in.get<std::uint8_t>(), 0u) << "nor in front of it, once something was wrong";
  EXPECT_FALSE(in.ok());
}

TEST(SavedStateFormatTest, CountOfMoreThanCanBeThereIsRefused) {
  const Bytes bytes = testing::le32({1'000'000, 0, 0});
  StateReader in(bytes);

  EXPECT_EQ((in.get_count<std::uint32_t>(2'000'000, 4)), 0u);
  EXPECT_FALSE(in.ok());
}

TEST(SavedStateFormatTest, CountBeyondItsMostIsRefused) {
  const Bytes bytes = testing::le32({2, 0, 0});
  StateReader in(bytes);

  EXPECT_EQ((in.get_count<std::uint32_t>(1, 4)), 0u);
  EXPECT_FALSE(in.ok());
}

// ---- the ledger --------------------------------------------------------------------------------

class LedgerStateTest : public ::testing::Test {
 protected:
  LedgerStateTest() { state_.ledger = Ledger(kPages); }

  static constexpr std::uint64_t kPages = 1 << 20;

  std::size_t encoded_bytes() const { return encode(state_, make_).size(); }

  const MemoryRegion region_{.bytes = kPages * kPageSize};
  const DeviceMake make_{.offered = {}, .regions = std::span(&region_, 1)};
  DeviceState state_;
  Ledger::Booked booked_;
};

TEST_F(LedgerStateTest, LargePiecesTakeNextToNothing) {
  const std::size_t empty = encoded_bytes();

  state_.ledger.inflate_whole(100, 10'000, booked_);

  EXPECT_LE(encoded_bytes(), empty + 12);
}

TEST_F(LedgerStateTest, NoLedgerTakesMoreThanItsBitsAndABit) {
  for (std::uint64_t word = 0; word < kPages / 64; word += 2)
    state_.ledger.inflate(word, 5, booked_);

  EXPECT_LE(encoded_bytes(), 2 * kPages / 8 + 1024);
}

TEST_F(LedgerStateTest, EveryPageComesBack) {
  state_.ledger.inflate(0, 0xF0F0, booked_);
  state_.ledger.inflate_whole(7, 2, booked_);
  state_.ledger.inflate(kPages / 64 - 1, ~std::uint64_t{0}, booked_);
  state_.ledger.owe({7 * 64, 3});

  const DeviceState again = decode(encode(state_, make_), make_).value();

  EXPECT_EQ(again.ledger.ballooned_pages(), 8u + 128u + 64u);
  EXPECT_EQ(again.ledger.owed_pages(), 3u);
  EXPECT_TRUE(again.ledger.is_ballooned(15));
  EXPECT_FALSE(again.ledger.is_ballooned(16));
}

}  // namespace
}  // namespace vballoon
