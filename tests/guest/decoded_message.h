// SPDX-License-Identifier: MIT
// What a device reads out of a message of the simulated driver.
#ifndef VBALLOON_TESTS_GUEST_DECODED_MESSAGE_H_
#define VBALLOON_TESTS_GUEST_DECODED_MESSAGE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "base/page_batch.h"
#include "base/page_ranges.h"
#include "vballoon/device_queue.h"
#include "vballoon/page_range.h"
#include "wire/dialect.h"

namespace vballoon::testing {

struct DecodedMessage {
  std::uint16_t queue = 0;
  std::vector<std::byte> payload;     // of all readable buffers
  std::vector<GuestBuffer> writable;  // as they stand in the chain
  PageRanges pages;                   // as decoded: neither sorted nor merged

  // The payload as numbers of 32 bits, from a byte on.
  [[nodiscard]] std::vector<std::uint32_t> numbers(std::size_t from = 0) const {
    std::vector<std::uint32_t> all((payload.size() - from) / sizeof(std::uint32_t));
    std::memcpy(all.data(), payload.data() + from, all.size() * sizeof(std::uint32_t));
    return all;
  }
};

// Reads a chain that names no pages; throws when it cannot be read.
inline DecodedMessage read_message(std::uint16_t queue, const DescriptorChain& chain) {
  DecodedMessage message{queue, {}, {}, {}};
  message.payload.resize(chain.readable_bytes());
  message.writable.assign(chain.writable().begin(), chain.writable().end());
  if (!message.payload.empty() && !chain.read(0, message.payload)) {
    throw std::runtime_error("malformed message");
  }
  return message;
}

// Reads a chain with the library's own decoder; throws when the message is malformed.
inline DecodedMessage decode_message(Codec codec, std::uint16_t queue,
                                     const DescriptorChain& chain) {
  DecodedMessage message = read_message(queue, chain);
  const auto require = [](bool holds) {
    if (!holds) throw std::runtime_error("malformed message");
  };

  const auto decoder = make_decoder(codec);
  require(!decoder->begin(message.payload.size(), message.writable.size()));
  if (!message.payload.empty()) {
    const auto step = decoder->payload(message.payload, message.pages);
    require(!step.error && step.consumed == message.payload.size());
  }
  for (const GuestBuffer& buffer : message.writable) {
    require(!decoder->buffer(buffer, message.pages));
  }
  require(!decoder->end());
  return message;
}

// The pages of some ranges or messages, in order and merged; throws when one is named twice.
inline PageRanges merged(PageRanges ranges) {
  if (sort_and_merge(ranges) != 0) throw std::runtime_error("a page is named twice");
  return ranges;
}

inline PageRanges pages_of(const std::vector<DecodedMessage>& messages) {
  PageRanges all;
  for (const DecodedMessage& message : messages) {
    all.insert(all.end(), message.pages.begin(), message.pages.end());
  }
  return merged(std::move(all));
}

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_GUEST_DECODED_MESSAGE_H_
