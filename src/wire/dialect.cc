// SPDX-License-Identifier: MIT
#include "wire/dialect.h"

#include <algorithm>
#include <cassert>
#include <cstddef>

#include "wire/chunk.h"
#include "wire/page_bitmap.h"
#include "wire/pfn_array.h"

namespace vballoon {
namespace {

constexpr DialectRow row(Dialect dialect, std::string_view name, Codec codec) {
  return {dialect,
          name,
          {{{QueueRole::kInflate, codec, std::nullopt},
            {QueueRole::kDeflate, codec, std::nullopt},
            {QueueRole::kStats, std::nullopt, Feature::kStatsVq},
            {QueueRole::kFreePageHint, Codec::kChunk, Feature::kFreePageHint},
            {QueueRole::kReporting, Codec::kChunk, Feature::kPageReporting}}}};
}

constexpr std::array kDialects{
    row(Dialect::kStandard, "pfn", Codec::kPfnArray),
    row(Dialect::kPageBitmap, "bitmap", Codec::kPageBitmap),
    row(Dialect::kScatterGather, "chunk", Codec::kChunk),
};

// dialect_row() looks rows up by their number.
static_assert(std::ranges::all_of(kDialects, [](const DialectRow& r) {
  return &r == &kDialects[static_cast<std::size_t>(r.dialect)];
}));

}  // namespace

const DialectRow& dialect_row(Dialect dialect) {
  return kDialects[static_cast<std::size_t>(dialect)];
}

QueueMap number_queues(const DialectRow& row, Features features, QueueNumbering numbering) {
  QueueMap map{};
  std::size_t next = 0;
  for (const QueueRow& queue : row.queues) {
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
    case Codec::kChunk:
      return std::make_unique<ChunkDecoder>();
  }
  assert(false && "no such codec");
  return nullptr;
}

}  // namespace vballoon
