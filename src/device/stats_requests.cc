// SPDX-License-Identifier: MIT
#include "device/stats_requests.h"

#include <algorithm>
#include <utility>

#include "wire/little_endian.h"

namespace vballoon {

std::string_view to_string(StatTag tag) noexcept {
  switch (tag) {
    case StatTag::kSwapIn:
      return "swap-in";
    case StatTag::kSwapOut:
      return "swap-out";
    case StatTag::kMajorFaults:
      return "major-faults";
    case StatTag::kMinorFaults:
      return "minor-faults";
    case StatTag::kFreeMemory:
      return "free-memory";
    case StatTag::kTotalMemory:
      return "total-memory";
    case StatTag::kAvailableMemory:
      return "available-memory";
    case StatTag::kDiskCaches:
      return "disk-caches";
    case StatTag::kHugetlbAllocations:
      return "htlb-pgalloc";
    case StatTag::kHugetlbFailures:
      return "htlb-pgfail";
    case StatTag::kOomKills:
      return "oom-kills";
    case StatTag::kAllocStalls:
      return "alloc-stalls";
    case StatTag::kAsyncScans:
      return "async-scans";
    case StatTag::kDirectScans:
      return "direct-scans";
    case StatTag::kAsyncReclaims:
      return "async-reclaims";
    case StatTag::kDirectReclaims:
      return "direct-reclaims";
  }
  return "unknown";
}

StatUnit unit_of(StatTag tag) noexcept {
  switch (tag) {
    case StatTag::kMajorFaults:
    case StatTag::kMinorFaults:
    case StatTag::kHugetlbAllocations:
    case StatTag::kHugetlbFailures:
    case StatTag::kOomKills:
    case StatTag::kAllocStalls:
      return StatUnit::kCount;
    default:
      return StatUnit::kBytes;
  }
}

BalloonStats parse_stats(std::span<const std::byte> message) {
  BalloonStats stats;
  for (; message.size() >= kStatEntryBytes; message = message.subspan(kStatEntryBytes)) {
    const auto tag = load_le<std::uint16_t>(message.data());
    const auto value = load_le<std::uint64_t>(message.data() + sizeof tag);
    if (tag < kStatCount) {
      stats.values[tag] = value;
      continue;
    }
    const auto known = std::ranges::find(stats.unknown, tag, &BalloonStats::Unknown::tag);
    if (known != stats.unknown.end()) {
      known->value = value;
    } else {
      stats.unknown.push_back({tag, value});
    }
  }
  return stats;
}

// Saturates: nanoseconds::max() is for ever.
std::chrono::nanoseconds StatsRequests::later(nanoseconds now, nanoseconds by) {
  return by > nanoseconds::max() - now ? nanoseconds::max() : now + by;
}

void StatsRequests::set_interval(nanoseconds interval, nanoseconds now) {
  interval_ = interval;
  next_ = later(now, interval);
}

void StatsRequests::request(nanoseconds now, nanoseconds timeout) {
  wanted_ = !asked_;
  deadline_ = later(now, timeout);
}

bool StatsRequests::due(nanoseconds now) const {
  return wanted_ || (interval_.count() != 0 && !asked_ && now >= next_);
}

std::optional<std::chrono::nanoseconds> StatsRequests::next_time() const {
  if (interval_.count() == 0 || asked_) return std::nullopt;
  return next_;
}

void StatsRequests::asked(nanoseconds now) {
  wanted_ = false;
  asked_ = true;
  next_ = later(now, interval_);
}

void StatsRequests::answered(BalloonStats stats, nanoseconds now) {
  latest_ = std::move(stats);
  latest_->received = now;
  asked_ = false;
  // What the guest says without having been asked was collected before the request.
  if (!wanted_) deadline_.reset();
}

void StatsRequests::reset(nanoseconds now) {
  wanted_ = false;
  asked_ = false;
  deadline_.reset();
  latest_.reset();
  next_ = later(now, interval_);
}

StatsRequests::State StatsRequests::state(nanoseconds now) const {
  State state{interval_, next_ - now, wanted_, asked_, deadline_, latest_};
  if (state.deadline) *state.deadline -= now;
  if (state.latest) state.latest->received -= now;
  return state;
}

void StatsRequests::restore(State state, nanoseconds now) {
  interval_ = state.interval;
  next_ = now + state.next;
  wanted_ = state.wanted;
  asked_ = state.asked;
  deadline_ = state.deadline;
  if (deadline_) *deadline_ += now;
  latest_ = std::move(state.latest);
  if (latest_) latest_->received += now;
}

StatsReport StatsRequests::report(nanoseconds now) const {
  StatsReport report{.latest = latest_};
  if (latest_) report.age = now - latest_->received;
  report.requested = deadline_.has_value();
  report.timed_out = deadline_ && now >= *deadline_;
  return report;
}

}  // namespace vballoon
