// SPDX-License-Identifier: MIT
// Where the registers of virtio-mmio stand (virtio 1.3, section 4.2.2), for both sides.
#ifndef VBALLOON_SRC_TRANSPORT_MMIO_REGISTERS_H_
#define VBALLOON_SRC_TRANSPORT_MMIO_REGISTERS_H_

#include <cstdint>

namespace vballoon {

enum class MmioRegister : std::uint16_t {
  kMagicValue = 0x000,
  kVersion = 0x004,
  kDeviceId = 0x008,
  kVendorId = 0x00c,
  kDeviceFeatures = 0x010,
  kDeviceFeaturesSel = 0x014,
  kDriverFeatures = 0x020,
  kDriverFeaturesSel = 0x024,
  kQueueSel = 0x030,
  kQueueSizeMax = 0x034,
  kQueueSize = 0x038,
  kQueueReady = 0x044,
  kQueueNotify = 0x050,
  kInterruptStatus = 0x060,
  kInterruptAck = 0x064,
  kStatus = 0x070,
  kQueueDescLow = 0x080,
  kQueueDescHigh = 0x084,
  kQueueDriverLow = 0x090,
  kQueueDriverHigh = 0x094,
  kQueueDeviceLow = 0x0a0,
  kQueueDeviceHigh = 0x0a4,
  kShmLenLow = 0x0b0,
  kShmLenHigh = 0x0b4,
  kShmBaseLow = 0x0b8,
  kShmBaseHigh = 0x0bc,
  kQueueReset = 0x0c0,
  kConfigGeneration = 0x0fc,
};

inline constexpr std::uint64_t kMmioConfig = 0x100;

inline constexpr std::uint32_t kMmioMagic = 0x74726976;  // "virt"
inline constexpr std::uint32_t kMmioVersion = 2;

// Bits of InterruptStatus.
inline constexpr std::uint32_t kMmioUsedBuffer = 1;
inline constexpr std::uint32_t kMmioConfigChange = 2;

}  // namespace vballoon

#endif  // VBALLOON_SRC_TRANSPORT_MMIO_REGISTERS_H_
