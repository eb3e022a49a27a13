// SPDX-License-Identifier: MIT
#include "wire/single_header.h"

#include <algorithm>
#include <cassert>

#include "wire/bitmap_words.h"
#include "wire/little_endian.h"

namespace vballoon {
namespace {

constexpr std::size_t kPageShiftOffset = 2;
constexpr std::size_t kStartOffset = 16;
constexpr std::size_t kBitmapBytesOffset = 24;
// What a range may reach (wire/decoder.h).
constexpr Pfn kPagesEnd = Pfn{1} << 52;

}  // namespace

std::size_t write_single_header_message(std::span<std::byte> out, Pfn start,
                                        std::span<const std::uint64_t> bitmap) {
  const std::size_t bitmap_bytes = bitmap.size() * kWordBytes;
  assert(out.size() >= kSingleHeaderBytes + bitmap_bytes && start % kWordBits == 0);
  std::fill_n(out.data(), kSingleHeaderBytes, std::byte{0});
  store_le(out.data() + kPageShiftOffset, static_cast<std::uint16_t>(kPageShift));
  store_le(out.data() + kStartOffset, start);
  store_le(out.data() + kBitmapBytesOffset, std::uint64_t{bitmap_bytes});
  std::byte* to = out.data() + kSingleHeaderBytes;
  for (const std::uint64_t word : bitmap) {
    store_le(to, word);
    to += kWordBytes;
  }
  return kSingleHeaderBytes + bitmap_bytes;
}

std::optional<Errc> SingleHeaderDecoder::read_header(std::span<const std::byte> header,
                                                     std::uint64_t data_bytes) {
  const auto command = load_le<std::uint16_t>(header.data());
  const auto shift = load_le<std::uint16_t>(header.data() + kPageShiftOffset);
  const auto start = load_le<std::uint64_t>(header.data() + kStartOffset);
  const auto bitmap_bytes = load_le<std::uint64_t>(header.data() + kBitmapBytesOffset);
  if (command != 0 || bitmap_bytes != data_bytes || data_bytes % kWordBytes != 0 ||
      shift < kPageShift || shift > kMaxBlockShift || start > kPagesEnd) {
    return Errc::kBadMessageHeader;
  }
  order_ = shift - kPageShift;
  if (data_bytes > (kPagesEnd - start) >> order_ >> 3) return Errc::kBadMessageHeader;
  next_ = start;
  return std::nullopt;
}

Decoder::Step SingleHeaderDecoder::read_entries(std::span<const std::byte> window,
                                                PageRanges& out) {
  RangeWriter writer(out);
  bool apart = true;
  std::size_t at = 0;
  for (; window.size() - at >= kWordBytes; at += kWordBytes) {
    apart &= read_word(load_le<std::uint64_t>(window.data() + at), next_, order_, writer);
    next_ += kWordBits << order_;
  }
  return {at, std::nullopt, apart};
}

}  // namespace vballoon
