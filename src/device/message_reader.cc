// SPDX-License-Identifier: MIT
#include "device/message_reader.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <span>

#include "base/page_batch.h"

namespace vballoon {

MessageReader::MessageReader() : window_(kPayloadWindowBytes) {
  for (std::size_t i = 0; i < kCodecs; ++i) {
    decoders_.push_back(make_decoder(static_cast<Codec>(i)));
  }
  batch_.reserve(kMaxBatchRanges);
}

std::optional<Errc> MessageReader::begin(Codec codec, const DescriptorChain& chain,
                                         MessagePlace from) {
  Decoder& decoder = *decoders_[static_cast<std::size_t>(codec)];
  if (const auto bad = decoder.begin(chain.readable_bytes(), chain.writable().size())) return bad;
  decoder_ = &decoder;
  payload_ = {.left = chain.readable_bytes()};
  again_up_to_ = from.bytes;
  next_buffer_ = std::min<std::uint64_t>(from.buffers, chain.writable().size());
  return std::nullopt;
}

std::optional<Errc> MessageReader::read_window(const DescriptorChain& chain) {
  const auto fresh = static_cast<std::size_t>(
      std::min<std::uint64_t>(payload_.left, kPayloadWindowBytes - payload_.tail));
  const auto read = chain.read(payload_.offset, std::span(window_).subspan(payload_.tail, fresh));
  if (!read) return read.error().code;
  payload_.offset += fresh;
  payload_.left -= fresh;

  const std::size_t size = payload_.tail + fresh;
  const std::size_t old = batch_.size();
  const Decoder::Step step = decoder_->payload(std::span(window_).first(size), batch_);
  if (payload_.offset <= again_up_to_) {
    batch_.resize(old);
  } else {
    const bool ordered_behind =
        old == batch_.size() || (old != 0 && batch_[old - 1].end() < batch_[old].first);
    const bool continues = old == 0 || (apart_ && ordered_behind);
    apart_ = step.apart && continues;
  }
  if (step.error) return step.error;
  payload_.tail = size - step.consumed;
  std::memmove(window_.data(), window_.data() + step.consumed, payload_.tail);
  return std::nullopt;
}

std::uint64_t MessageReader::order_batch() {
  const std::uint64_t repeated = apart_ ? 0 : sort_and_merge(batch_);
  // All that finds host addresses for the batch relies on it.
  assert(std::ranges::adjacent_find(batch_, [](const PageRange& one, const PageRange& next) {
           return next.first <= one.end();
         }) == batch_.end());
  return repeated;
}

}  // namespace vballoon
