// SPDX-License-Identifier: MIT
#include "migrate_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <utility>

#include "migrate_destination.h"
#include "migrate_guest.h"
#include "migrate_link.h"
#include "migrate_stream.h"

namespace vballoon::tool {
namespace {

using Clock = std::chrono::steady_clock;

// The guest is stopped when the rest would take no longer than this, or in this round.
constexpr double kMostDowntimeMs = 300;
constexpr std::size_t kMostRounds = 30;
// How long a guest may take for what would help, and how often it is looked at meanwhile.
constexpr std::chrono::seconds kMostAnswerTime(2);
constexpr std::chrono::seconds kMostInflateTime(60);
constexpr std::chrono::microseconds kLook(200);

// How far a run is, for the progress bar, when a step of it ends.
constexpr double kBooted = 0.4;
constexpr double kSent = 0.9;

class Migration {
 public:
  Migration(const MigrateOptions& options, const MigratePlan& plan, const Help& help,
            const Tick& tick)
      : options_(options), plan_(plan), help_(help), tick_(tick) {}

  // False when stopped or when the link failed.
  [[nodiscard]] Result<bool> run();
  // Compares the two sides; what is wrong, or nothing.
  [[nodiscard]] std::string compare() const;
  [[nodiscard]] MigrateRun take_figures();
  [[nodiscard]] std::string link_failure() const { return link_ ? link_->failure() : ""; }

 private:
  [[nodiscard]] Result<bool> boot();
  [[nodiscard]] Result<bool> use_help();
  [[nodiscard]] Result<bool> drop_cache();
  [[nodiscard]] Result<bool> inflate();
  [[nodiscard]] Result<bool> take_hints();
  [[nodiscard]] bool wait_for(const std::function<bool()>& done, Clock::duration most) const;
  [[nodiscard]] Result<bool> send_rounds();
  [[nodiscard]] Result<void> harvest();
  [[nodiscard]] bool send_round();
  [[nodiscard]] bool finish();
  [[nodiscard]] double ms_left() const;
  void leave_out(std::span<const PageRange> pages);
  void leave_out_ballooned();
  [[nodiscard]] bool go_on() const;

  const MigrateOptions& options_;
  const MigratePlan& plan_;
  const Help& help_;
  const Tick& tick_;
  std::unique_ptr<Destination> destination_;
  // By dense index: to be sent in the round that comes, and what was ever sent. While hints come in
  // the former is the device's thread's.
  PageSet to_send_;
  PageSet sent_;
  std::unique_ptr<MigratingGuest> guest_;
  std::unique_ptr<WriteTracker> tracker_;
  std::optional<MigrationLink> link_;
  std::optional<Arrival> arrival_;
  std::uint64_t spare_pages_ = 0;
  Clock::time_point begin_;
  MigrateRun run_;
};

double ms_since(Clock::time_point begin) { return to_ms(Clock::now() - begin); }

// For the progress bar round 1 is all there is to send.
bool Migration::go_on() const {
  const double all = static_cast<double>(plan_.guest_memory);
  const double sent = link_ ? static_cast<double>(link_->bytes_sent()) : 0;
  return tick_(kBooted + (kSent - kBooted) * std::min(1.0, sent / all));
}

Result<bool> Migration::boot() {
  BalloonOptions device = device_options(help_);
  device.log = options_.log;
  device.on_free_page_hints = [this](std::span<const PageRange> pages) { leave_out(pages); };
  auto destination = Destination::start(layout_of(plan_), device);
  if (!destination) return tl::unexpected(destination.error());
  destination_ = std::move(*destination);
  const Tick booting = part_of(tick_, 0, kBooted);
  auto guest = MigratingGuest::boot(options_, plan_, device, booting);
  if (!guest) return tl::unexpected(guest.error());
  if (*guest == nullptr) return false;
  guest_ = std::move(*guest);
  link_.emplace(destination_->socket(), options_.bandwidth, [this] { return go_on(); });
  to_send_ = sent_ = PageSet(guest_->memory()->page_count());
  spare_pages_ = guest_->spare_pages();
  return true;
}

Result<bool> Migration::run() {
  if (auto booted = boot(); !booted || !*booted) return booted;
  guest_->run();
  begin_ = Clock::now();
  if (auto helped = use_help(); !helped || !*helped) return helped;
  run_.help_ms = ms_since(begin_);
  return send_rounds();
}

// What is written from the moment at which tracking begins is found by a harvest. Hints are of use
// only until the first of them: what they leave out of round 1 and is written later is sent then.
Result<bool> Migration::use_help() {
  if (help_.drop_cache) {
    if (auto dropped = drop_cache(); !dropped || !*dropped) return dropped;
  }
  if (help_.balloon) {
    if (auto inflated = inflate(); !inflated || !*inflated) return inflated;
  }
  auto tracker = options_.make_tracker(guest_->memory());
  if (!tracker) return tl::unexpected(tracker.error());
  tracker_ = std::move(*tracker);
  run_.tracking = tracker_->name();
  to_send_.add(PageRange{0, to_send_.size()});
  return help_.hints ? take_hints() : true;
}

Result<bool> Migration::drop_cache() {
  BalloonDevice& device = guest_->machine().device();
  if (auto asked = device.request_cache_drop(CacheKinds::kPageCache); !asked) {
    return tl::unexpected(asked.error());
  }
  return wait_for([&] { return !device.cache_drop_pending(); }, kMostAnswerTime);
}

Result<bool> Migration::inflate() {
  BalloonDevice& device = guest_->machine().device();
  if (auto set = device.set_target_pages(spare_pages_); !set) return tl::unexpected(set.error());
  return wait_for([&] { return device.ballooned_pages() >= spare_pages_; }, kMostInflateTime);
}

Result<bool> Migration::take_hints() {
  BalloonDevice& device = guest_->machine().device();
  if (auto started = device.start_hints(); !started) return tl::unexpected(started.error());
  const bool going = wait_for([&] { return device.hint_status().state == HintState::kExhausted; },
                              kMostAnswerTime);
  device.stop_hints();  // what comes from now on is of no round
  device.finish_hints();
  return going;
}

// False only when stopped: a guest that does not do what would help is migrated without.
bool Migration::wait_for(const std::function<bool()>& done, Clock::duration most) const {
  for (const auto begin = Clock::now(); !done() && Clock::now() - begin < most;) {
    if (!go_on()) return false;
    std::this_thread::sleep_for(kLook);
  }
  return true;
}

// On the device's thread, by pages of guest memory.
void Migration::leave_out(std::span<const PageRange> pages) {
  std::vector<HostRun> runs;
  for (const PageRange& range : pages) guest_->memory()->translate(range, runs);
  for (const HostRun& run : runs) {
    const auto offset = static_cast<std::uint64_t>(run.address - run.region->host);
    to_send_.remove(
        PageRange{run.region->first_page_index + (offset >> kPageShift), run.length >> kPageShift});
  }
}

// A page that leaves the balloon later has lost what it held: before the guest relies on anything
// in it, it writes that, and a harvest finds it. So it must tell the host first (MUST_TELL_HOST).
void Migration::leave_out_ballooned() {
  const BalloonDevice& device = guest_->machine().device();
  for (const MemoryRegion& region : guest_->memory()->regions()) {
    const PageRange pages = region.pages();
    const Pfn end = region.first_page_index + pages.count;
    for (PageRange run = to_send_.next_run(region.first_page_index, end); run.count != 0;
         run = to_send_.next_run(run.end(), end)) {
      for (Pfn page = run.first; page < run.end(); ++page) {
        const Pfn pfn = pages.first + (page - region.first_page_index);
        if (device.is_ballooned(pfn)) to_send_.remove(PageRange{page, 1});
      }
    }
  }
}

Result<void> Migration::harvest() {
  if (auto harvested = tracker_->harvest(to_send_); !harvested) return harvested;
  if (help_.balloon) leave_out_ballooned();
  return {};
}

// How long the pages that wait would take, as fast as in the last round.
double Migration::ms_left() const {
  const MigrateRound& last = run_.rounds.back();
  if (last.bytes == 0) return 0;
  return static_cast<double>(to_send_.count() << kPageShift) * last.ms /
         static_cast<double>(last.bytes);
}

// All but the last round. The set then holds what was found since the last one that was sent.
Result<bool> Migration::send_rounds() {
  if (help_.balloon) leave_out_ballooned();
  do {
    if (!send_round()) return false;
    to_send_.clear();
    if (auto harvested = harvest(); !harvested) return tl::unexpected(harvested.error());
  } while (run_.rounds.size() + 1 < kMostRounds && ms_left() > kMostDowntimeMs);

  const auto stop = Clock::now();
  guest_->stop();
  if (auto harvested = harvest(); !harvested) return tl::unexpected(harvested.error());
  const bool sent = send_round() && finish();
  run_.downtime_ms = ms_since(stop);
  run_.total_ms = ms_since(begin_);
  return sent;
}

bool Migration::send_round() {
  const auto begin = Clock::now();
  const std::uint64_t bytes_before = link_->bytes_sent();
  if (options_.before_round) {
    options_.before_round({static_cast<unsigned>(run_.rounds.size()) + 1, to_send_,
                           guest_->machine(), destination_->process()});
  }
  for (const MemoryRegion& region : guest_->memory()->regions()) {
    const Pfn first = region.first_page_index;
    const Pfn end = first + region.pages().count;
    for (PageRange run = to_send_.next_run(first, end); run.count != 0;
         run = to_send_.next_run(run.end(), end)) {
      if (!link_->send_pages(region, {run.first - first, run.count})) return false;
      sent_.add(run);
    }
  }
  run_.rounds.push_back({to_send_.count(), link_->bytes_sent() - bytes_before, ms_since(begin)});
  return true;
}

// The rest of the last round.
bool Migration::finish() {
  const auto begin = Clock::now();
  const std::uint64_t bytes_before = link_->bytes_sent();
  arrival_ = link_->finish(guest_->machine().device().save(), to_send_.size());
  MigrateRound& last = run_.rounds.back();
  last.bytes += link_->bytes_sent() - bytes_before;
  last.ms += ms_since(begin);
  run_.skipped_pages = sent_.size() - sent_.count();
  return arrival_.has_value();
}

std::string Migration::compare() const {
  if (!arrival_->restored) return "the destination could not restore the device";
  const PageSet ballooned = ballooned_pages_of(guest_->machine().device(), *guest_->memory());
  if (!std::ranges::equal(ballooned.words(), arrival_->ballooned.words())) {
    return fmt::format("pages in the balloon: {} here, {} or others at the destination",
                       ballooned.count(), arrival_->ballooned.count());
  }
  std::uint64_t different = 0;
  Pfn first_different = 0;
  for (const MemoryRegion& region : guest_->memory()->regions()) {
    const PageRange pages = region.pages();
    const std::byte* const there = destination_->memory().host(region.guest_address, region.bytes);
    for (std::uint64_t i = 0; i < pages.count; ++i) {
      const std::uint64_t offset = i << kPageShift;
      if (!guest_->owns(pages.first + i)) continue;
      if (std::memcmp(region.host + offset, there + offset, kPageSize) == 0) continue;
      if (different++ == 0) first_different = pages.first + i;
    }
  }
  if (different != 0) {
    return fmt::format("pages of the guest that differ at the destination: {}, the first is {:#x}",
                       different, first_different);
  }
  if (const std::uint64_t damaged = guest_->damaged_pages(); damaged != 0) {
    return fmt::format("pages of the guest that lost what they held: {}", damaged);
  }
  return {};
}

MigrateRun Migration::take_figures() { return std::move(run_); }

}  // namespace

Result<std::optional<MigrateRun>> run_migration(const MigrateOptions& options,
                                                const MigratePlan& plan, const Help& help,
                                                const Tick& tick) {
  Migration migration(options, plan, help, tick);
  const auto done = migration.run();
  if (!done) return tl::unexpected(done.error());
  std::string failure = *done ? migration.compare() : migration.link_failure();
  if (!*done && failure.empty()) return std::nullopt;
  MigrateRun run = migration.take_figures();
  run.failure = std::move(failure);
  if (!tick(1)) return std::nullopt;
  return run;
}

}  // namespace vballoon::tool
