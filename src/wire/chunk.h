// SPDX-License-Identifier: MIT
// Scatter-gather: a contiguous run of pages is one device-writable descriptor (never merged into
// Linux). No payload is read or written; the descriptor's address and length are the message.
#ifndef VBALLOON_SRC_WIRE_CHUNK_H_
#define VBALLOON_SRC_WIRE_CHUNK_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/page_ranges.h"
#include "vballoon/export.h"
#include "vballoon/page_range.h"
#include "wire/decoder.h"

namespace vballoon {

// The longest piece: the largest 32-bit length rounded down to a page.
inline constexpr std::uint64_t kMaxChunkBytes = 0xFFFFF000;

// The first piece of a run that one descriptor can name; the caller goes on behind it.
[[nodiscard]] VBALLOON_EXPORT GuestBuffer first_chunk(PageRange run);

class VBALLOON_EXPORT ChunkDecoder final : public Decoder {
 public:
  std::optional<Errc> begin(std::uint64_t readable_bytes, std::size_t writable_buffers) override;
  Step payload(std::span<const std::byte> window, PageRanges& out) override;
  std::optional<Errc> buffer(const GuestBuffer& buffer, PageRanges& out) override;
  std::optional<Errc> end() override;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_WIRE_CHUNK_H_
