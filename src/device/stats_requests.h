// SPDX-License-Identifier: MIT
// The statistics queue (virtio 1.3, section 5.5.6.3).
//
// The guest makes one buffer available; the device reads it and keeps it, and using it is the
// request for the next one. Rules only: whoever owns this serves the queue and orders the calls.
#ifndef VBALLOON_SRC_DEVICE_STATS_REQUESTS_H_
#define VBALLOON_SRC_DEVICE_STATS_REQUESTS_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "vballoon/stats.h"

namespace vballoon {

// An entry is a tag of 16 bits and a value of 64, without a gap.
inline constexpr std::size_t kStatEntryBytes = 10;
// What is read of a message: more entries than there are tags to come.
inline constexpr std::size_t kMaxStatsBytes = 256 * kStatEntryBytes;

// Reads the whole entries of a message, in any order; a tag that comes again counts as said last.
[[nodiscard]] BalloonStats parse_stats(std::span<const std::byte> message);

class StatsRequests {
 public:
  using nanoseconds = std::chrono::nanoseconds;

  // How often to ask, from `now` on; 0: only on demand.
  void set_interval(nanoseconds interval, nanoseconds now);
  [[nodiscard]] nanoseconds interval() const { return interval_; }
  // Asks once. A request that is under way answers this one as well.
  void request(nanoseconds now, nanoseconds timeout);

  // The buffer is to be used now.
  [[nodiscard]] bool due(nanoseconds now) const;
  // When due() may next become true by time alone.
  [[nodiscard]] std::optional<nanoseconds> next_time() const;
  // The buffer was used: the guest has been asked.
  void asked(nanoseconds now);
  // A message came.
  void answered(BalloonStats stats, nanoseconds now);
  // A message came that could not be read: the guest may be asked again, and is if there is a
  // request to be answered.
  void unreadable() {
    asked_ = false;
    wanted_ = deadline_.has_value();
  }
  // Keeps the interval.
  void reset(nanoseconds now);

  // For saving a device. Times are differences from now: another host has another clock.
  struct State {
    nanoseconds interval{0};
    nanoseconds next{0};
    bool wanted = false;
    bool asked = false;
    std::optional<nanoseconds> deadline;
    std::optional<BalloonStats> latest;
  };
  [[nodiscard]] State state(nanoseconds now) const;
  void restore(State state, nanoseconds now);

  [[nodiscard]] StatsReport report(nanoseconds now) const;

 private:
  static nanoseconds later(nanoseconds now, nanoseconds by);

  nanoseconds interval_{0};
  nanoseconds next_{0};                  // with an interval: when to ask again
  bool wanted_ = false;                  // to be asked as soon as there is a buffer
  bool asked_ = false;                   // the guest has been asked
  std::optional<nanoseconds> deadline_;  // of the request that is not answered
  std::optional<BalloonStats> latest_;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_DEVICE_STATS_REQUESTS_H_
