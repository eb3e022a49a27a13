// SPDX-License-Identifier: MIT
#include "migrate_guest.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "guest_set_up.h"
#include "vballoon/discarder.h"

namespace vballoon::tool {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kPagesPerTick = 16384;
// What the workload does at the most between two steps of the driver, and how long the guest's
// processor sleeps when there is nothing to do.
constexpr int kWorkPerTurn = 64;
constexpr std::chrono::microseconds kNap(50);

std::vector<PageRange> zones_of(const GuestMemory& memory) {
  std::vector<PageRange> zones;
  for (const MemoryRegion& region : memory.regions()) zones.push_back(region.pages());
  return zones;
}

}  // namespace

std::vector<RegionLayout> layout_of(const MigratePlan& plan) {
  return pc_layout(plan.guest_memory);
}

BalloonOptions device_options(const Help& help) {
  BalloonOptions device;
  device.dialect = help.dialect;
  device.guest_requests = help.requests;
  device.features = Features(device.features.bits() | help.features.bits());
  return device;
}

MigratingGuest::MigratingGuest(std::shared_ptr<const GuestMemory> memory,
                               const MigrateOptions& options)
    : memory_(std::move(memory)),
      write_rate_(options.write_rate.value_or(0)),
      allocator_(zones_of(*memory_)),
      kernel_(allocator_, {.memory = memory_}),
      workload_(memory_, allocator_, kernel_, options.seed) {}

MigratingGuest::~MigratingGuest() { stop(); }

Result<std::unique_ptr<MigratingGuest>> MigratingGuest::boot(const MigrateOptions& options,
                                                             const MigratePlan& plan,
                                                             const BalloonOptions& device,
                                                             const Tick& tick) {
  auto memory = GuestMemory::allocate(layout_of(plan), {Backing::kAnonymous, ThpMode::kOff});
  if (!memory) return tl::unexpected(memory.error());
  std::unique_ptr<MigratingGuest> guest(new MigratingGuest(std::move(*memory), options));
  if (!guest->touch_all(options.seed, tick)) return nullptr;

  sim::MachineOptions machine;
  machine.device = device;
  machine.driver.features = device.features;
  machine.driver.kernel = &guest->kernel_;
  machine.driver.faithful = options.faithful;
  auto started =
      sim::Machine::start(guest->memory_, guest->allocator_, make_kernel_discarder(), machine);
  if (!started) return tl::unexpected(started.error());
  guest->machine_ = std::move(*started);

  const std::uint64_t surplus = guest->allocator_.free_pages() - (plan.free >> kPageShift);
  if (!guest->workload_.fill(surplus)) {
    return fail(Errc::kInvalidArgument, "the guest has not the memory that it should use");
  }
  return guest;
}

// Each page its own value, so that none of them could be left out or taken for another.
bool MigratingGuest::touch_all(std::uint64_t seed, const Tick& tick) const {
  for (const MemoryRegion& region : memory_->regions()) {
    const PageRange pages = region.pages();
    for (Pfn pfn = pages.first; pfn < pages.end(); ++pfn) {
      write_page(*memory_, pfn, (seed << 32) + pfn);
      const std::uint64_t dense = region.first_page_index + (pfn - pages.first);
      if (dense % kPagesPerTick != 0) continue;
      if (!tick(static_cast<double>(dense) / static_cast<double>(memory_->page_count()))) {
        return false;
      }
    }
  }
  return true;
}

void MigratingGuest::run() {
  thread_ = std::thread([this] { live(); });
}

void MigratingGuest::stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  thread_.join();
  machine_->settle();
}

// Whether the device has to answer before the driver can go on.
bool MigratingGuest::step_driver() {
  const auto wait = machine_->driver().step(Clock::now().time_since_epoch());
  return wait.kind == sim::DriverWait::Kind::kUsedBuffer;
}

void MigratingGuest::live() {
  const auto begin = Clock::now();
  std::uint64_t written = 0;  // pages
  while (!stopping_) {
    const bool waits = step_driver();
    kernel_.run_kswapd();
    const std::chrono::duration<double> lived = Clock::now() - begin;
    const auto due = static_cast<std::uint64_t>(lived.count() * static_cast<double>(write_rate_) /
                                                static_cast<double>(kPageSize));
    for (int i = 0; i < kWorkPerTurn && written < due; ++i) written += workload_.work();
    if (written < due) continue;
    if (waits) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
  }
  while (step_driver()) std::this_thread::yield();
}

std::uint64_t MigratingGuest::spare_pages() const {
  const std::uint64_t kept = kernel_.watermarks().high + memory_->page_count() / 64;
  return allocator_.free_pages() - std::min(allocator_.free_pages(), kept);
}

bool MigratingGuest::owns(Pfn pfn) const {
  return !allocator_.is_free(pfn) && !machine_->device().is_ballooned(pfn);
}

}  // namespace vballoon::tool
