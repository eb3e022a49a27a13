// SPDX-License-Identifier: MIT
#include "wire/page_bitmap.h"

#include <array>
#include <bit>
#include <cassert>
#include <cstddef>

#include "base/page_ranges.h"
#include "wire/little_endian.h"
#include "wire/pfn_array.h"
#include "wire/range_writer.h"

namespace vballoon {
namespace {

constexpr std::uint64_t kWordBits = 64;
constexpr std::size_t kWordBytes = 8;
constexpr std::size_t kMaxRunsPerWord = 32;
// What the records of one run may need: two words with their heads, and a block for each bit of
// its length.
constexpr std::size_t kRunBytes = 64 * kWordBytes;
constexpr unsigned kMaxBlockShift = 51;

struct RecordHead {
  Pfn start = 0;
  unsigned page_shift = kPageShift;
  std::size_t bitmap_bytes = 0;
};

constexpr std::uint64_t pack(const RecordHead& head) {
  return head.start | std::uint64_t{head.page_shift} << 52 | std::uint64_t{head.bitmap_bytes} << 58;
}

constexpr RecordHead unpack(std::uint64_t head) {
  return {head & ((std::uint64_t{1} << 52) - 1), static_cast<unsigned>(head >> 52 & 63),
          static_cast<std::size_t>(head >> 58)};
}

// The first bit at or after `from` whose value is `value`, or the number of bits.
std::uint64_t find_bit(std::span<const std::uint64_t> words, std::uint64_t from, bool value) {
  const std::uint64_t bits = words.size() * kWordBits;
  if (from >= bits) return bits;
  const std::uint64_t flip = value ? 0 : ~std::uint64_t{0};
  std::size_t w = from / kWordBits;
  std::uint64_t found = (words[w] ^ flip) & (~std::uint64_t{0} << (from % kWordBits));
  while (found == 0) {
    if (++w == words.size()) return bits;
    found = words[w] ^ flip;
  }
  return w * kWordBits + static_cast<std::uint64_t>(std::countr_zero(found));
}

// Writes records behind one another.
class RecordWriter {
 public:
  explicit RecordWriter(std::span<std::byte> out) : out_(out) {}

  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  [[nodiscard]] bool has_room() const { return out_.size() - bytes_ >= kRunBytes; }

  void word(Pfn start, std::uint64_t bits) {
    put(pack({start, kPageShift, kWordBytes}));
    put(bits);
  }

  // Whole words of ones, as blocks of a power of two pages.
  void blocks(PageRange pages) {
    while (pages.count != 0) {
      const auto order = static_cast<unsigned>(std::bit_width(pages.count)) - 1;
      put(pack({pages.first, kPageShift + order, 0}));
      const std::uint64_t block = std::uint64_t{1} << order;
      pages = {pages.first + block, pages.count - block};
    }
  }

 private:
  void put(std::uint64_t value) {
    store_le(out_.data() + bytes_, value);
    bytes_ += kWordBytes;
  }

  std::span<std::byte> out_;
  std::size_t bytes_ = 0;
};

// Writes the records of the run of ones [begin, end). A ragged word goes out as a whole, with
// what other runs have in it, so the caller goes on at the next word.
void write_run(std::span<const std::uint64_t> bitmap, Pfn base, std::uint64_t begin,
               std::uint64_t end, RecordWriter& out) {
  std::uint64_t first = begin / kWordBits;  // words
  std::uint64_t last = end / kWordBits;
  if (begin % kWordBits != 0) {
    out.word(base + first * kWordBits, bitmap[first]);
    if (++first > last) return;  // begins and ends in the same word
  }
  if (end % kWordBits != 0) out.word(base + last * kWordBits, bitmap[last]);
  out.blocks({base + first * kWordBits, (last - first) * kWordBits});
}

// The number of the lowest one; unlike std::countr_zero without a case for zero, which costs more
// than the count on processors that are not told apart at compile time.
std::uint64_t lowest_one(std::uint64_t bits) {
  return static_cast<std::uint64_t>(__builtin_ctzll(bits));
}

// Two 64-bit numbers that are added and stored at once: a range.
using RangePair [[gnu::vector_size(16)]] = std::uint64_t;
static_assert(sizeof(RangePair) == sizeof(PageRange) && offsetof(PageRange, count) == 8);

// The runs of ones of a byte: at most 4, one cache line.
constexpr std::size_t kMaxRunsPerByte = 4;
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

constexpr ByteRunTable kByteRuns = make_byte_run_table();

// Writes the runs of ones of a word byte by byte; cuts those that cross a byte. Always writes 4
// ranges for a byte and steps forward by as many as count, so that there is nothing to predict.
// What is written too much stays within the most that a word can become.
PageRange* write_byte_runs(std::uint64_t word, Pfn first, PageRange* to) {
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
PageRange* write_runs(std::uint64_t word, Pfn first, unsigned order, PageRange* to) {
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
constexpr int kManyRuns = 8;

// The last bit of each byte but one.
constexpr std::uint64_t kByteEnds = 0x0080808080808080;

// Appends the runs of ones of a bitmap word whose bits are blocks of 2^order pages. Returns
// whether they are known to lie behind all ranges before, and apart.
bool read_word(std::uint64_t word, Pfn first, unsigned order, RangeWriter& out) {
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

// Appends what the whole records of a window name. A record that is cut by the end of the message
// is not told from one that is cut by the window: what is left over fails in end().
Decoder::Step read_records(std::span<const std::byte> window, PageRanges& out) {
  RangeWriter writer(out);
  bool apart = true;
  std::size_t at = 0;
  while (window.size() - at >= kWordBytes) {
    const RecordHead head = unpack(load_le<std::uint64_t>(window.data() + at));
    if (head.page_shift < kPageShift || head.page_shift > kMaxBlockShift ||
        head.bitmap_bytes % kWordBytes != 0) {
      return {at, Errc::kBadRecord};
    }
    const std::size_t record_bytes = kWordBytes + head.bitmap_bytes;
    if (record_bytes > window.size() - at) break;

    const unsigned order = head.page_shift - kPageShift;
    if (head.bitmap_bytes == 0) {
      apart &= writer.ends_before(head.start);
      writer.append({head.start, std::uint64_t{1} << order});
    }
    Pfn first = head.start;
    for (std::size_t i = kWordBytes; i < record_bytes; i += kWordBytes) {
      apart &= read_word(load_le<std::uint64_t>(window.data() + at + i), first, order, writer);
      first += kWordBits << order;
    }
    at += record_bytes;
  }
  return {at, std::nullopt, apart};
}

}  // namespace

void write_bitmap_header(std::span<std::byte, kBitmapHeaderBytes> out, BitmapCommand command,
                         std::uint32_t data_bytes) {
  store_le(out.data(), std::uint64_t{data_bytes} << 32 | static_cast<std::uint64_t>(command));
}

PageBitmapEncoder::PageBitmapEncoder(std::span<const std::uint64_t> bitmap, Pfn base)
    : bitmap_(bitmap),
      base_(base),
      bit_count_(bitmap.size() * kWordBits),
      next_bit_(find_bit(bitmap, 0, true)) {
  assert(base % kWordBits == 0);
}

std::size_t PageBitmapEncoder::encode(std::span<std::byte> out) {
  assert(out.size() >= 1024 && out.size() % kWordBytes == 0);
  RecordWriter writer(out);
  // next_bit_ always stands on a one or at the end, so that no call comes back empty-handed.
  while (!done() && writer.has_room()) {
    const std::uint64_t end = find_bit(bitmap_, next_bit_, false);
    write_run(bitmap_, base_, next_bit_, end, writer);
    next_bit_ = find_bit(bitmap_, (end + kWordBits - 1) / kWordBits * kWordBits, true);
  }
  return writer.bytes();
}

std::optional<Errc> PageBitmapDecoder::begin(std::uint64_t readable_bytes,
                                             std::size_t /*writable_buffers*/) {
  left_ = readable_bytes;
  command_.reset();
  if (readable_bytes == 0) return Errc::kPayloadMissing;
  if (readable_bytes < kBitmapHeaderBytes) return Errc::kBadMessageHeader;
  return std::nullopt;
}

std::optional<Errc> PageBitmapDecoder::read_header(std::uint64_t header) {
  const auto command = static_cast<BitmapCommand>(header & 0xFF);
  if (command != BitmapCommand::kRecords && command != BitmapCommand::kPfnArray) {
    return Errc::kBadMessageHeader;
  }
  const std::size_t unit = command == BitmapCommand::kRecords ? kWordBytes : kPfnEntryBytes;
  const std::uint64_t data_bytes = header >> 32;
  if (data_bytes != left_ - kBitmapHeaderBytes || data_bytes % unit != 0) {
    return Errc::kBadMessageHeader;
  }
  command_ = command;
  return std::nullopt;
}

Decoder::Step PageBitmapDecoder::payload(std::span<const std::byte> window, PageRanges& out) {
  assert(window.size() <= left_);
  std::size_t header_bytes = 0;
  if (!command_.has_value()) {
    if (window.size() < kBitmapHeaderBytes) return {};
    if (const auto error = read_header(load_le<std::uint64_t>(window.data()))) return {0, error};
    header_bytes = kBitmapHeaderBytes;
    left_ -= header_bytes;
    window = window.subspan(header_bytes);
  }
  Step step = *command_ == BitmapCommand::kRecords ? read_records(window, out)
                                                   : Step{decode_pfns(window, out)};
  left_ -= step.consumed;
  step.consumed += header_bytes;
  return step;
}

std::optional<Errc> PageBitmapDecoder::buffer(const GuestBuffer& /*buffer*/, PageRanges& /*out*/) {
  return Errc::kUnexpectedWritable;
}

std::optional<Errc> PageBitmapDecoder::end() {
  if (left_ != 0) return command_.has_value() ? Errc::kBadRecord : Errc::kBadMessageHeader;
  return std::nullopt;
}

}  // namespace vballoon
