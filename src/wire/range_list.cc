// SPDX-License-Identifier: MIT
#include "wire/range_list.h"

#include <cassert>

#include "wire/little_endian.h"
#include "wire/page_bitmap.h"
#include "wire/range_writer.h"

namespace vballoon {
namespace {

constexpr std::size_t kWordBytes = 8;
constexpr unsigned kCountBits = 12;
constexpr std::uint64_t kCountMask = (std::uint64_t{1} << kCountBits) - 1;
constexpr std::uint64_t kMaxPages = std::uint64_t{1} << 52;

}  // namespace

// As published there has to be room for the longer form.
bool RangeListEncoder::append(PageRange run) {
  assert(run.count != 0 && run.end() <= kMaxPages);
  if (data_.size() - bytes_ < 2 * kWordBytes) return false;
  const bool fits = run.count <= kCountMask;
  store_le(data_.data() + bytes_, run.first << kCountBits | (fits ? run.count : 0));
  bytes_ += kWordBytes;
  if (!fits) {
    store_le(data_.data() + bytes_, run.count);
    bytes_ += kWordBytes;
  }
  return true;
}

RangeListDecoder::RangeListDecoder() : PayloadDecoder(kBitmapHeaderBytes, Errc::kBadRecord) {}

std::optional<Errc> RangeListDecoder::read_header(std::span<const std::byte> header,
                                                  std::uint64_t data_bytes) {
  const auto value = load_le<std::uint64_t>(header.data());
  const bool is_records = (value & 0xFF) == 0;
  if (!is_records || value >> 32 != data_bytes || data_bytes % kWordBytes != 0) {
    return Errc::kBadMessageHeader;
  }
  return std::nullopt;
}

// A head whose count is missing is left for the next window, or for end().
Decoder::Step RangeListDecoder::read_entries(std::span<const std::byte> window, PageRanges& out) {
  RangeWriter writer(out);
  bool apart = true;
  std::size_t at = 0;
  while (window.size() - at >= kWordBytes) {
    const auto head = load_le<std::uint64_t>(window.data() + at);
    PageRange range{head >> kCountBits, head & kCountMask};
    std::size_t entry = kWordBytes;
    if (range.count == 0) {
      entry += kWordBytes;
      if (window.size() - at < entry) break;
      range.count = load_le<std::uint64_t>(window.data() + at + kWordBytes);
      if (range.count == 0 || range.count > kMaxPages) return {at, Errc::kBadRecord};
    }
    apart &= writer.ends_before(range.first);
    writer.append(range);
    at += entry;
  }
  return {at, std::nullopt, apart};
}

}  // namespace vballoon
