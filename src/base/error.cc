// SPDX-License-Identifier: MIT
#include "vballoon/error.h"

#include <fmt/format.h>

#include <cstring>

namespace vballoon {

std::string_view to_string(Errc code) noexcept {
  switch (code) {
    case Errc::kAvailIndexOutOfRange:
      return "available index out of range";
    case Errc::kDescriptorIndexOutOfRange:
      return "descriptor index out of range";
    case Errc::kDescriptorLoop:
      return "descriptor loop";
    case Errc::kReadableAfterWritable:
      return "readable descriptor behind a writable one";
    case Errc::kChainTooLarge:
      return "chain of more than 2^32 bytes";
    case Errc::kIndirectNotNegotiated:
      return "indirect descriptor without the feature";
    case Errc::kBadIndirectTable:
      return "malformed indirect table";
    case Errc::kAddressOutOfRange:
      return "address outside guest memory";
    case Errc::kPayloadMissing:
      return "message without a payload";
    case Errc::kPayloadNotMultiple:
      return "payload ends within an entry";
    case Errc::kUnexpectedReadable:
      return "unexpected readable buffer";
    case Errc::kUnexpectedWritable:
      return "unexpected writable buffer";
    case Errc::kBadMessageHeader:
      return "malformed message header";
    case Errc::kBadRecord:
      return "malformed bitmap record";
    case Errc::kUnalignedRange:
      return "range not on page bounds";
    case Errc::kStatsBufferExtra:
      return "statistics buffer while one is held";
    case Errc::kBadHintCommand:
      return "command id of free page hints that is not 4 bytes";
    case Errc::kBadRequestBuffer:
      return "buffer for requests to the guest too small, or one too many";
    case Errc::kPageOutOfRange:
      return "page outside guest memory";
    case Errc::kPageRepeated:
      return "page named twice in a batch";
    case Errc::kPageAlreadyInflated:
      return "page already in the balloon";
    case Errc::kPageNotInflated:
      return "page not in the balloon";
    case Errc::kFeaturesNotOffered:
      return "features accepted that were not offered";
    case Errc::kLegacyDriver:
      return "legacy driver, which this device does not serve: VERSION_1 not accepted";
    case Errc::kMustTellHostNeeded:
      return "MUST_TELL_HOST not accepted, which this device insists on";
    case Errc::kConfigReadOnly:
      return "write to a read-only configuration field";
    case Errc::kConfigOutOfRange:
      return "access outside the configuration space";
    case Errc::kPoisonChanged:
      return "poison value written to a running device";
    case Errc::kBadQueueConfig:
      return "invalid queue configuration";
    case Errc::kBadStatus:
      return "invalid status written";
    case Errc::kInvalidArgument:
      return "invalid argument";
    case Errc::kTargetTooLarge:
      return "target larger than guest memory";
    case Errc::kQueueNotReady:
      return "queue not ready";
    case Errc::kMapFailed:
      return "kernel refused to map guest memory";
    case Errc::kNotSupported:
      return "not supported here";
    case Errc::kDiscardFailed:
      return "kernel refused to take memory back";
    case Errc::kBadSavedState:
      return "saved state cannot be restored";
  }
  return "unknown reason";
}

std::string Error::message() const {
  std::string text(to_string(code));
  if (!context.empty()) text += ": " + context;
  if (os_error != 0) text += fmt::format(": {}", std::strerror(os_error));
  return text;
}

}  // namespace vballoon
