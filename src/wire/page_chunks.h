// SPDX-License-Identifier: MIT
// A counted list of chunks: the last form of the page bitmap's lineage (never merged into Linux).
//
// A message is le64 chunk_count and that many pairs of le64 base and size, each with its value in
// the upper 52 bits: a page, and a number of pages. The lower 12 bits are reserved and ignored.
#ifndef VBALLOON_SRC_WIRE_PAGE_CHUNKS_H_
#define VBALLOON_SRC_WIRE_PAGE_CHUNKS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "vballoon/export.h"
#include "vballoon/page_range.h"
#include "wire/payload_decoder.h"

namespace vballoon {

inline constexpr std::size_t kPageChunksHeaderBytes = 8;
inline constexpr std::size_t kPageChunkBytes = 16;
// The buffer of the published driver: 2047 chunks.
inline constexpr std::size_t kPageChunksMessageBytes = std::size_t{32} * 1024;

// Writes one message, its count last.
class VBALLOON_EXPORT PageChunksEncoder {
 public:
  // Requires room for the header.
  explicit PageChunksEncoder(std::span<std::byte> message);

  // False when the message is full. Requires run.count != 0 and pages below 2^52.
  [[nodiscard]] bool append(PageRange run);

  // All so far is a message: its bytes, or 0 when it has no chunk.
  [[nodiscard]] std::size_t finish();

 private:
  std::span<std::byte> message_;
  std::uint64_t count_ = 0;
};

class VBALLOON_EXPORT PageChunksDecoder final : public PayloadDecoder {
 public:
  PageChunksDecoder() : PayloadDecoder(kPageChunksHeaderBytes, Errc::kBadRecord) {}

 private:
  std::optional<Errc> read_header(std::span<const std::byte> header,
                                  std::uint64_t data_bytes) override;
  Step read_entries(std::span<const std::byte> window, PageRanges& out) override;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_WIRE_PAGE_CHUNKS_H_
