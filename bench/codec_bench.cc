// SPDX-License-Identifier: MIT
// Which format is the cheapest for which pattern of pages: what does it cost to write and to read
// one page, and how many bytes does it take on the wire?
//
// Each format is written from the form in which a driver holds the pages for it: a list for the
// array, a bitmap for the others. A descriptor is counted as 16 bytes. Decoding is all that the
// host does before it sorts the ranges.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <ranges>
#include <string>
#include <string_view>
#include <vector>

#include "base/page_ranges.h"
#include "base/page_set.h"
#include "wire/chunk.h"
#include "wire/cont_pages.h"
#include "wire/dialect.h"
#include "wire/page_bitmap.h"
#include "wire/page_chunks.h"
#include "wire/pfn_array.h"
#include "wire/range_list.h"
#include "wire/single_header.h"

namespace vballoon {
namespace {

constexpr std::uint64_t kPages = std::uint64_t{1} << 16;
constexpr std::uint64_t kGuestPages = kPages * 4;
constexpr std::size_t kDescriptorBytes = 16;

std::vector<Pfn> pages_in_runs(std::uint64_t run, std::uint64_t step) {
  std::vector<Pfn> pages;
  for (Pfn first = 0; pages.size() < kPages; first += step) {
    for (Pfn page = first; page < first + run; ++page) pages.push_back(page);
  }
  return pages;
}

std::vector<Pfn> make_pages(std::string_view pattern) {
  if (pattern == "alternate") return pages_in_runs(1, 2);
  if (pattern == "runs64") return pages_in_runs(64, 128 + 1);
  std::vector<Pfn> pages = pages_in_runs(kGuestPages, kGuestPages);
  if (pattern == "random") std::shuffle(pages.begin(), pages.end(), std::mt19937_64(1));
  pages.resize(kPages);
  if (pattern == "descending") std::reverse(pages.begin(), pages.end());
  return pages;
}

struct Message {
  std::vector<std::byte> payload;
  std::vector<GuestBuffer> buffers;

  [[nodiscard]] std::size_t bytes() const {
    return payload.size() + buffers.size() * kDescriptorBytes;
  }
};

Message encode_array(const std::vector<Pfn>& pages) {
  Message message;
  message.payload.resize(pages.size() * kPfnEntryBytes);
  PfnArrayEncoder encoder(message.payload);
  for (Pfn page : pages) benchmark::DoNotOptimize(encoder.append(page));
  return message;
}

Message encode_bitmap(const PageSet& set) {
  // One message of any length, so that decoding sees whole windows.
  Message message;
  message.payload.resize(kBitmapHeaderBytes);
  std::vector<std::byte> data(kBitmapDataBytes);
  PageBitmapEncoder encoder(set.words(), 0);
  while (const std::size_t bytes = encoder.encode(data)) {
    message.payload.insert(message.payload.end(), data.data(), data.data() + bytes);
  }
  write_bitmap_header(std::span(message.payload).first<kBitmapHeaderBytes>(),
                      BitmapCommand::kRecords,
                      static_cast<std::uint32_t>(message.payload.size() - kBitmapHeaderBytes));
  return message;
}

Message encode_chunks(const PageSet& set) {
  Message message;
  PageRange run = set.next_run(0, set.size());
  while (run.count != 0) {
    const GuestBuffer piece = first_chunk(run);
    message.buffers.push_back(piece);
    run = set.next_run(run.first + (piece.length >> kPageShift), set.size());
  }
  return message;
}

Message encode_single_header(const PageSet& set) {
  Message message;
  message.payload.resize(kSingleHeaderBytes + set.words().size_bytes());
  write_single_header_message(message.payload, 0, set.words());
  return message;
}

// Of as many runs as there are, so that decoding sees whole windows.
template <typename Encoder>
void append_runs(Encoder& encoder, const PageSet& set) {
  for (PageRange run = set.next_run(0, set.size()); run.count != 0;
       run = set.next_run(run.end(), set.size())) {
    benchmark::DoNotOptimize(encoder.append(run));
  }
}

Message encode_range_list(const PageSet& set) {
  Message message;
  message.payload.resize(kBitmapHeaderBytes + 16 * (set.size() + 1));
  RangeListEncoder encoder(std::span(message.payload).subspan(kBitmapHeaderBytes));
  append_runs(encoder, set);
  message.payload.resize(kBitmapHeaderBytes + encoder.bytes());
  write_bitmap_header(std::span(message.payload).first<kBitmapHeaderBytes>(),
                      BitmapCommand::kRecords, static_cast<std::uint32_t>(encoder.bytes()));
  return message;
}

Message encode_page_chunks(const PageSet& set) {
  Message message;
  message.payload.resize(kPageChunksHeaderBytes + kPageChunkBytes * set.size());
  PageChunksEncoder encoder(message.payload);
  append_runs(encoder, set);
  message.payload.resize(encoder.finish());
  return message;
}

Message encode_blocks(const PageSet& set) {
  Message message;
  message.payload.resize(kContEntryBytes * set.size());
  ContPagesEncoder encoder(message.payload);
  append_runs(encoder, set);
  message.payload.resize(encoder.bytes());
  return message;
}

Message encode(Codec codec, const std::vector<Pfn>& pages, const PageSet& set) {
  switch (codec) {
    case Codec::kPageBitmap:
      return encode_bitmap(set);
    case Codec::kChunk:
      return encode_chunks(set);
    case Codec::kSingleHeader:
      return encode_single_header(set);
    case Codec::kRangeList:
      return encode_range_list(set);
    case Codec::kPageChunks:
      return encode_page_chunks(set);
    case Codec::kContPages:
      return encode_blocks(set);
    default:
      return encode_array(pages);
  }
}

void decode(Decoder& decoder, const Message& message, PageRanges& out) {
  benchmark::DoNotOptimize(decoder.begin(message.payload.size(), message.buffers.size()));
  for (std::size_t at = 0; at < message.payload.size();) {
    const std::size_t bytes = std::min(kPayloadWindowBytes, message.payload.size() - at);
    out.clear();
    at += decoder.payload(std::span(message.payload).subspan(at, bytes), out).consumed;
  }
  for (const GuestBuffer& buffer : message.buffers) {
    if (out.size() == kMaxRangesPerWindow) out.clear();
    benchmark::DoNotOptimize(decoder.buffer(buffer, out));
  }
  benchmark::DoNotOptimize(decoder.end());
}

PageSet make_set(const std::vector<Pfn>& pages) {
  PageSet set(*std::max_element(pages.begin(), pages.end()) + 1);
  for (Pfn page : pages) set.add(page);
  return set;
}

void report(benchmark::State& state, std::size_t message_bytes) {
  state.counters["pages"] = benchmark::Counter(static_cast<double>(kPages),
                                               benchmark::Counter::kIsIterationInvariantRate);
  state.counters["per_page"] = benchmark::Counter(
      static_cast<double>(kPages),
      benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
  state.counters["bytes_per_page"] =
      static_cast<double>(message_bytes) / static_cast<double>(kPages);
}

void encode_case(benchmark::State& state, Codec codec, std::string_view pattern) {
  const std::vector<Pfn> pages = make_pages(pattern);
  const PageSet set = make_set(pages);
  for (auto _ : state) benchmark::DoNotOptimize(encode(codec, pages, set));
  report(state, encode(codec, pages, set).bytes());
}

void decode_case(benchmark::State& state, Codec codec, std::string_view pattern) {
  const std::vector<Pfn> pages = make_pages(pattern);
  const Message message = encode(codec, pages, make_set(pages));
  const std::unique_ptr<Decoder> decoder = make_decoder(codec);
  PageRanges out;
  out.reserve(kMaxRangesPerWindow);
  for (auto _ : state) {
    decode(*decoder, message, out);
    benchmark::ClobberMemory();
  }
  report(state, message.bytes());
}

bool register_all() {
  constexpr std::array<std::string_view, 5> kPatterns{"contiguous", "descending", "alternate",
                                                      "random", "runs64"};
  for (const DialectRow& row : all_dialects()) {
    // The last queue to deflate: that for blocks, where there are two.
    const auto& queue =
        *std::ranges::find(row.queues | std::views::reverse, QueueRole::kDeflate, &QueueRow::role);
    const Codec codec = queue.codec.value();
    for (std::string_view pattern : kPatterns) {
      const std::string name =
          "/format:" + std::string(row.name) + "/pattern:" + std::string(pattern);
      benchmark::RegisterBenchmark(("Encode" + name).c_str(), encode_case, codec, pattern);
      benchmark::RegisterBenchmark(("Decode" + name).c_str(), decode_case, codec, pattern);
    }
  }
  return true;
}

[[maybe_unused]] const bool kRegistered = register_all();

}  // namespace
}  // namespace vballoon
