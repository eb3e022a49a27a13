// SPDX-License-Identifier: MIT
// Messages made of an input's bytes: as the format wants them with a few bytes for each page, or
// just those bytes.
#ifndef VBALLOON_TESTS_FUZZ_FUZZ_MESSAGES_H_
#define VBALLOON_TESTS_FUZZ_FUZZ_MESSAGES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "vballoon/guest_buffer.h"
#include "vballoon/page_range.h"
#include "wire/dialect.h"

namespace vballoon::fuzz {

struct FuzzMessage {
  std::vector<std::byte> payload;
  std::vector<GuestBuffer> writable;
};

inline void append_number(std::vector<std::byte>& out, std::uint64_t value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}

// Some pages up to a little beyond the last one.
inline PageRange take_range(FuzzInput& input) {
  const auto number = input.take<std::uint16_t>();
  return {number % 600u, 1 + number / 600u % 64};
}

// Writes a number over what stands there.
inline void put_number(std::vector<std::byte>& out, std::size_t at, std::uint64_t value,
                       unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) out[at + i] = static_cast<std::byte>(value >> (8 * i));
}

// A message with the header that the format has, if any, and its length, made right at the end.
inline void begin_message(std::vector<std::byte>& payload, Codec codec, PageRange first) {
  switch (codec) {
    case Codec::kPageBitmap:
    case Codec::kRangeList:
    case Codec::kPageChunks:
      return append_number(payload, 0, 8);
    case Codec::kSingleHeader:
      append_number(payload, 12 << 16, 8);
      append_number(payload, 0, 8);
      append_number(payload, first.first, 8);
      return append_number(payload, 0, 8);
    case Codec::kPfnArray:
    case Codec::kWidePfnArray:
    case Codec::kChunk:
    case Codec::kContPages:
      return;
  }
}
inline void end_message(std::vector<std::byte>& payload, Codec codec) {
  if (codec == Codec::kPageBitmap || codec == Codec::kRangeList) {
    put_number(payload, 4, payload.size() - 8, 4);
  } else if (codec == Codec::kSingleHeader) {
    put_number(payload, 24, payload.size() - 32, 8);
  } else if (codec == Codec::kPageChunks) {
    put_number(payload, 0, (payload.size() - 8) / 16, 8);
  }
}

inline FuzzMessage take_pages(FuzzInput& input, Codec codec) {
  FuzzMessage message;
  const auto ranges = static_cast<std::uint64_t>(1 + input.take<std::uint8_t>() % 12);
  for (std::uint64_t i = 0; i < ranges; ++i) {
    const PageRange range = take_range(input);
    if (i == 0) begin_message(message.payload, codec, range);
    switch (codec) {
      case Codec::kPfnArray:
      case Codec::kWidePfnArray:
        for (Pfn pfn = range.first; pfn < range.end(); ++pfn) {
          append_number(message.payload, pfn, codec == Codec::kPfnArray ? 4 : 8);
        }
        break;
      case Codec::kPageBitmap: {
        const std::uint64_t shape = input.take<std::uint8_t>();
        const std::uint64_t words = shape % 8;
        append_number(message.payload, range.first | (12 + shape / 32) << 52 | words << 61, 8);
        for (std::uint64_t w = 0; w < words; ++w) {
          append_number(message.payload, range.count * (0x0101010101010101 + w), 8);
        }
        break;
      }
      case Codec::kChunk:
        message.writable.push_back(
            {range.first << kPageShift, static_cast<std::uint32_t>(range.count << kPageShift)});
        break;
      case Codec::kSingleHeader:
        append_number(message.payload, range.count * 0x0101010101010101, 8);
        break;
      case Codec::kRangeList:
        append_number(message.payload, range.first << 12 | range.count % 40, 8);
        if (range.count % 40 == 0) append_number(message.payload, range.count, 8);
        break;
      case Codec::kPageChunks:
        append_number(message.payload, range.first << 12, 8);
        append_number(message.payload, range.count << 12, 8);
        break;
      case Codec::kContPages:
        append_number(message.payload, range.first, 4);
        append_number(message.payload, range.count << kPageShift, 4);
        break;
    }
  }
  end_message(message.payload, codec);
  return message;
}

inline FuzzMessage take_bytes(FuzzInput& input) {
  const auto bytes = input.take_bytes(input.take<std::uint8_t>());
  return {{bytes.begin(), bytes.end()}, {}};
}

inline GuestBuffer take_buffer(FuzzInput& input) {
  return {std::uint64_t{input.take<std::uint32_t>()} << (input.take<std::uint8_t>() % 40),
          input.take<std::uint32_t>()};
}

}  // namespace vballoon::fuzz

#endif  // VBALLOON_TESTS_FUZZ_FUZZ_MESSAGES_H_
