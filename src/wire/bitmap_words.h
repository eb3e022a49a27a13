// SPDX-License-Identifier: MIT
// Words of a bitmap as page ranges: what the formats with a bitmap have in common.
#ifndef VBALLOON_SRC_WIRE_BITMAP_WORDS_H_
#define VBALLOON_SRC_WIRE_BITMAP_WORDS_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/page_ranges.h"
#include "vballoon/page_range.h"
#include "wire/range_writer.h"

namespace vballoon {

inline constexpr std::uint64_t kWordBits = 64;
inline constexpr std::size_t kWordBytes = 8;
inline constexpr std::size_t kMaxRunsPerWord = 32;

// A bit stands for a block of 2^shift bytes, of a page at the least.
inline constexpr unsigned kMaxBlockShift = 51;

// The number of the lowest one; unlike std::countr_zero without a case for zero, which costs more
// than the count on processors that are not told apart at compile time.
inline std::uint64_t lowest_one(std::uint64_t bits) {
  return static_cast<std::uint64_t>(__builtin_ctzll(bits));
}

// Two 64-bit numbers that are added and stored at once: a range.
using RangePair [[gnu::vector_size(16)]] = std::uint64_t;
static_assert(sizeof(RangePair) == sizeof(PageRange) && offsetof(PageRange, count) == 8);

// The runs of ones of a byte: at most 4, one cache line.
inline constexpr std::size_t kMaxRunsPerByte = 4;
struct ByteRuns {
  alignas(64) std::array<PageRange, kMaxRunsPerByte> runs{};
};

struct ByteRunTable {
  std::array<ByteRuns, 256> bytes{};
  std::array<std::uint8_t, 256> counts{};
};

constexpr ByteRunTable make_byte_run_table() {
  ByteRunTable table;
  for (unsigned byte = 0; byte < 256; ++byte) {
    for (std::uint64_t i = 0; i < 8; ++i) {
      if ((byte >> i & 1) == 0) continue;
      const bool goes_on = i > 0 && (byte >> (i - 1) & 1) != 0;
      if (!goes_on) table.bytes[byte].runs[table.counts[byte]++].first = i;
      ++table.bytes[byte].runs[table.counts[byte] - 1u].count;
    }
  }
  return table;
}

inline constexpr ByteRunTable kByteRuns = make_byte_run_table();

// Writes the runs of ones of a word byte by byte; cuts those that cross a byte. Always writes 4
// ranges for a byte and steps forward by as many as count, so that there is nothing to predict.
// What is written too much stays within the most that a word can become.
inline PageRange* write_byte_runs(std::uint64_t word, Pfn first, PageRange* to) {
  RangePair base{first, 0};
  for (unsigned i = 0; i < kWordBytes; ++i) {
    const std::uint8_t byte = word & 0xFF;
    word >>= 8;
    for (std::size_t k = 0; k < kMaxRunsPerByte; ++k) {
      const auto run = std::bit_cast<RangePair>(kByteRuns.bytes[byte].runs[k]);
      to[k] = std::bit_cast<PageRange>(run + base);
    }
    to += kByteRuns.counts[byte];
    base += RangePair{8, 0};
  }
  return to;
}

// Writes the runs of ones of a word whose bits are blocks of 2^order pages, one after the other.
inline PageRange* write_runs(std::uint64_t word, Pfn first, unsigned order, PageRange* to) {
  std::uint64_t starts = word & ~(word << 1);
  std::uint64_t ends = word & ~(word >> 1);
  while (starts != 0) {
    const std::uint64_t start = lowest_one(starts);
    const std::uint64_t end = lowest_one(ends) + 1;
    *to++ = {first + (start << order), (end - start) << order};
    starts &= starts - 1;
    ends &= ends - 1;
  }
  return to;
}

// From so many runs on, going through all bytes of a word is faster than from run to run.
inline constexpr int kManyRuns = 8;

// The last bit of each byte but one.
inline constexpr std::uint64_t kByteEnds = 0x0080808080808080;

// Appends the runs of ones of a bitmap word whose bits are blocks of 2^order pages. Returns
// whether they are known to lie behind all ranges before, and apart.
inline bool read_word(std::uint64_t word, Pfn first, unsigned order, RangeWriter& out) {
  if (word == 0) return true;
  const bool behind = out.ends_before(first);
  std::size_t most = kMaxRunsPerWord;
  if ((word & 1) != 0) {  // may continue what stood before
    const auto length = static_cast<std::uint64_t>(std::countr_one(word));
    out.append({first, length << order});
    word &= word + 1;
    --most;
  }
  PageRange* to = out.room(most);
  const bool many = order == 0 && std::popcount(word & ~(word << 1)) >= kManyRuns;
  out.commit(many ? write_byte_runs(word, first, to) : write_runs(word, first, order, to));
  const bool cut = many && (word & word >> 1 & kByteEnds) != 0;
  return behind && !cut;
}

}  // namespace vballoon

#endif  // VBALLOON_SRC_WIRE_BITMAP_WORDS_H_
