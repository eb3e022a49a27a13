// SPDX-License-Identifier: MIT
#include "wire/pfn_array.h"

#include <algorithm>
#include <cassert>
#include <limits>

#include "wire/little_endian.h"
#include "wire/range_writer.h"

namespace vballoon {

bool PfnArrayEncoder::append(Pfn pfn) {
  assert(pfn <= std::numeric_limits<std::uint32_t>::max());
  if (buffer_.size() - bytes_ < kPfnEntryBytes) return false;
  store_le(buffer_.data() + bytes_, static_cast<std::uint32_t>(pfn));
  bytes_ += kPfnEntryBytes;
  return true;
}

std::size_t decode_pfns(std::span<const std::byte> window, std::vector<PageRange>& out) {
  const std::byte* from = window.data();
  const std::size_t entries = window.size() / kPfnEntryBytes;
  if (entries == 0) return 0;

  // The run grows at both ends, so that an order that turns around is right as well. A page that
  // is named again never joins it, so that repeated pages stay visible.
  RangeWriter writer(out);
  PageRange run{load_le<std::uint32_t>(from), 1};
  for (std::size_t done = 1; done < entries;) {
    const std::size_t block = std::min(entries - done, RangeWriter::kBlock);
    PageRange* to = writer.room(block);
    for (const std::size_t end = done + block; done < end; ++done) {
      const Pfn pfn = load_le<std::uint32_t>(from + done * kPfnEntryBytes);
      if (pfn == run.end()) {
        ++run.count;
      } else if (pfn + 1 == run.first) {
        run = {pfn, run.count + 1};
      } else {
        *to++ = run;
        run = {pfn, 1};
      }
    }
    writer.commit(to);
  }
  PageRange* to = writer.room(1);
  *to = run;
  writer.commit(to + 1);
  return entries * kPfnEntryBytes;
}

std::optional<Errc> PfnArrayDecoder::begin(std::uint64_t readable_bytes,
                                           std::size_t /*writable_buffers*/) {
  left_ = readable_bytes;
  if (readable_bytes == 0) return Errc::kPayloadMissing;
  return std::nullopt;
}

Decoder::Step PfnArrayDecoder::payload(std::span<const std::byte> window,
                                       std::vector<PageRange>& out) {
  assert(window.size() <= left_);
  const std::size_t consumed = decode_pfns(window, out);
  left_ -= consumed;
  return {consumed};
}

std::optional<Errc> PfnArrayDecoder::buffer(const GuestBuffer& /*buffer*/,
                                            std::vector<PageRange>& /*out*/) {
  return Errc::kUnexpectedWritable;
}

std::optional<Errc> PfnArrayDecoder::end() {
  if (left_ != 0) return Errc::kPayloadNotMultiple;
  return std::nullopt;
}

}  // namespace vballoon
