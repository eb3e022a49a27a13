// SPDX-License-Identifier: MIT
// Memory statistics of the guest (virtio 1.3, section 5.5.6.3).                   room: device
//
// The guest fills them in and may say anything. Each value has a tag; the standard defines tags 0
// to 9, Linux sends 10 to 15 as well. What a guest does not send has no value.
#ifndef VBALLOON_STATS_H_
#define VBALLOON_STATS_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "vballoon/export.h"

namespace vballoon {

enum class StatTag : std::uint16_t {
  kSwapIn = 0,
  kSwapOut = 1,
  kMajorFaults = 2,
  kMinorFaults = 3,
  kFreeMemory = 4,
  kTotalMemory = 5,
  kAvailableMemory = 6,
  kDiskCaches = 7,
  kHugetlbAllocations = 8,
  kHugetlbFailures = 9,
  kOomKills = 10,
  kAllocStalls = 11,
  kAsyncScans = 12,
  kDirectScans = 13,
  kAsyncReclaims = 14,
  kDirectReclaims = 15,
};
inline constexpr std::size_t kStatCount = 16;

enum class StatUnit : std::uint8_t { kBytes, kCount };

// "free-memory", "major-faults", ...; kBytes for memory and what moves it, kCount for events.
[[nodiscard]] VBALLOON_EXPORT std::string_view to_string(StatTag tag) noexcept;
[[nodiscard]] VBALLOON_EXPORT StatUnit unit_of(StatTag tag) noexcept;

// One answer of the guest.
struct BalloonStats {
  // A value whose tag this library does not know.
  struct Unknown {
    std::uint16_t tag = 0;
    std::uint64_t value = 0;
    friend bool operator==(const Unknown&, const Unknown&) = default;
  };

  std::array<std::optional<std::uint64_t>, kStatCount> values{};  // by StatTag
  std::vector<Unknown> unknown;                                   // in the order of the message
  std::chrono::nanoseconds received{0};                           // a time of the device's clock

  [[nodiscard]] std::optional<std::uint64_t> value(StatTag tag) const {
    return values[static_cast<std::size_t>(tag)];
  }
};

// What is known of the guest's memory, and how well.
struct StatsReport {
  std::optional<BalloonStats> latest;  // none since the last reset: nothing
  std::chrono::nanoseconds age{0};     // of `latest`, now
  bool requested = false;              // a request is not answered yet: `latest` is from before it
  bool timed_out = false;              // and has not been for as long as it was given
};

}  // namespace vballoon

#endif  // VBALLOON_STATS_H_
