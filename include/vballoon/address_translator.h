// SPDX-License-Identifier: MIT
// What stands between a device and memory when VIRTIO_F_ACCESS_PLATFORM is negotiated.   room: base
#ifndef VBALLOON_ADDRESS_TRANSLATOR_H_
#define VBALLOON_ADDRESS_TRANSLATOR_H_

#include <cstdint>
#include <functional>
#include <optional>

namespace vballoon {

// Where the bytes behind a device's address lie.
struct TranslatedPiece {
  std::uint64_t guest_address = 0;  // guest-physical
  std::uint64_t length = 0;         // bytes that follow one another there; at least one
};

// The embedder's IOMMU: where the `length` (at least one) bytes from `address` on begin, and how
// many of them lie in one piece; or nullopt when the device may not read, or with `write` not
// write, there. It is asked again for the bytes behind a short piece. Called on the thread that
// starts the queue and on the one that drives it; a driver decides how often. Empty: addresses are
// guest-physical.
using AddressTranslator = std::function<std::optional<TranslatedPiece>(
    std::uint64_t address, std::uint64_t length, bool write)>;

}  // namespace vballoon

#endif  // VBALLOON_ADDRESS_TRANSLATOR_H_
