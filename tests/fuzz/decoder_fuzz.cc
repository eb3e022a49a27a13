// SPDX-License-Identifier: MIT
// One message through the decoder of one format, in windows as a device cuts them.
//
// Input: the codec; how often the payload stands one after the other, so that a short input makes
// several windows; writable buffers; the rest is payload. The oracle is a naive decoder: the same
// pages as often, the same errors, and what the contract of Decoder says about each window.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "fuzz/naive_decoder.h"
#include "wire/decoder.h"
#include "wire/dialect.h"

namespace vballoon::fuzz {
namespace {

constexpr std::size_t kMaxPayloadBytes = 3 * kPayloadWindowBytes;
constexpr PageRange kSentinel{7, 3};  // stands in front and must stay as it is

// Where the number of times that a page is named changes, and by how much: equal for two lists of
// ranges that name the same pages as often.
using Coverage = std::vector<std::pair<Pfn, std::int64_t>>;

Coverage coverage_of(std::span<const PageRange> ranges) {
  Coverage steps;
  for (const PageRange& range : ranges) {
    steps.emplace_back(range.first, 1);
    steps.emplace_back(range.end(), -1);
  }
  std::ranges::sort(steps);
  Coverage merged;
  for (const auto& [pfn, step] : steps) {
    if (merged.empty() || merged.back().first != pfn) {
      if (!merged.empty() && merged.back().second == 0) merged.pop_back();
      merged.emplace_back(pfn, 0);
    }
    merged.back().second += step;
  }
  if (!merged.empty() && merged.back().second == 0) merged.pop_back();
  return merged;
}

struct Message {
  Codec codec = Codec::kPfnArray;
  std::vector<std::byte> payload;
  std::vector<GuestBuffer> writable;
};

// Writes the length that a header says, where the format has one.
void set_length(Message& message) {
  const auto set = [&](std::size_t at, std::size_t bytes, std::uint64_t value) {
    for (std::size_t i = 0; i < bytes && at + i < message.payload.size(); ++i) {
      message.payload[at + i] = static_cast<std::byte>(value >> (8 * i));
    }
  };
  const std::size_t behind = message.payload.size() - 8;
  switch (message.codec) {
    case Codec::kPageBitmap:
    case Codec::kRangeList:
      return set(4, 4, behind);
    case Codec::kSingleHeader:
      return set(24, 8, behind < 24 ? 0 : behind - 24);
    case Codec::kPageChunks:
      return set(0, 8, behind / 16);
    default:
      return;
  }
}

Message take_message(FuzzInput& input) {
  Message message;
  message.codec = static_cast<Codec>(input.take<std::uint8_t>() % kCodecs);
  const auto repeat = input.take<std::uint8_t>();
  const std::size_t buffers = input.take<std::uint8_t>() % 8;
  for (std::size_t i = 0; i < buffers; ++i) {
    const auto address = input.take<std::uint64_t>();
    const auto length = input.take<std::uint32_t>();
    // Aligned ones are what a chance never makes.
    const bool aligned = input.take_bool();
    message.writable.push_back(aligned ? GuestBuffer{address << kPageShift, length << kPageShift}
                                       : GuestBuffer{address, length});
  }
  // A header and what follows it: only the latter is repeated.
  const auto head = input.take_bytes(message.codec == Codec::kSingleHeader ? 32 : 8);
  message.payload.assign(head.begin(), head.end());
  const auto body = input.take_bytes(kMaxPayloadBytes);
  const std::size_t times = repeat < 0xE0 ? 1 : repeat - 0xDE;  // mostly once: that is fast
  for (std::size_t i = 0; i < times; ++i) {
    if (message.payload.size() + body.size() > kMaxPayloadBytes) break;
    message.payload.insert(message.payload.end(), body.begin(), body.end());
  }
  // The length in a header is made right, unless its second byte asks for what stands there.
  if (head.size() >= 8 && head[1] != std::byte{0xFF}) set_length(message);
  return message;
}

void check_step(const Decoder::Step& step, std::size_t window, bool last, std::size_t before,
                std::span<const PageRange> ranges) {
  check(step.consumed <= window, "a step consumes no more than its window");
  check(last || step.error || window - step.consumed <= 64, "a step leaves at most one entry");
  check(ranges.size() - before <= kMaxRangesPerWindow, "a window becomes so many ranges at most");
  for (std::size_t i = before; i < ranges.size(); ++i) {
    check(ranges[i].count != 0, "a range has pages");
    check(ranges[i].end() > ranges[i].first, "a range does not come round");
    check(!step.apart || i == before || ranges[i - 1].end() < ranges[i].first,
          "ranges are apart when a step says so");
  }
}

void decode(Decoder& decoder, const Message& message, PageRanges& out, std::vector<Errc>& errors) {
  const auto note = [&](std::optional<Errc> error) {
    if (error) errors.push_back(*error);
    return error.has_value();
  };
  if (note(decoder.begin(message.payload.size(), message.writable.size()))) return;
  for (std::size_t at = 0; at < message.payload.size();) {
    const std::size_t window = std::min(kPayloadWindowBytes, message.payload.size() - at);
    const bool last = at + window == message.payload.size();
    // A copy that ends where the window does: a look beyond is an error of the sanitizer's.
    const std::vector<std::byte> copy(message.payload.data() + at,
                                      message.payload.data() + at + window);
    const std::size_t before = out.size();
    const auto step = decoder.payload(copy, out);
    check_step(step, window, last, before, out);
    if (note(step.error)) return;
    if (last) break;
    check(step.consumed != 0, "a full window brings the message on");
    at += step.consumed;
  }
  for (const GuestBuffer& buffer : message.writable) note(decoder.buffer(buffer, out));
  note(decoder.end());
}

void run(FuzzInput input) {
  const Message message = take_message(input);
  // One for all inputs, as in a device: a message must leave nothing behind.
  static const std::vector<std::unique_ptr<Decoder>> decoders = [] {
    std::vector<std::unique_ptr<Decoder>> all;
    for (std::size_t i = 0; i < kCodecs; ++i) all.push_back(make_decoder(static_cast<Codec>(i)));
    return all;
  }();
  static PageRanges ranges;
  ranges.reserve(4 * kMaxRangesPerWindow);
  ranges.assign({kSentinel});
  const PageRange* const place = ranges.data();

  std::vector<Errc> errors;
  decode(*decoders[static_cast<std::size_t>(message.codec)], message, ranges, errors);

  check(ranges.data() == place, "nothing is allocated while there is room");
  check(ranges.front() == kSentinel, "what stood there before stays as it is");
  const auto expected = decode_naively(message.codec, message.payload, message.writable);
  check(errors == expected.errors, "the errors are those of the naive decoder");
  check(coverage_of(std::span(ranges).subspan(1)) == coverage_of(expected.pages),
        "the pages are those of the naive decoder");
}

}  // namespace
}  // namespace vballoon::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vballoon::fuzz::run({data, size});
  return 0;
}
