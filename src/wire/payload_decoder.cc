// SPDX-License-Identifier: MIT
#include "wire/payload_decoder.h"

#include <cassert>

namespace vballoon {

std::optional<Errc> PayloadDecoder::begin(std::uint64_t readable_bytes,
                                          std::size_t /*writable_buffers*/) {
  left_ = readable_bytes;
  begun_ = false;
  if (readable_bytes == 0) return Errc::kPayloadMissing;
  if (readable_bytes < header_bytes_) return Errc::kBadMessageHeader;
  return std::nullopt;
}

std::optional<Errc> PayloadDecoder::read_header(std::span<const std::byte> /*header*/,
                                                std::uint64_t /*data_bytes*/) {
  return std::nullopt;
}

Decoder::Step PayloadDecoder::payload(std::span<const std::byte> window, PageRanges& out) {
  assert(window.size() <= left_);
  std::size_t header_bytes = 0;
  if (!begun_) {
    if (window.size() < header_bytes_) return {};
    header_bytes = header_bytes_;
    if (const auto error = read_header(window.first(header_bytes), left_ - header_bytes)) {
      return {0, error};
    }
    begun_ = true;
    left_ -= header_bytes;
  }
  Step step = read_entries(window.subspan(header_bytes), out);
  left_ -= step.consumed;
  step.consumed += header_bytes;
  return step;
}

std::optional<Errc> PayloadDecoder::buffer(const GuestBuffer& /*buffer*/, PageRanges& /*out*/) {
  return Errc::kUnexpectedWritable;
}

std::optional<Errc> PayloadDecoder::end() {
  if (left_ != 0) return begun_ ? cut_ : Errc::kBadMessageHeader;
  return std::nullopt;
}

}  // namespace vballoon
