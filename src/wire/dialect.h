// SPDX-License-Identifier: MIT
// What each dialect says on which queue: one table, read by both sides.
#ifndef VBALLOON_SRC_WIRE_DIALECT_H_
#define VBALLOON_SRC_WIRE_DIALECT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "vballoon/balloon_registers.h"
#include "vballoon/export.h"
#include "vballoon/features.h"
#include "wire/decoder.h"

namespace vballoon {

// The way in which a message names its pages.
enum class Codec : std::uint8_t {
  kPfnArray,
  kWidePfnArray,  // the same, from drivers some of which write 64-bit entries
  kPageBitmap,
  kChunk,
  kSingleHeader,
  kRangeList,
  kPageChunks,
  kContPages,
};
inline constexpr std::size_t kCodecs = 8;

// What a queue is for, in the order of the standard (5.5.2). A dialect may have several queues for
// one purpose, with messages of different formats.
enum class QueueRole : std::uint8_t {
  kInflate,
  kDeflate,
  kStats,
  kFreePageHint,
  kReporting,
  // Of requests to the guest (wire/guest_request.h): the request queue with its answers, or the
  // control queue and the queue for the free pages that it asks for.
  kRequest,
  kControl,
  kFreePages,
};

struct QueueRow {
  QueueRole role;
  std::optional<Codec> codec;      // of messages that name pages
  std::optional<Feature> feature;  // without which there is no such queue
  bool of_requests = false;        // is there only if requests to the guest were negotiated
};

// Free pages that the host is told of and may not discard.
[[nodiscard]] constexpr bool brings_hints(const QueueRow& row) {
  return row.role == QueueRole::kFreePageHint || row.role == QueueRole::kFreePages ||
         row.role == QueueRole::kRequest;
}

struct DialectRow {
  Dialect dialect;
  std::string_view name;             // as the command spells it: "pfn", "bitmap", ...
  std::span<const QueueRow> queues;  // in the order of their numbers
};

// By Dialect.
[[nodiscard]] VBALLOON_EXPORT std::span<const DialectRow> all_dialects();

// The row of a dialect whose bit was negotiated.
[[nodiscard]] VBALLOON_EXPORT const DialectRow& dialect_row(Dialect dialect);

// What the two sides speak: a dialect whose bit was not accepted is the standard's.
[[nodiscard]] constexpr Dialect negotiated_dialect(Dialect offered, unsigned dialect_bit,
                                                   Features negotiated) {
  return negotiated.has_bit(dialect_bit) ? offered : Dialect::kStandard;
}

// The queues that exist with these features, by their number; the rest are null.
using QueueMap = std::array<const QueueRow*, kMaxBalloonQueues>;
[[nodiscard]] VBALLOON_EXPORT QueueMap number_queues(const DialectRow& row, Features features,
                                                     QueueNumbering numbering,
                                                     bool guest_requests = false);

[[nodiscard]] VBALLOON_EXPORT std::unique_ptr<Decoder> make_decoder(Codec codec);

}  // namespace vballoon

#endif  // VBALLOON_SRC_WIRE_DIALECT_H_
