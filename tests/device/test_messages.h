// SPDX-License-Identifier: MIT
// Messages as bytes, written here from the descriptions of the formats and not with the library's
// own encoders.
#ifndef VBALLOON_TESTS_DEVICE_TEST_MESSAGES_H_
#define VBALLOON_TESTS_DEVICE_TEST_MESSAGES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <utility>
#include <vector>

#include "vballoon/features.h"
#include "vballoon/guest_buffer.h"
#include "vballoon/page_range.h"

namespace vballoon::testing {

using Bytes = std::vector<std::byte>;

// One chain: each piece is a readable descriptor of its own.
struct Message {
  std::vector<Bytes> pieces;
  std::vector<GuestBuffer> writable = {};
};

template <typename T>
void append_le(Bytes& out, T value) {
  for (unsigned i = 0; i < sizeof(T); ++i) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}

inline Bytes le32(std::span<const std::uint32_t> values) {
  Bytes out;
  for (const std::uint32_t value : values) append_le(out, value);
  return out;
}
inline Bytes le32(std::initializer_list<std::uint32_t> values) {
  return le32(std::span(values.begin(), values.size()));
}
inline Bytes le64(std::span<const std::uint64_t> values) {
  Bytes out;
  for (const std::uint64_t value : values) append_le(out, value);
  return out;
}

// What a driver says in a statistics buffer: tags and values.
inline Bytes stats_entries(std::initializer_list<std::pair<int, std::uint64_t>> entries) {
  Bytes out;
  for (const auto& [tag, value] : entries) {
    append_le(out, static_cast<std::uint16_t>(tag));
    append_le(out, value);
  }
  return out;
}

// The numbers first, first + step, ...
inline std::vector<std::uint32_t> numbers(std::uint32_t first, std::uint32_t count,
                                          std::uint32_t step = 1) {
  std::vector<std::uint32_t> all;
  for (std::uint32_t i = 0; i < count; ++i) all.push_back(first + i * step);
  return all;
}

inline Message pfn_message(std::span<const std::uint32_t> pfns) { return {{le32(pfns)}}; }
inline Message pfn_message(std::initializer_list<std::uint32_t> pfns) { return {{le32(pfns)}}; }

// Cuts the payload of a message into descriptors of that many bytes.
inline Message cut(const Message& message, std::size_t bytes) {
  Message result{{}, message.writable};
  for (const Bytes& piece : message.pieces) {
    for (std::size_t at = 0; at < piece.size(); at += bytes) {
      const std::size_t end = at + bytes < piece.size() ? at + bytes : piece.size();
      result.pieces.emplace_back(piece.begin() + static_cast<std::ptrdiff_t>(at),
                                 piece.begin() + static_cast<std::ptrdiff_t>(end));
    }
  }
  return result;
}

inline std::uint64_t record_head(Pfn start, std::uint64_t page_shift, std::uint64_t bitmap_bytes) {
  return start | page_shift << 52 | bitmap_bytes << 58;
}
// A header of command 0 with what follows it.
inline Message bitmap_message(std::vector<std::uint64_t> data) {
  data.insert(data.begin(), std::uint64_t{data.size()} * 8 << 32);
  return {{le64(data)}};
}

// One bitmap from page 0 on.
inline Message single_header_message(std::span<const PageRange> ranges) {
  Pfn end = 0;
  for (const PageRange& range : ranges) end = std::max(end, range.end());
  std::vector<std::uint64_t> words(4 + (end + 63) / 64);
  words[0] = kPageShift << 16;
  words[3] = 8 * (words.size() - 4);
  for (const PageRange& range : ranges) {
    for (Pfn pfn = range.first; pfn < range.end(); ++pfn) {
      words[4 + pfn / 64] |= std::uint64_t{1} << pfn % 64;
    }
  }
  return {{le64(words)}};
}

// Pairs of a page and a size in bytes.
inline Message cont_message(std::span<const PageRange> ranges) {
  std::vector<std::uint32_t> words;
  for (const PageRange& range : ranges) {
    words.push_back(static_cast<std::uint32_t>(range.first));
    words.push_back(static_cast<std::uint32_t>(range.count << kPageShift));
  }
  return pfn_message(words);
}
inline Message cont_message(std::initializer_list<PageRange> ranges) {
  return cont_message(std::span(ranges.begin(), ranges.size()));
}

// The same pages in any dialect, over its first two queues: a PFN for each page, a record for each
// word, a bit for each page, or an entry or a buffer for each range.
inline Message message_of(Dialect dialect, std::span<const PageRange> ranges) {
  std::vector<std::uint32_t> pfns;
  std::vector<std::uint64_t> words;
  std::vector<std::uint64_t> list;
  std::vector<std::uint64_t> chunks{ranges.size()};
  std::vector<GuestBuffer> buffers;
  for (const PageRange& range : ranges) {
    list.insert(list.end(), {range.first << 12, range.count});
    chunks.insert(chunks.end(), {range.first << 12, range.count << 12});
    for (Pfn pfn = range.first; pfn < range.end(); ++pfn) {
      pfns.push_back(static_cast<std::uint32_t>(pfn));
      words.push_back(record_head(pfn / 64 * 64, kPageShift, 8));
      words.push_back(std::uint64_t{1} << pfn % 64);
    }
    buffers.push_back(
        {range.first << kPageShift, static_cast<std::uint32_t>(range.count << kPageShift)});
  }
  switch (dialect) {
    case Dialect::kStandard:
    case Dialect::kContPages:
      return pfn_message(pfns);
    case Dialect::kPageBitmap:
      return bitmap_message(std::move(words));
    case Dialect::kScatterGather:
      return {{}, std::move(buffers)};
    case Dialect::kSingleHeaderBitmap:
      return single_header_message(ranges);
    case Dialect::kPageRange:
      return bitmap_message(std::move(list));
    case Dialect::kPageChunks:
      return {{le64(chunks)}};
  }
  return {};
}
inline Message message_of(Dialect dialect, std::initializer_list<PageRange> ranges) {
  return message_of(dialect, std::span(ranges.begin(), ranges.size()));
}

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_DEVICE_TEST_MESSAGES_H_
