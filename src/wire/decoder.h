// SPDX-License-Identifier: MIT
// Reads one message of one format back as page ranges. Host side: nothing it is given is trusted.
//
// A payload is handed over in windows that are private copies, so that a message may have any
// length and is never read twice. Ranges come out as the message names them: neither clipped to
// guest memory nor sorted, adjacent entries merged where that is free.
#ifndef VBALLOON_SRC_WIRE_DECODER_H_
#define VBALLOON_SRC_WIRE_DECODER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "vballoon/error.h"
#include "vballoon/export.h"
#include "vballoon/guest_buffer.h"
#include "vballoon/page_range.h"

namespace vballoon {

// The largest piece of a payload that is looked at in one go.
inline constexpr std::size_t kPayloadWindowBytes = 64 * 1024;

// What one window can become at the most: a 16-byte bitmap record has 64 bits, of which every
// other one can be a range of its own.
inline constexpr std::size_t kMaxRangesPerWindow = kPayloadWindowBytes / 16 * 32;

// A Decoder is used for one message after the other: begin, payload..., buffer..., end. Never
// allocates, but for `out` when that has less room than kMaxRangesPerWindow.
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
  };
  // Reads whole entries from the next window. Unless it is the last one it has
  // kPayloadWindowBytes; consumes all but the beginning of an entry that the window cuts
  // (at most 64 bytes).
  [[nodiscard]] virtual Step payload(std::span<const std::byte> window,
                                     std::vector<PageRange>& out) = 0;

  // Reads one device-writable buffer of the message.
  [[nodiscard]] virtual std::optional<Errc> buffer(const GuestBuffer& buffer,
                                                   std::vector<PageRange>& out) = 0;

  // Ends the message; fails when it stopped within an entry.
  [[nodiscard]] virtual std::optional<Errc> end() = 0;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_WIRE_DECODER_H_
