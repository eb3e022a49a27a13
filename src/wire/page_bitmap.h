// SPDX-License-Identifier: MIT
// The page bitmap with an 8-byte header and self-describing records (never merged into Linux).
//
// A message is a header, one le64, and `data_len` bytes of data behind it:
//   bits 0-7 cmd, 8-15 flag, 16-31 id, 32-63 data_len
// cmd 0: the data are records, each an le64 head: bits 0-51 start_pfn, 52-57 page_shift, 58-63
// bmap_len (bytes). bmap_len 8: an le64 follows whose bit i stands for the page of
// 2^page_shift bytes number i behind start_pfn; 16 to 56 in steps of 8: as many such words, one
// bitmap. bmap_len 0: one block of 2^page_shift bytes.
// cmd 1 (this project's; see docs/decisions): the data are an array of le32 page frame numbers,
// which is shorter for a few scattered pages.
#ifndef VBALLOON_SRC_WIRE_PAGE_BITMAP_H_
#define VBALLOON_SRC_WIRE_PAGE_BITMAP_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/page_ranges.h"
#include "vballoon/export.h"
#include "vballoon/page_range.h"
#include "wire/payload_decoder.h"

namespace vballoon {

inline constexpr std::size_t kBitmapHeaderBytes = 8;
// The data buffer of the published driver: 4096 words.
inline constexpr std::size_t kBitmapDataBytes = std::size_t{32} * 1024;
// Pages that one bitmap covers: 1 GiB.
inline constexpr std::uint64_t kBitmapWindowPages = 262144;

enum class BitmapCommand : std::uint8_t { kRecords = 0, kPfnArray = 1 };

// Writes the header of a message with that many bytes of data.
VBALLOON_EXPORT void write_bitmap_header(std::span<std::byte, kBitmapHeaderBytes> out,
                                         BitmapCommand command, std::uint32_t data_bytes);

// The record of a block of 2^order pages.
[[nodiscard]] VBALLOON_EXPORT std::uint64_t block_record(Pfn first, unsigned order);

// Turns the set bits of a bitmap into records, one data buffer after the other: a run's ragged
// start word, its ragged end word, then the whole words between as blocks of a power of two,
// largest first. A word is emitted at most once.
class VBALLOON_EXPORT PageBitmapEncoder {
 public:
  // Bit 0 of the bitmap is page `base`, a multiple of 64. The bitmap must stay unchanged until
  // done.
  PageBitmapEncoder(std::span<const std::uint64_t> bitmap, Pfn base);

  // Fills `out` with records until done or until fewer than 64 words of room are left; returns
  // the bytes written: 0 only when done. Requires out.size() >= 1024, a multiple of 8.
  [[nodiscard]] std::size_t encode(std::span<std::byte> out);

  [[nodiscard]] bool done() const { return next_bit_ >= bit_count_; }

 private:
  std::span<const std::uint64_t> bitmap_;
  Pfn base_;
  std::uint64_t bit_count_;
  std::uint64_t next_bit_ = 0;
};

class VBALLOON_EXPORT PageBitmapDecoder final : public PayloadDecoder {
 public:
  PageBitmapDecoder() : PayloadDecoder(kBitmapHeaderBytes, Errc::kBadRecord) {}

 private:
  std::optional<Errc> read_header(std::span<const std::byte> header,
                                  std::uint64_t data_bytes) override;
  Step read_entries(std::span<const std::byte> window, PageRanges& out) override;

  BitmapCommand command_ = BitmapCommand::kRecords;  // of the message
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_WIRE_PAGE_BITMAP_H_
