// SPDX-License-Identifier: MIT
// The reasons for which something failed.                                         room: base
//
// Three classes of failure are never mixed: a guest that misbehaves (counted in the device's
// metrics by reason, never fatal), an embedder or a host that fails (returned as a Result with
// context), and a bug of the library (assert).
#ifndef VBALLOON_ERROR_H_
#define VBALLOON_ERROR_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "vballoon/export.h"

namespace vballoon {

enum class Errc : std::uint8_t {
  // The guest misbehaves: rings (virtio 1.3, sections 2.7 and 2.8).
  kAvailIndexOutOfRange,  // avail.idx ran ahead by more than the queue size
  // A head or a next index outside the descriptor table; packed: a list that goes on in an entry
  // that was not made available.
  kDescriptorIndexOutOfRange,
  kDescriptorLoop,         // a chain of more buffers than the queue has entries
  kReadableAfterWritable,  // a device-readable descriptor behind a writable one
  kChainTooLarge,          // more than 2^32 bytes in one chain
  kIndirectNotNegotiated,  // an indirect descriptor without VIRTIO_F_INDIRECT_DESC
  kBadIndirectTable,       // empty, nested, chained, or no multiple of 16 bytes
  kAddressOutOfRange,      // a buffer or an indirect table not inside guest memory, or one that
                           // the platform does not let the device reach
  // The guest misbehaves: messages (virtio 1.3, section 5.5.6, and the unmerged formats).
  kPayloadMissing,      // no readable bytes where the format needs some
  kPayloadNotMultiple,  // payload ends within an entry
  kUnexpectedReadable,  // readable buffer in a format whose buffers are the message
  kUnexpectedWritable,  // writable buffer in a format that has a payload
  kBadMessageHeader,    // unknown command or a length that does not fit the payload
  kBadRecord,           // a bitmap record that is malformed or truncated
  kUnalignedRange,      // a buffer that does not begin and end on page bounds
  kStatsBufferExtra,    // a statistics buffer while the device holds one
  kBadHintCommand,      // a command id of free page hints that is not 4 bytes
  kBadRequestBuffer,    // a buffer for requests to the guest that is too small, or one too many
  // The guest misbehaves: pages.
  kPageOutOfRange,       // a page outside guest memory
  kPageRepeated,         // a page named twice before one acknowledgement
  kPageAlreadyInflated,  // inflated, though it is in the balloon
  kPageNotInflated,      // deflated, though it is not in the balloon
  // The guest misbehaves: registers.
  kFeaturesNotOffered,  // a feature accepted that was not offered
  kLegacyDriver,        // VERSION_1 not accepted
  kMustTellHostNeeded,  // MUST_TELL_HOST not accepted, where the device insists on it
  kConfigReadOnly,      // a write to a field that only the device writes
  kConfigOutOfRange,    // an access outside the configuration space
  kPoisonChanged,       // poison_val written while DRIVER_OK was set
  kBadQueueConfig,      // ring size or addresses that the specification forbids
  kBadStatus,           // a status bit cleared, or set out of order
  // The embedder misuses the library, or the host fails.
  kInvalidArgument,  // a value outside what the function documents
  kTargetTooLarge,   // a balloon target larger than guest memory
  kQueueNotReady,    // a queue used before the driver set it up, or one that is broken
  kMapFailed,        // the kernel refused to map guest memory
  kNotSupported,     // this kernel, this backing or this guest cannot do it
  kDiscardFailed,    // the kernel refused to take memory back
  kBadSavedState,    // a saved state that is damaged, or that this device cannot go on with
};

inline constexpr std::size_t kErrcCount = static_cast<std::size_t>(Errc::kBadSavedState) + 1;

// A short lower-case text without a full stop: "descriptor loop".
[[nodiscard]] VBALLOON_EXPORT std::string_view to_string(Errc code) noexcept;

// A reason with what is known about it.
struct Error {
  Errc code = Errc::kInvalidArgument;
  int os_error = 0;          // errno of the call that failed, or 0
  std::string context = {};  // what was attempted, with numbers; empty for guest errors

  // "descriptor loop", "kernel refused to map guest memory: 8 GiB: Cannot allocate memory".
  [[nodiscard]] VBALLOON_EXPORT std::string message() const;
};

}  // namespace vballoon

#endif  // VBALLOON_ERROR_H_
