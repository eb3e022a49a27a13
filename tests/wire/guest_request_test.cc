// SPDX-License-Identifier: MIT
// Requests of the host to the guest (src/wire/guest_request.cc), to the byte.
#include "wire/guest_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "vballoon/page_range.h"
#include "wire/dialect.h"
#include "wire/little_endian.h"
#include "wire/page_bitmap.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;

template <std::size_t size>
std::vector<unsigned> numbers(const std::array<std::byte, size>& bytes) {
  std::vector<unsigned> all;
  for (const std::byte byte : bytes) all.push_back(std::to_integer<unsigned>(byte));
  return all;
}

TEST(GuestRequestTest, RequestIsACommandSixReservedBytesAndAParameter) {
  std::array<std::byte, kRequestBytes> bytes;
  bytes.fill(std::byte{0xFF});

  write_request(bytes, {.command = 0x0201, .param = 0x1817161514131211});

  EXPECT_THAT(numbers(bytes), ElementsAre(0x01, 0x02, 0, 0, 0, 0, 0, 0, 0x11, 0x12, 0x13, 0x14,
                                          0x15, 0x16, 0x17, 0x18));
}

TEST(GuestRequestTest, RequestIsReadAsItWasWritten) {
  std::array<std::byte, kRequestBytes> bytes;
  write_request(bytes, {.command = 7, .param = 9});

  EXPECT_EQ(read_request(bytes).command, 7);
  EXPECT_EQ(read_request(bytes).param, 9u);
}

TEST(GuestRequestTest, HeaderOfTheLastAnswerSaysSo) {
  std::array<std::byte, kAnswerHeaderBytes> bytes;

  write_answer_header(bytes, {.command = 1, .last = true, .id = 0x0302, .data_bytes = 0x17161514});

  EXPECT_THAT(numbers(bytes), ElementsAre(1, 1, 0x02, 0x03, 0x14, 0x15, 0x16, 0x17));
}

TEST(GuestRequestTest, HeaderIsReadAsItWasWritten) {
  std::array<std::byte, kAnswerHeaderBytes> bytes;
  write_answer_header(bytes, {.command = 0, .last = false, .id = 0xABCD, .data_bytes = 24});

  const AnswerHeader header = read_answer_header(bytes);

  EXPECT_EQ(header.command, 0);
  EXPECT_FALSE(header.last);
  EXPECT_EQ(header.id, 0xABCD);
  EXPECT_EQ(header.data_bytes, 24u);
}

TEST(GuestRequestTest, StartIsClassZeroCommandOne) {
  std::array<std::byte, kControlBytes> bytes;

  write_control(bytes, ControlCommand::kStart);

  EXPECT_THAT(numbers(bytes), ElementsAre(0, 0, 0, 0, 1, 0, 0, 0));
}

TEST(GuestRequestTest, ControlMessageIsReadWhateverItSays) {
  std::array<std::byte, kControlBytes> bytes{};
  store_le(bytes.data(), std::uint32_t{5});
  store_le(bytes.data() + 4, std::uint32_t{6});

  EXPECT_EQ(read_control(bytes).of_class, 5u);
  EXPECT_EQ(read_control(bytes).command, 6u);
}

TEST(GuestRequestTest, FreeBlockIsARecordWithoutABitmap) {
  EXPECT_EQ(block_record(0x400, 10), 0x0160000000000400u);
}

TEST(GuestRequestTest, AnswersAreDecodedAsPageBitmaps) {
  const DialectRow& row = dialect_row(Dialect::kPageBitmap);

  EXPECT_EQ(row.queues[3].role, QueueRole::kRequest);
  EXPECT_EQ(row.queues[3].codec, Codec::kPageBitmap);
}

}  // namespace
}  // namespace vballoon
