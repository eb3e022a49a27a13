// SPDX-License-Identifier: MIT
#include "wire/page_bitmap.h"

#include <bit>
#include <cassert>
#include <cstddef>

#include "base/page_ranges.h"
#include "base/page_words.h"
#include "wire/bitmap_words.h"
#include "wire/little_endian.h"
#include "wire/pfn_array.h"
#include "wire/range_writer.h"

namespace vballoon {
namespace {

// What the records of one run may need: two words with their heads, and a block for each bit of
// its length.
constexpr std::size_t kRunBytes = 64 * kWordBytes;

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
      put(block_record(pages.first, order));
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

std::uint64_t block_record(Pfn first, unsigned order) {
  return pack({first, kPageShift + order, 0});
}

PageBitmapEncoder::PageBitmapEncoder(std::span<const std::uint64_t> bitmap, Pfn base)
    : bitmap_(bitmap),
      base_(base),
      bit_count_(bitmap.size() * kWordBits),
      next_bit_(find_page(bitmap, 0, bit_count_, true)) {
  assert(base % kWordBits == 0);
}

std::size_t PageBitmapEncoder::encode(std::span<std::byte> out) {
  assert(out.size() >= 1024 && out.size() % kWordBytes == 0);
  RecordWriter writer(out);
  // next_bit_ always stands on a one or at the end, so that no call comes back empty-handed.
  while (!done() && writer.has_room()) {
    const std::uint64_t end = find_page(bitmap_, next_bit_, bit_count_, false);
    write_run(bitmap_, base_, next_bit_, end, writer);
    next_bit_ = find_page(bitmap_, (end + kWordBits - 1) / kWordBits * kWordBits, bit_count_, true);
  }
  return writer.bytes();
}

std::optional<Errc> PageBitmapDecoder::read_header(std::span<const std::byte> header,
                                                   std::uint64_t data_bytes) {
  const auto value = load_le<std::uint64_t>(header.data());
  const auto command = static_cast<BitmapCommand>(value & 0xFF);
  if (command != BitmapCommand::kRecords && command != BitmapCommand::kPfnArray) {
    return Errc::kBadMessageHeader;
  }
  const std::size_t unit = command == BitmapCommand::kRecords ? kWordBytes : kPfnEntryBytes;
  if (value >> 32 != data_bytes || data_bytes % unit != 0) return Errc::kBadMessageHeader;
  command_ = command;
  return std::nullopt;
}

Decoder::Step PageBitmapDecoder::read_entries(std::span<const std::byte> window, PageRanges& out) {
  if (command_ == BitmapCommand::kPfnArray) return {decode_pfns(window, out)};
  return read_records(window, out);
}

}  // namespace vballoon
