// SPDX-License-Identifier: MIT
#include "wire/dialect.h"

#include <algorithm>
#include <cassert>
#include <cstddef>

#include "wire/chunk.h"
#include "wire/cont_pages.h"
#include "wire/page_bitmap.h"
#include "wire/page_chunks.h"
#include "wire/pfn_array.h"
#include "wire/range_list.h"
#include "wire/single_header.h"

namespace vballoon {
namespace {

constexpr std::size_t kStandardQueues = 5;
using StandardQueues = std::array<QueueRow, kStandardQueues>;

constexpr StandardQueues standard_queues(Codec codec) {
  return {{{QueueRole::kInflate, codec, std::nullopt},
           {QueueRole::kDeflate, codec, std::nullopt},
           {QueueRole::kStats, std::nullopt, Feature::kStatsVq},
           {QueueRole::kFreePageHint, Codec::kChunk, Feature::kFreePageHint},
           {QueueRole::kReporting, Codec::kChunk, Feature::kPageReporting}}};
}

template <Codec codec>
constexpr StandardQueues kQueuesOf = standard_queues(codec);

// Queues for requests to the guest stand behind the statistics.
template <std::size_t count>
constexpr auto with_requests(const StandardQueues& standard,
                             const std::array<QueueRow, count>& requests) {
  constexpr std::size_t kBefore = 3;
  std::array<QueueRow, kStandardQueues + count> queues;
  const auto behind = std::ranges::copy_n(standard.begin(), kBefore, queues.begin()).out;
  std::ranges::copy(standard.begin() + kBefore, standard.end(),
                    std::ranges::copy(requests, behind).out);
  return queues;
}

constexpr auto kBitmapQueues =
    with_requests<1>(kQueuesOf<Codec::kPageBitmap>,
                     {{{QueueRole::kRequest, Codec::kPageBitmap, std::nullopt, true}}});

constexpr auto kScatterGatherQueues = with_requests<2>(
    kQueuesOf<Codec::kChunk>, {{{QueueRole::kControl, std::nullopt, std::nullopt, true},
                                {QueueRole::kFreePages, Codec::kChunk, std::nullopt, true}}});

constexpr auto kContQueues = [] {
  std::array<QueueRow, kStandardQueues + 2> queues;
  std::ranges::copy(kQueuesOf<Codec::kPfnArray>, queues.begin());
  queues[kStandardQueues] = {QueueRole::kInflate, Codec::kContPages, std::nullopt};
  queues[kStandardQueues + 1] = {QueueRole::kDeflate, Codec::kContPages, std::nullopt};
  return queues;
}();

constexpr auto kDialects = std::to_array<DialectRow>({
    {Dialect::kStandard, "pfn", kQueuesOf<Codec::kPfnArray>},
    {Dialect::kPageBitmap, "bitmap", kBitmapQueues},
    {Dialect::kScatterGather, "chunk", kScatterGatherQueues},
    {Dialect::kSingleHeaderBitmap, "single-header", kQueuesOf<Codec::kSingleHeader>},
    {Dialect::kPageRange, "range", kQueuesOf<Codec::kRangeList>},
    {Dialect::kPageChunks, "page-chunks", kQueuesOf<Codec::kPageChunks>},
    {Dialect::kContPages, "cont", kContQueues},
});

// dialect_row() looks rows up by their number.
static_assert(std::ranges::all_of(kDialects, [](const DialectRow& r) {
  return &r == &kDialects[static_cast<std::size_t>(r.dialect)];
}));

}  // namespace

std::span<const DialectRow> all_dialects() { return kDialects; }

const DialectRow& dialect_row(Dialect dialect) {
  return kDialects[static_cast<std::size_t>(dialect)];
}

QueueMap number_queues(const DialectRow& row, Features features, QueueNumbering numbering,
                       bool guest_requests) {
  QueueMap map{};
  std::size_t next = 0;
  for (const QueueRow& queue : row.queues) {
    if (queue.of_requests && !guest_requests) continue;
    const bool exists = !queue.feature || features.has(*queue.feature);
    if (exists) map[next] = &queue;
    if (exists || numbering == QueueNumbering::kFixed) ++next;
  }
  return map;
}

std::unique_ptr<Decoder> make_decoder(Codec codec) {
  switch (codec) {
    case Codec::kPfnArray:
      return std::make_unique<PfnArrayDecoder>(false);
    case Codec::kWidePfnArray:
      return std::make_unique<PfnArrayDecoder>(true);
    case Codec::kPageBitmap:
      return std::make_unique<PageBitmapDecoder>();
    case Codec::kSingleHeader:
      return std::make_unique<SingleHeaderDecoder>();
    case Codec::kRangeList:
      return std::make_unique<RangeListDecoder>();
    case Codec::kPageChunks:
      return std::make_unique<PageChunksDecoder>();
    case Codec::kContPages:
      return std::make_unique<ContPagesDecoder>();
    case Codec::kChunk:
      return std::make_unique<ChunkDecoder>();
  }
  assert(false && "no such codec");
  return nullptr;
}

}  // namespace vballoon
