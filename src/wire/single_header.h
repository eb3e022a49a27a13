// SPDX-License-Identifier: MIT
// One bitmap behind one header, in one buffer: the page bitmap's first form (never merged into
// Linux).
//
// A message is a header of 32 bytes and the bitmap behind it:
//   0 le16 cmd (0)         8  le64 req_id (0)
//   2 le16 page_shift      16 le64 start_pfn
//   4 le16 flag (0)        24 le64 bmap_len: bytes of the bitmap
//   6 le16 reserved        32 the bitmap
// Bit i % 8 of byte i / 8 stands for the page of 2^page_shift bytes number i behind start_pfn. As
// published a last page whose number was a multiple of 64 was left out, and windows but the first
// named other pages than they had; here they do not (docs/formats.md).
#ifndef VBALLOON_SRC_WIRE_SINGLE_HEADER_H_
#define VBALLOON_SRC_WIRE_SINGLE_HEADER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "vballoon/export.h"
#include "vballoon/page_range.h"
#include "wire/payload_decoder.h"

namespace vballoon {

inline constexpr std::size_t kSingleHeaderBytes = 32;
// The largest bitmap of the published driver: the pages of 32 GiB.
inline constexpr std::size_t kSingleBitmapBytes = std::size_t{1} << 20;
inline constexpr std::uint64_t kSingleWindowPages = std::uint64_t{8} * kSingleBitmapBytes;

// Writes a message that names the pages of a bitmap: bit 0 of `bitmap` is page `start`. Returns
// its bytes; `out` has room for the header and the words.
VBALLOON_EXPORT std::size_t write_single_header_message(std::span<std::byte> out, Pfn start,
                                                        std::span<const std::uint64_t> bitmap);

class VBALLOON_EXPORT SingleHeaderDecoder final : public PayloadDecoder {
 public:
  SingleHeaderDecoder() : PayloadDecoder(kSingleHeaderBytes, Errc::kBadRecord) {}

 private:
  std::optional<Errc> read_header(std::span<const std::byte> header,
                                  std::uint64_t data_bytes) override;
  Step read_entries(std::span<const std::byte> window, PageRanges& out) override;

  Pfn next_ = 0;        // page of the first bit that was not read yet
  unsigned order_ = 0;  // of the blocks that the bits stand for
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_WIRE_SINGLE_HEADER_H_
