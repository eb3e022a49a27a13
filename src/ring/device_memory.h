// SPDX-License-Identifier: MIT
// Guest memory under the addresses that a driver gives to a device: guest-physical ones, or those
// of an IOMMU (VIRTIO_F_ACCESS_PLATFORM).
#ifndef VBALLOON_SRC_RING_DEVICE_MEMORY_H_
#define VBALLOON_SRC_RING_DEVICE_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "vballoon/address_translator.h"
#include "vballoon/guest_memory.h"

namespace vballoon {

// Names the two; both must outlive it.
class DeviceMemory {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): memory without translation is memory.
  DeviceMemory(const GuestMemory& memory) : memory_(memory) {}
  DeviceMemory(const GuestMemory& memory, const AddressTranslator& translator)
      : memory_(memory), translator_(translator ? &translator : nullptr) {}

  [[nodiscard]] bool translates() const { return translator_ != nullptr; }

  // The first piece of [address, + length), cut to that length, or nothing when the device may not
  // go there. Requires translates() and length != 0.
  [[nodiscard]] std::optional<TranslatedPiece> translate(std::uint64_t address,
                                                         std::uint64_t length, bool write) const;

  // A part of a ring in this process, or nullptr when it is not aligned or not in one piece.
  [[nodiscard]] std::byte* locate(std::uint64_t address, std::uint64_t bytes,
                                  std::uint64_t alignment, bool write) const;

  // Copies out of memory; false when part of it is out of reach. Requires that the addresses do not
  // come round to 0.
  [[nodiscard]] bool read(std::uint64_t address, std::span<std::byte> out) const {
    return translates() ? read_translated(address, out) : memory_.read(address, out);
  }

 private:
  [[nodiscard]] bool read_translated(std::uint64_t address, std::span<std::byte> out) const;

  const GuestMemory& memory_;
  const AddressTranslator* translator_ = nullptr;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_RING_DEVICE_MEMORY_H_
