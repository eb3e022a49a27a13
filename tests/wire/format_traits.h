// SPDX-License-Identifier: MIT
// The formats behind one interface: pages in, messages out, pages back.
#ifndef VBALLOON_TESTS_WIRE_FORMAT_TRAITS_H_
#define VBALLOON_TESTS_WIRE_FORMAT_TRAITS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <tuple>
#include <vector>

#include "base/page_batch.h"
#include "base/page_ranges.h"
#include "base/page_set.h"
#include "wire/chunk.h"
#include "wire/cont_pages.h"
#include "wire/dialect.h"
#include "wire/little_endian.h"
#include "wire/page_bitmap.h"
#include "wire/page_chunks.h"
#include "wire/pfn_array.h"
#include "wire/range_list.h"
#include "wire/single_header.h"

namespace vballoon::wire_test {

// One message as the driver sends it.
struct WireMessage {
  std::vector<std::byte> payload = {};
  std::vector<GuestBuffer> buffers = {};
};

// What the host made of messages.
struct Decoded {
  PageRanges ranges = {};
  std::vector<Errc> errors = {};
  std::size_t most_ranges_per_window = 0;
  bool apart = false;  // what the decoder said of the last window
};

inline void note(std::optional<Errc> error, Decoded& decoded) {
  if (error.has_value()) decoded.errors.push_back(*error);
}

// What a decoder says of its ranges has to be true, whoever asks for what.
inline void expect_apart(std::span<const PageRange> ranges) {
  const auto touch = std::ranges::adjacent_find(
      ranges, [](const PageRange& a, const PageRange& b) { return a.end() >= b.first; });
  EXPECT_EQ(touch, ranges.end());
}

// Reads windows as the device does: what a window leaves over stands first in the next one.
inline void decode_payload(Decoder& decoder, const WireMessage& message, std::size_t window_bytes,
                           Decoded& decoded) {
  Decoder::Step step;
  for (std::size_t at = 0; at < message.payload.size(); at += step.consumed) {
    const auto part = std::span(message.payload).subspan(at);
    // A copy of its own, so that the address sanitizer sees a read behind the window.
    const std::vector<std::byte> window(
        part.begin(),
        part.begin() + static_cast<std::ptrdiff_t>(std::min(window_bytes, part.size())));
    const std::size_t before = decoded.ranges.size();
    step = decoder.payload(window, decoded.ranges);
    decoded.most_ranges_per_window =
        std::max(decoded.most_ranges_per_window, decoded.ranges.size() - before);
    decoded.apart = step.apart;
    if (step.apart) expect_apart(std::span(decoded.ranges).subspan(before));
    note(step.error, decoded);
    if (step.error.has_value() || step.consumed == 0) return;
  }
}

inline void decode(Decoder& decoder, const WireMessage& message, Decoded& decoded,
                   std::size_t window_bytes = kPayloadWindowBytes) {
  const std::size_t errors = decoded.errors.size();
  note(decoder.begin(message.payload.size(), message.buffers.size()), decoded);
  if (decoded.errors.size() > errors) return;
  decode_payload(decoder, message, window_bytes, decoded);
  for (const GuestBuffer& buffer : message.buffers) {
    note(decoder.buffer(buffer, decoded.ranges), decoded);
  }
  if (decoded.errors.size() == errors) note(decoder.end(), decoded);
}

inline Decoded decode(Codec codec, const WireMessage& message,
                      std::size_t window_bytes = kPayloadWindowBytes) {
  Decoded decoded;
  decode(*make_decoder(codec), message, decoded, window_bytes);
  return decoded;
}

inline std::vector<std::byte> words(std::initializer_list<std::uint64_t> values) {
  std::vector<std::byte> bytes(values.size() * sizeof(std::uint64_t));
  std::byte* to = bytes.data();
  for (std::uint64_t value : values) {
    store_le(to, value);
    to += sizeof value;
  }
  return bytes;
}

inline std::vector<std::byte> pfns(std::initializer_list<std::uint32_t> values) {
  std::vector<std::byte> bytes(values.size() * kPfnEntryBytes);
  PfnArrayEncoder encoder(bytes);
  for (std::uint32_t value : values) std::ignore = encoder.append(value);
  return bytes;
}

inline std::vector<std::byte> operator+(std::vector<std::byte> a, const std::vector<std::byte>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// A message of the bitmap format with a correct header.
inline WireMessage bitmap_message(BitmapCommand command, const std::vector<std::byte>& data) {
  std::vector<std::byte> header(kBitmapHeaderBytes);
  write_bitmap_header(std::span(header).first<kBitmapHeaderBytes>(), command,
                      static_cast<std::uint32_t>(data.size()));
  return {header + data};
}

inline PageRanges as_ranges(std::span<const Pfn> pages) {
  PageRanges ranges;
  for (Pfn page : pages) ranges.push_back({page, 1});
  sort_and_merge(ranges);
  return ranges;
}

// Each format: the messages that name the given pages, each page once.
struct PfnArrayFormat {
  static constexpr Codec kCodec = Codec::kPfnArray;

  static std::vector<WireMessage> encode(std::span<const Pfn> pages) {
    WireMessage message{std::vector<std::byte>(pages.size() * kPfnEntryBytes)};
    PfnArrayEncoder encoder(message.payload);
    for (Pfn page : pages) std::ignore = encoder.append(page);
    return {message};
  }
};

// The pages as the bits of a set whose first one is a multiple of 64.
struct Bitmap {
  Pfn base;
  PageSet set;
};
inline Bitmap bitmap_of(std::span<const Pfn> pages) {
  const auto [low, high] = std::minmax_element(pages.begin(), pages.end());
  Bitmap bitmap{*low / 64 * 64, PageSet(*high - *low / 64 * 64 + 1)};
  for (Pfn page : pages) bitmap.set.add(page - bitmap.base);
  return bitmap;
}

struct PageBitmapFormat {
  static constexpr Codec kCodec = Codec::kPageBitmap;
  static constexpr std::size_t kDataBytes = std::size_t{1} << 20;  // to be more than one window

  static std::vector<WireMessage> encode(std::span<const Pfn> pages) {
    const auto [base, set] = bitmap_of(pages);

    std::vector<WireMessage> messages;
    std::vector<std::byte> data(kDataBytes);
    PageBitmapEncoder encoder(set.words(), base);
    while (!encoder.done()) {
      data.resize(encoder.encode(data));
      messages.push_back(bitmap_message(BitmapCommand::kRecords, data));
      data.resize(kDataBytes);
    }
    return messages;
  }
};

// The array that the bitmap dialect can carry.
struct WrappedPfnArrayFormat {
  static constexpr Codec kCodec = Codec::kPageBitmap;

  static std::vector<WireMessage> encode(std::span<const Pfn> pages) {
    const auto array = PfnArrayFormat::encode(pages).front().payload;
    return {bitmap_message(BitmapCommand::kPfnArray, array)};
  }
};

struct ChunkFormat {
  static constexpr Codec kCodec = Codec::kChunk;

  static std::vector<WireMessage> encode(std::span<const Pfn> pages) {
    std::vector<WireMessage> messages;
    for (PageRange run : as_ranges(pages)) {
      while (run.count != 0) {
        const GuestBuffer piece = first_chunk(run);
        messages.push_back({{}, {piece}});
        const std::uint64_t sent = piece.length >> kPageShift;
        run = {run.first + sent, run.count - sent};
      }
    }
    return messages;
  }
};

struct SingleHeaderFormat {
  static constexpr Codec kCodec = Codec::kSingleHeader;

  static std::vector<WireMessage> encode(std::span<const Pfn> pages) {
    const auto [base, set] = bitmap_of(pages);

    std::vector<WireMessage> messages;
    for (Pfn at = 0; at < set.size(); at += kSingleWindowPages) {
      const auto words = set.words().subspan(at / 64);
      const std::size_t count = std::min<std::size_t>(words.size(), kSingleWindowPages / 64);
      WireMessage message{std::vector<std::byte>(kSingleHeaderBytes + 8 * count)};
      std::ignore = write_single_header_message(message.payload, base + at, words.first(count));
      messages.push_back(std::move(message));
    }
    return messages;
  }
};

// A format whose message is a list of runs, for as long as an encoder has room.
template <typename Encoder>
std::vector<WireMessage> encode_runs(std::span<const Pfn> pages, Encoder encode_some) {
  std::vector<WireMessage> messages;
  PageRanges runs = as_ranges(pages);
  for (std::span<const PageRange> left = runs; !left.empty();) {
    messages.push_back(encode_some(left));
  }
  return messages;
}

struct RangeListFormat {
  static constexpr Codec kCodec = Codec::kRangeList;

  static std::vector<WireMessage> encode(std::span<const Pfn> pages) {
    return encode_runs(pages, [](std::span<const PageRange>& left) {
      std::vector<std::byte> data(kBitmapDataBytes);
      RangeListEncoder encoder(data);
      while (!left.empty() && encoder.append(left.front())) left = left.subspan(1);
      data.resize(encoder.bytes());
      return bitmap_message(BitmapCommand::kRecords, data);
    });
  }
};

struct PageChunksFormat {
  static constexpr Codec kCodec = Codec::kPageChunks;

  static std::vector<WireMessage> encode(std::span<const Pfn> pages) {
    return encode_runs(pages, [](std::span<const PageRange>& left) {
      WireMessage message{std::vector<std::byte>(kPageChunksMessageBytes)};
      PageChunksEncoder encoder(message.payload);
      while (!left.empty() && encoder.append(left.front())) left = left.subspan(1);
      message.payload.resize(encoder.finish());
      return message;
    });
  }
};

struct ContPagesFormat {
  static constexpr Codec kCodec = Codec::kContPages;

  static std::vector<WireMessage> encode(std::span<const Pfn> pages) {
    return encode_runs(pages, [](std::span<const PageRange>& left) {
      WireMessage message{std::vector<std::byte>(kContEntriesPerMessage * kContEntryBytes)};
      ContPagesEncoder encoder(message.payload);
      while (!left.empty() && encoder.append(left.front())) left = left.subspan(1);
      message.payload.resize(encoder.bytes());
      return message;
    });
  }
};

template <typename Format>
Decoded round_trip(std::span<const Pfn> pages, std::size_t window_bytes = kPayloadWindowBytes) {
  Decoded decoded;
  const std::unique_ptr<Decoder> decoder = make_decoder(Format::kCodec);
  for (const WireMessage& message : Format::encode(pages)) {
    decode(*decoder, message, decoded, window_bytes);
  }
  // Encoders name no page twice; a page that a decoder doubles would vanish in merging.
  if (sort_and_merge(decoded.ranges) != 0) decoded.errors.push_back(Errc::kPageRepeated);
  return decoded;
}

// `count` pages from `first` on, `step` apart.
inline std::vector<Pfn> every(std::uint64_t step, Pfn first, std::uint64_t count) {
  std::vector<Pfn> pages;
  for (std::uint64_t i = 0; i < count; ++i) pages.push_back(first + i * step);
  return pages;
}

}  // namespace vballoon::wire_test

#endif  // VBALLOON_TESTS_WIRE_FORMAT_TRAITS_H_
