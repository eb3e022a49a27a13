// SPDX-License-Identifier: MIT
#include "wire/chunk.h"

#include <algorithm>

#include "base/page_ranges.h"

namespace vballoon {

GuestBuffer first_chunk(PageRange run) {
  // Cut while it is still a number of pages: the bytes of a run of 4 GiB do not fit in 32 bits.
  const std::uint64_t pages = std::min(run.count, kMaxChunkBytes >> kPageShift);
  return {run.first << kPageShift, static_cast<std::uint32_t>(pages << kPageShift)};
}

std::optional<Errc> ChunkDecoder::begin(std::uint64_t readable_bytes,
                                        std::size_t /*writable_buffers*/) {
  if (readable_bytes != 0) return Errc::kUnexpectedReadable;
  return std::nullopt;
}

Decoder::Step ChunkDecoder::payload(std::span<const std::byte> /*window*/, PageRanges& /*out*/) {
  return {0, Errc::kUnexpectedReadable};
}

std::optional<Errc> ChunkDecoder::buffer(const GuestBuffer& buffer, PageRanges& out) {
  const bool aligned = ((buffer.address | buffer.length) & (kPageSize - 1)) == 0;
  if (!aligned || buffer.length == 0) return Errc::kUnalignedRange;
  out.push_back({buffer.address >> kPageShift, buffer.length >> kPageShift});
  return std::nullopt;
}

std::optional<Errc> ChunkDecoder::end() { return std::nullopt; }

}  // namespace vballoon
