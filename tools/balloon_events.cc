// SPDX-License-Identifier: MIT
#include "balloon_events.h"

#include <algorithm>
#include <cctype>
#include <string>

#include "balloon_numbers.h"
#include "vballoon/balloon_registers.h"

namespace vballoon::tool {
namespace {

// By how much: counters that are full stay so, whatever others do.
std::uint64_t more(std::uint64_t now, std::uint64_t before) { return now - std::min(now, before); }

}  // namespace

std::string reason_word(Errc code) {
  std::string word;
  for (const char letter : vballoon::to_string(code)) {
    if (letter == ',' || letter == ':') break;  // what follows explains
    const bool part = std::isalnum(static_cast<unsigned char>(letter)) != 0;
    if (part) {
      word += static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
    } else if (!word.empty() && word.back() != '-') {
      word += '-';
    }
  }
  return word;
}

Json stats_json(const std::optional<BalloonStats>& stats) {
  Json all = Json::object();
  for (std::size_t i = 0; stats && i < kStatCount; ++i) {
    const auto tag = static_cast<StatTag>(i);
    if (!stats->value(tag)) continue;
    std::string name(vballoon::to_string(tag));
    if (unit_of(tag) == StatUnit::kBytes) name += "-bytes";
    all[name] = *stats->value(tag);
  }
  return all;
}

BalloonEvents::BalloonEvents(const BalloonDevice& device, const HintControl& hints)
    : device_(device), hints_(hints), seen_(see()), errors_sent_(seen_.errors) {}

BalloonEvents::Errors BalloonEvents::errors_of(const BalloonMetrics& metrics) {
  Errors errors;
  std::ranges::copy(metrics.queue_errors, errors.begin());
  auto& of_registers = errors.back() = metrics.errors;
  for (const auto& of_queue : metrics.queue_errors) {
    std::ranges::transform(of_registers, of_queue, of_registers.begin(), more);
  }
  return errors;
}

BalloonEvents::Seen BalloonEvents::see() const {
  const StatsReport stats = device_.stats();
  return {.actual_pages = device_.actual_pages(),
          .target_reached = has_driver(device_) && device_.actual_pages() == device_.target_pages(),
          .stats_received = stats.latest ? std::optional(stats.latest->received) : std::nullopt,
          .errors = errors_of(device_.metrics()),
          .hints = device_.hint_status().state,
          .needs_reset = (device_.read_status() & kStatusNeedsReset) != 0};
}

void BalloonEvents::look(std::chrono::nanoseconds now, const Send& send) {
  notice(see());
  for (std::size_t kind = 0; kind < kKinds; ++kind) {
    Limit& limit = limits_[kind];
    if (!limit.wanted || now < limit.due()) continue;
    limit.wanted = false;
    limit.sent = now;
    send_kind(static_cast<Kind>(kind), send);
  }
}

void BalloonEvents::notice(const Seen& now) {
  const auto want = [this](Kind kind, bool news) {
    limits_[kind].wanted = limits_[kind].wanted || news;
  };
  // A guest that has gone took its memory along: there is nothing to be said of it.
  want(kBalloonChange, now.actual_pages != seen_.actual_pages && device_.memory_bytes() != 0);
  want(kTargetReached, now.target_reached && now.actual_pages != seen_.actual_pages);
  want(kStats, now.stats_received && now.stats_received != seen_.stats_received);
  want(kGuestError, now.errors != errors_sent_);
  want(kHintingDone, now.hints == HintState::kExhausted && seen_.hints != HintState::kExhausted);
  want(kNeedsReset, now.needs_reset && !seen_.needs_reset);
  if (!now.target_reached) limits_[kTargetReached].wanted = false;
  seen_ = now;
}

void BalloonEvents::send_kind(Kind kind, const Send& send) {
  switch (kind) {
    case kBalloonChange:
      return send("BALLOON_CHANGE", {{"actual", actual_memory_left(device_)}});
    case kTargetReached:
      return send("VBALLOON_TARGET_REACHED", {{"actual-balloon-bytes", actual_bytes(device_)}});
    case kStats:
      return send("VBALLOON_STATS", {{"stats", stats_json(device_.stats().latest)}});
    case kGuestError:
      return send_errors(send);
    case kHintingDone:
      return send("VBALLOON_HINTING_DONE",
                  {{"host-cmd", hints_.round()}, {"hinted-bytes", hints_.hinted_bytes()}});
    case kNeedsReset:
      return send("VBALLOON_NEEDS_RESET", Json::object());
    case kKinds:
      break;
  }
}

void BalloonEvents::send_errors(const Send& send) {
  for (std::size_t from = 0; from < seen_.errors.size(); ++from) {
    for (std::size_t i = 0; i < kErrcCount; ++i) {
      const std::uint64_t count = more(seen_.errors[from][i], errors_sent_[from][i]);
      if (count == 0) continue;
      Json data = Json::object();
      if (from < kQueueUseCount) data["queue"] = to_string(static_cast<QueueUse>(from));
      data["reason"] = reason_word(static_cast<Errc>(i));
      data["count"] = count;
      send("VBALLOON_GUEST_ERROR", data);
    }
  }
  errors_sent_ = seen_.errors;
}

std::optional<std::chrono::nanoseconds> BalloonEvents::next_time() const {
  std::optional<std::chrono::nanoseconds> next;
  for (const Limit& limit : limits_) {
    if (limit.wanted) next = std::min(next.value_or(limit.due()), limit.due());
  }
  return next;
}

}  // namespace vballoon::tool
