// SPDX-License-Identifier: MIT
#include "device/message_reader.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "base/page_batch.h"

namespace vballoon {

MessageReader::MessageReader() : window_(kPayloadWindowBytes) {
  for (const Codec codec : {Codec::kPfnArray, Codec::kPageBitmap, Codec::kChunk}) {
    decoders_.push_back(make_decoder(codec));
  }
  batch_.reserve(kMaxBatchRanges);
}

std::optional<Errc> MessageReader::read_window(Decoder& decoder, const DescriptorChain& chain,
                                               Payload& payload) {
  const auto fresh = static_cast<std::size_t>(
      std::min<std::uint64_t>(payload.left, kPayloadWindowBytes - payload.tail));
  const auto read = chain.read(payload.offset, std::span(window_).subspan(payload.tail, fresh));
  if (!read) return read.error().code;
  payload.offset += fresh;
  payload.left -= fresh;

  const std::size_t size = payload.tail + fresh;
  const std::size_t old = batch_.size();
  const Decoder::Step step = decoder.payload(std::span(window_).first(size), batch_);
  const bool continues =
      old == 0 || old == batch_.size() || (apart_ && batch_[old - 1].end() < batch_[old].first);
  apart_ = step.apart && continues;
  if (step.error) return step.error;
  payload.tail = size - step.consumed;
  std::memmove(window_.data(), window_.data() + step.consumed, payload.tail);
  payload.stuck = payload.left == 0;
  return std::nullopt;
}

std::uint64_t MessageReader::order_batch() { return apart_ ? 0 : sort_and_merge(batch_); }

}  // namespace vballoon
