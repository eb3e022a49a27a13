// SPDX-License-Identifier: MIT
#include "wire/pfn_array.h"

#include <algorithm>
#include <cassert>
#include <limits>

#include "base/page_ranges.h"
#include "wire/little_endian.h"
#include "wire/range_writer.h"

namespace vballoon {
namespace {

constexpr std::size_t kWideEntryBytes = 8;

// Whether the entries have 64 bits, if numbers are below 2^32.
bool is_wide(std::span<const std::byte> message) {
  if (message.empty() || message.size() % kWideEntryBytes != 0) return false;
  std::uint32_t odd_words = 0;
  for (std::size_t at = kPfnEntryBytes; at < message.size(); at += kWideEntryBytes) {
    odd_words |= load_le<std::uint32_t>(message.data() + at);
  }
  return odd_words == 0;
}

// Entries of either size have their number in the first 4 bytes.
template <std::size_t kEntryBytes>
std::uint32_t load_pfn(const std::byte* entries, std::size_t index) {
  return load_le<std::uint32_t>(entries + index * kEntryBytes);
}

// How many entries from number `i` on go on from page `before` in steps of one page up or down,
// as far as that is found out in groups, which are compared without a branch.
template <std::size_t kEntryBytes, int kStep>
std::size_t count_straight(const std::byte* at, std::size_t i, std::size_t entries, Pfn before) {
  constexpr std::uint32_t kGroup = 16;
  std::size_t count = 0;
  // The last entry of a group is compared in 64 bits: page numbers do not wrap.
  while (entries - i >= kGroup &&
         load_pfn<kEntryBytes>(at, i + kGroup - 1) == before + kGroup * static_cast<Pfn>(kStep)) {
    std::uint32_t differences = 0;
    for (std::uint32_t k = 0; k < kGroup; ++k) {
      const auto expected =
          static_cast<std::uint32_t>(before) + (k + 1) * static_cast<std::uint32_t>(kStep);
      differences |= load_pfn<kEntryBytes>(at, i + k) ^ expected;
    }
    if (differences != 0) break;
    before += kGroup * static_cast<Pfn>(kStep);
    count += kGroup;
    i += kGroup;
  }
  return count;
}

template <std::size_t kEntryBytes>
std::size_t decode_entries(std::span<const std::byte> window, PageRanges& out) {
  const std::size_t entries = window.size() / kEntryBytes;
  if (entries == 0) return 0;

  // The run grows at both ends, so that an order that turns around is right as well. A page that
  // is named again never joins it, so that repeated pages stay visible.
  const std::byte* const at = window.data();
  RangeWriter writer(out);
  Pfn first = load_pfn<kEntryBytes>(at, 0);
  Pfn end = first + 1;
  for (std::size_t i = 1; i < entries;) {
    const std::size_t block_end = std::min(entries, i + RangeWriter::kBlock);
    PageRange* to = writer.room(block_end - i);
    while (i < block_end) {
      const Pfn pfn = load_pfn<kEntryBytes>(at, i++);
      if (pfn == end) {
        const std::size_t more = count_straight<kEntryBytes, +1>(at, i, entries, pfn);
        end += 1 + more;
        i += more;
      } else if (pfn + 1 == first) {
        const std::size_t more = count_straight<kEntryBytes, -1>(at, i, entries, pfn);
        first = pfn - more;
        i += more;
      } else {
        *to++ = {first, end - first};
        first = pfn;
        end = pfn + 1;
      }
    }
    writer.commit(to);
  }
  writer.append({first, end - first});
  return entries * kEntryBytes;
}

}  // namespace

bool PfnArrayEncoder::append(Pfn pfn) {
  assert(pfn <= std::numeric_limits<std::uint32_t>::max());
  if (buffer_.size() - bytes_ < kPfnEntryBytes) return false;
  store_le(buffer_.data() + bytes_, static_cast<std::uint32_t>(pfn));
  bytes_ += kPfnEntryBytes;
  return true;
}

std::size_t decode_pfns(std::span<const std::byte> window, PageRanges& out) {
  return decode_entries<kPfnEntryBytes>(window, out);
}

std::optional<Errc> PfnArrayDecoder::read_header(std::span<const std::byte> /*header*/,
                                                 std::uint64_t data_bytes) {
  message_bytes_ = data_bytes;
  return std::nullopt;
}

Decoder::Step PfnArrayDecoder::read_entries(std::span<const std::byte> window, PageRanges& out) {
  const bool whole_message = window.size() == message_bytes_;
  const bool wide = may_be_wide_ && whole_message && is_wide(window);
  return {wide ? decode_entries<kWideEntryBytes>(window, out) : decode_pfns(window, out)};
}

}  // namespace vballoon
