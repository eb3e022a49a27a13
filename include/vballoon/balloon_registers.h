// SPDX-License-Identifier: MIT
// Numbers that both sides of a balloon know: status bits, queues, configuration.   room: base
#ifndef VBALLOON_BALLOON_REGISTERS_H_
#define VBALLOON_BALLOON_REGISTERS_H_

#include <cstdint>

namespace vballoon {

inline constexpr std::uint32_t kBalloonDeviceId = 5;  // virtio 1.3, section 5.5.1

// Device status bits (2.1).
inline constexpr std::uint8_t kStatusAcknowledge = 1;
inline constexpr std::uint8_t kStatusDriver = 2;
inline constexpr std::uint8_t kStatusDriverOk = 4;
inline constexpr std::uint8_t kStatusFeaturesOk = 8;
inline constexpr std::uint8_t kStatusNeedsReset = 64;
inline constexpr std::uint8_t kStatusFailed = 128;

// Queues (5.5.2). The numbers of the others depend on the features (QueueNumbering).
inline constexpr std::uint16_t kInflateQueue = 0;
inline constexpr std::uint16_t kDeflateQueue = 1;
inline constexpr std::uint16_t kMaxBalloonQueues = 7;  // of the dialect that has most

// Fields of the configuration space, each le32 in units of 4 KiB (5.5.4).
inline constexpr std::uint64_t kNumPagesOffset = 0;  // target; written by the device
inline constexpr std::uint64_t kActualOffset = 4;    // written by the driver
// Only with FREE_PAGE_HINT: the command id of a round of hints; written by the device.
inline constexpr std::uint64_t kHintCommandOffset = 8;
// Only with PAGE_POISON: what free pages are filled with, a byte four times; written by the driver.
inline constexpr std::uint64_t kPoisonValueOffset = 12;

// Command ids with a meaning of their own (5.5.6.5); rounds have others.
inline constexpr std::uint32_t kHintStop = 0;
inline constexpr std::uint32_t kHintDone = 1;

// What a guest may drop on request, by the numbers of Linux's /proc/sys/vm/drop_caches.
enum class CacheKinds : std::uint8_t {
  kPageCache = 1,  // pages of files that need not be written
  kSlab = 2,       // what the kernel keeps and can do without
  kBoth = 3,
};

}  // namespace vballoon

#endif  // VBALLOON_BALLOON_REGISTERS_H_
