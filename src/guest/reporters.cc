// SPDX-License-Identifier: MIT
#include "guest/reporters.h"

#include <algorithm>
#include <cassert>

#include "guest/bitmap_reporter.h"
#include "guest/run_reporters.h"
#include "wire/page_chunks.h"
#include "wire/single_header.h"

namespace vballoon::sim {
namespace {

bool has_windows_habits(const DriverOptions& options) {
  return options.habits == DriverHabits::kWindows;
}

}  // namespace

ReporterNeeds reporter_needs(Dialect dialect, std::uint64_t pages, const DriverOptions& options) {
  switch (dialect) {
    case Dialect::kStandard:
      return {has_windows_habits(options) ? kPageSize : kLinuxPfnsPerMessage * kPfnEntryBytes, 1};
    case Dialect::kPageBitmap:
    case Dialect::kPageRange:
      return {kBitmapHeaderBytes + kBitmapDataBytes, 2};
    case Dialect::kSingleHeaderBitmap: {
      const std::uint64_t bitmap_bytes = (pages + 63) / 64 * 8;
      return {kSingleHeaderBytes + std::min<std::uint64_t>(kSingleBitmapBytes, bitmap_bytes), 1};
    }
    case Dialect::kPageChunks:
      return {kPageChunksMessageBytes, 1};
    case Dialect::kContPages:
      return {kContEntriesPerMessage * kContEntryBytes, 1};
    case Dialect::kScatterGather:
      return {0, 1};
  }
  assert(false && "no such dialect");
  return {};
}

std::unique_ptr<PageReporter> make_reporter(Dialect dialect, DmaBuffer message,
                                            const DriverOptions& options) {
  switch (dialect) {
    case Dialect::kStandard:
      return std::make_unique<PfnReporter>(message, has_windows_habits(options));
    case Dialect::kPageBitmap:
      return std::make_unique<BitmapReporter>(message, options.pfn_threshold_pages);
    case Dialect::kScatterGather:
      return std::make_unique<ChunkReporter>();
    case Dialect::kSingleHeaderBitmap:
      return std::make_unique<SingleHeaderReporter>(message);
    case Dialect::kPageRange:
      return std::make_unique<RangeListReporter>(message);
    case Dialect::kPageChunks:
      return std::make_unique<PageChunksReporter>(message);
    case Dialect::kContPages:
      return std::make_unique<ContReporter>(message);
  }
  assert(false && "no such dialect");
  return nullptr;
}

}  // namespace vballoon::sim
