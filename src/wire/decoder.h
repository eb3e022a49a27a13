// SPDX-License-Identifier: MIT
// Reads one message of one format back as page ranges. Host side: nothing it is given is trusted.
//
// A payload is handed over in windows that are private copies, so that a message may have any
// length and is never read twice. Ranges come out as the message names them: neither clipped to
// guest memory nor sorted, adjacent entries merged where that is free. A range may lie anywhere
// below page 2^53: its end() does not overflow, its bytes() may until it is clipped.
//
// A format with a payload has no use for writable buffers: each one fails with
// kUnexpectedWritable by itself, and the pages of the payload hold. A format whose buffers are
// the message refuses a payload in begin(): who sent it speaks another dialect.
#ifndef VBALLOON_SRC_WIRE_DECODER_H_
#define VBALLOON_SRC_WIRE_DECODER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/page_ranges.h"
#include "vballoon/error.h"
#include "vballoon/export.h"
#include "vballoon/guest_buffer.h"
#include "vballoon/page_range.h"

namespace vballoon {

// The largest piece of a payload that is looked at in one go.
inline constexpr std::size_t kPayloadWindowBytes = std::size_t{64} * 1024;

// What one window can become at the most: a bitmap in which every other bit is a range of its own.
inline constexpr std::size_t kMaxRangesPerWindow = kPayloadWindowBytes * 8 / 2;

// A Decoder is used for one message after the other: begin, payload..., buffer..., end. Never
// allocates, but for `out` when that has less room than kMaxRangesPerWindow. Ranges are appended;
// those that stood in `out` before a call stay as they are.
class VBALLOON_EXPORT Decoder {
 public:
  virtual ~Decoder() = default;

  // Begins a message with that many readable bytes in all and that many writable buffers. An
  // error means that nothing of the message can be used.
  [[nodiscard]] virtual std::optional<Errc> begin(std::uint64_t readable_bytes,
                                                  std::size_t writable_buffers) = 0;

  struct Step {
    std::size_t consumed = 0;  // bytes; the rest must stand first in the next window
    std::optional<Errc> error = std::nullopt;  // the message ends here; ranges so far hold
    // Each range that was appended is known to end before the next one begins, with a gap. A
    // format that learns it in passing saves the look at every range.
    bool apart = false;
  };
  // Reads whole entries from the next window. Unless it is the last one it has
  // kPayloadWindowBytes; consumes all but the beginning of an entry that the window cuts
  // (at most 64 bytes).
  [[nodiscard]] virtual Step payload(std::span<const std::byte> window, PageRanges& out) = 0;

  // Reads one device-writable buffer of the message.
  [[nodiscard]] virtual std::optional<Errc> buffer(const GuestBuffer& buffer, PageRanges& out) = 0;

  // Ends the message; fails when it stopped within an entry.
  [[nodiscard]] virtual std::optional<Errc> end() = 0;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_WIRE_DECODER_H_
