// SPDX-License-Identifier: MIT
// Feature bits and dialects of the balloon.                                       room: base
//
// Virtio 1.3, sections 5.5.3 (balloon) and 6 (reserved feature bits).
#ifndef VBALLOON_FEATURES_H_
#define VBALLOON_FEATURES_H_

#include <cstdint>
#include <initializer_list>

namespace vballoon {

// Number of a feature bit.
enum class Feature : std::uint8_t {
  // Of the balloon (5.5.3).
  kMustTellHost = 0,   // the driver tells before it uses pages from the balloon
  kStatsVq = 1,        // a queue for memory statistics
  kDeflateOnOom = 2,   // the driver may take pages back when the guest runs out of memory
  kFreePageHint = 3,   // a queue that names free pages on request
  kPagePoison = 4,     // the driver says with what it fills free pages
  kPageReporting = 5,  // a queue that names free pages as they become free
  // Of every device (6).
  kIndirectDesc = 28,
  kEventIdx = 29,
  kVersion1 = 32,
  kAccessPlatform = 33,
  kRingPacked = 34,
  kInOrder = 35,
  kNotificationData = 38,
  kRingReset = 40,
};

// A set of feature bits, as both sides negotiate them.
class Features {
 public:
  constexpr Features() = default;
  constexpr explicit Features(std::uint64_t bits) : bits_(bits) {}
  constexpr Features(std::initializer_list<Feature> list) {
    for (Feature f : list) *this = with(f);
  }

  [[nodiscard]] constexpr std::uint64_t bits() const { return bits_; }
  [[nodiscard]] constexpr bool has(Feature f) const { return has_bit(static_cast<unsigned>(f)); }
  [[nodiscard]] constexpr bool has_bit(unsigned bit) const { return ((bits_ >> bit) & 1) != 0; }
  [[nodiscard]] constexpr Features with(Feature f) const {
    return with_bit(static_cast<unsigned>(f));
  }
  [[nodiscard]] constexpr Features with_bit(unsigned bit) const {
    return Features(bits_ | std::uint64_t{1} << bit);
  }
  [[nodiscard]] constexpr Features without(Feature f) const {
    return without_bit(static_cast<unsigned>(f));
  }
  [[nodiscard]] constexpr Features without_bit(unsigned bit) const {
    return Features(bits_ & ~(std::uint64_t{1} << bit));
  }
  friend constexpr bool operator==(Features, Features) = default;

 private:
  std::uint64_t bits_ = 0;
};

// The language that a device speaks beside the standard's. The unmerged formats use feature bits
// that later standard features took, so a device is built for one dialect and the bit that
// announces it can be moved. A driver that does not accept the bit speaks the standard's.
enum class Dialect : std::uint8_t {
  kStandard,            // arrays of page frame numbers (virtio 1.3, section 5.5.6)
  kPageBitmap,          // page bitmap with header and self-describing records
  kScatterGather,       // every contiguous run of pages is one device-writable descriptor
  kSingleHeaderBitmap,  // one bitmap behind one header, the page bitmap's first form
  kPageRange,           // lists of page ranges, a later form of it
  kPageChunks,          // counted lists of chunks, its last form
  kContPages,           // arrays of page frame numbers, and blocks over queues of their own
};

// How queues are numbered when a feature that brings one was not negotiated.
enum class QueueNumbering : std::uint8_t {
  kDense,  // one after the other over those that exist: what Linux and nearly all devices do
  kFixed,  // as the standard prints them (5.5.2): statistics are always queue 2
};

// The bit that its authors gave to a dialect other than the standard's.
[[nodiscard]] constexpr unsigned published_bit(Dialect dialect) {
  return dialect == Dialect::kContPages ? 6 : 3;
}

// The bit with which its authors announced queues for requests to the guest, in the dialects that
// have them: the page bitmap has a request queue, scatter-gather a control queue and one for the
// free pages that it asks for.
inline constexpr unsigned kPublishedRequestsBit = 4;
[[nodiscard]] constexpr bool has_guest_requests(Dialect dialect) {
  return dialect == Dialect::kPageBitmap || dialect == Dialect::kScatterGather;
}

}  // namespace vballoon

#endif  // VBALLOON_FEATURES_H_
