// SPDX-License-Identifier: MIT
// What each dialect says on which queue: one table, read by both sides.
#ifndef VBALLOON_SRC_WIRE_DIALECT_H_
#define VBALLOON_SRC_WIRE_DIALECT_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

#include "vballoon/export.h"
#include "vballoon/features.h"
#include "wire/decoder.h"

namespace vballoon {

// The way in which a message names its pages.
enum class Codec : std::uint8_t { kPfnArray, kPageBitmap, kChunk };

enum class QueueRole : std::uint8_t { kInflate, kDeflate };

struct QueueRow {
  QueueRole role;
  Codec codec;
};

struct DialectRow {
  Dialect dialect;
  std::string_view name;           // as the command spells it: "pfn", "bitmap", "chunk"
  std::array<QueueRow, 2> queues;  // by queue index
};

// The row of a dialect whose bit was negotiated.
[[nodiscard]] VBALLOON_EXPORT const DialectRow& dialect_row(Dialect dialect);

// What the two sides speak: a dialect whose bit was not accepted is the standard's.
[[nodiscard]] constexpr Dialect negotiated_dialect(Dialect offered, unsigned dialect_bit,
                                                   Features negotiated) {
  return negotiated.has_bit(dialect_bit) ? offered : Dialect::kStandard;
}

[[nodiscard]] VBALLOON_EXPORT std::unique_ptr<Decoder> make_decoder(Codec codec);

}  // namespace vballoon

#endif  // VBALLOON_SRC_WIRE_DIALECT_H_
