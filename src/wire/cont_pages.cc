// SPDX-License-Identifier: MIT
#include "wire/cont_pages.h"

#include <cassert>

#include "wire/little_endian.h"
#include "wire/range_writer.h"

namespace vballoon {
namespace {

constexpr std::size_t kSizeOffset = 4;

}  // namespace

bool ContPagesEncoder::append(PageRange run) {
  assert(run.count != 0 && run.count <= kMaxContPages && run.first <= UINT32_MAX);
  if (message_.size() - bytes_ < kContEntryBytes) return false;
  store_le(message_.data() + bytes_, static_cast<std::uint32_t>(run.first));
  store_le(message_.data() + bytes_ + kSizeOffset, static_cast<std::uint32_t>(run.bytes()));
  bytes_ += kContEntryBytes;
  return true;
}

Decoder::Step ContPagesDecoder::read_entries(std::span<const std::byte> window, PageRanges& out) {
  RangeWriter writer(out);
  bool apart = true;
  std::size_t at = 0;
  for (; window.size() - at >= kContEntryBytes; at += kContEntryBytes) {
    const Pfn first = load_le<std::uint32_t>(window.data() + at);
    const auto bytes = load_le<std::uint32_t>(window.data() + at + kSizeOffset);
    if (bytes == 0 || bytes % kPageSize != 0) return {at, Errc::kBadRecord};
    apart &= writer.ends_before(first);
    writer.append({first, bytes >> kPageShift});
  }
  return {at, std::nullopt, apart};
}

}  // namespace vballoon
