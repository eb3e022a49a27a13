// SPDX-License-Identifier: MIT
#include "wire/page_chunks.h"

#include <cassert>

#include "wire/little_endian.h"
#include "wire/range_writer.h"

namespace vballoon {
namespace {

constexpr std::size_t kSizeOffset = 8;
constexpr unsigned kReservedBits = 12;

}  // namespace

PageChunksEncoder::PageChunksEncoder(std::span<std::byte> message) : message_(message) {
  assert(message.size() >= kPageChunksHeaderBytes);
}

bool PageChunksEncoder::append(PageRange run) {
  assert(run.count != 0 && run.end() <= std::uint64_t{1} << 52);
  const std::size_t at = kPageChunksHeaderBytes + count_ * kPageChunkBytes;
  if (message_.size() - at < kPageChunkBytes) return false;
  store_le(message_.data() + at, run.first << kReservedBits);
  store_le(message_.data() + at + kSizeOffset, run.count << kReservedBits);
  ++count_;
  return true;
}

std::size_t PageChunksEncoder::finish() {
  if (count_ == 0) return 0;
  store_le(message_.data(), count_);
  return kPageChunksHeaderBytes + count_ * kPageChunkBytes;
}

std::optional<Errc> PageChunksDecoder::read_header(std::span<const std::byte> header,
                                                   std::uint64_t data_bytes) {
  const auto count = load_le<std::uint64_t>(header.data());
  if (data_bytes % kPageChunkBytes != 0 || data_bytes / kPageChunkBytes != count) {
    return Errc::kBadMessageHeader;
  }
  return std::nullopt;
}

Decoder::Step PageChunksDecoder::read_entries(std::span<const std::byte> window, PageRanges& out) {
  RangeWriter writer(out);
  bool apart = true;
  std::size_t at = 0;
  for (; window.size() - at >= kPageChunkBytes; at += kPageChunkBytes) {
    const std::byte* const chunk = window.data() + at;
    const PageRange range{load_le<std::uint64_t>(chunk) >> kReservedBits,
                          load_le<std::uint64_t>(chunk + kSizeOffset) >> kReservedBits};
    if (range.count == 0) return {at, Errc::kBadRecord};
    apart &= writer.ends_before(range.first);
    writer.append(range);
  }
  return {at, std::nullopt, apart};
}

}  // namespace vballoon
