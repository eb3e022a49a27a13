// SPDX-License-Identifier: MIT
#include "guest_set_up.h"

#include <fmt/format.h>

#include <algorithm>

#include "vballoon/sim/balloon_driver.h"

namespace vballoon::tool {
namespace {

constexpr std::uint64_t kDefaultGuest = 8 * kGiB;
// Available memory with which the default guest leaves the machine room to work.
constexpr std::uint64_t kRoomForDefault = 12 * kGiB;
constexpr std::uint64_t kSmallestGuest = 64 * kMiB;
// The allocator's largest block; regions are multiples of it.
constexpr std::uint64_t kBlockBytes = kPageSize << sim::kMaxOrder;
// What the driver's rings and buffers take at the most.
constexpr std::uint64_t kDriverPages = 256;

Result<std::uint64_t> guest_memory_for(const CompareOptions& options, std::uint64_t available_bytes,
                                       std::string& note) {
  if (!options.guest_memory) {
    if (available_bytes >= kRoomForDefault) return kDefaultGuest;
    const std::uint64_t fits = std::max(available_bytes * 2 / 3 / kGiB * kGiB, kSmallestGuest);
    note = fmt::format(
        "guest of {} instead of 8 GiB: this machine has {} available, 12 GiB are "
        "wanted for the full size",
        format_size(static_cast<double>(fits)), format_size(static_cast<double>(available_bytes)));
    return fits;
  }
  const std::uint64_t wanted = *options.guest_memory;
  if (wanted < kSmallestGuest || wanted % kBlockBytes != 0) {
    return fail(Errc::kInvalidArgument,
                fmt::format("--guest-memory {} is not a multiple of 4 MiB of at least 64 MiB",
                            format_size(static_cast<double>(wanted))));
  }
  if (options.backing != Backing::kHugetlb && wanted > available_bytes) {
    return fail(Errc::kInvalidArgument,
                fmt::format("--guest-memory {} is more than this machine has available ({})",
                            format_size(static_cast<double>(wanted)),
                            format_size(static_cast<double>(available_bytes))));
  }
  return wanted;
}

std::uint64_t default_inflation(const CompareOptions& options, std::uint64_t guest_memory,
                                std::uint64_t free_pages) {
  if (options.guest != sim::GuestAge::kIdle) return free_pages / 4 * 3;
  return guest_memory / 8 * 7 >> kPageShift;
}

}  // namespace

std::vector<RegionLayout> pc_layout(std::uint64_t bytes) {
  const std::uint64_t lower = std::min(3 * kGiB, bytes / 2 / kBlockBytes * kBlockBytes);
  return {{0, lower}, {4 * kGiB, bytes - lower}};
}

Result<GuestPages> make_guest_pages(const CompareOptions& options, std::uint64_t guest_memory) {
  std::vector<PageRange> zones;
  for (const RegionLayout& region : pc_layout(guest_memory)) {
    zones.push_back({region.guest_address >> kPageShift, region.bytes >> kPageShift});
  }
  GuestPages pages{std::make_unique<sim::PageAllocator>(zones), {}};
  if (options.busy_vcpu) {
    for (std::uint64_t taken = 0; taken < kBusyBytes; taken += kBlockBytes) {
      const auto block = pages.allocator->allocate(sim::kMaxOrder);
      if (!block) return fail(Errc::kInvalidArgument, "no memory for the busy virtual processor");
      pages.busy_blocks.push_back(*block);
    }
  }
  // The pages that ageing takes stay taken: nobody frees them before the guest ends.
  static_cast<void>(sim::age_guest(*pages.allocator, options.guest, options.seed));
  return pages;
}

Result<ComparePlan> make_plan(const CompareOptions& options, std::uint64_t available_bytes) {
  ComparePlan plan;
  const auto guest_memory = guest_memory_for(options, available_bytes, plan.note);
  if (!guest_memory) return tl::unexpected(guest_memory.error());
  plan.guest_memory = *guest_memory;
  const auto pages = make_guest_pages(options, plan.guest_memory);
  if (!pages) return tl::unexpected(pages.error());

  const std::uint64_t free_pages = pages->allocator->free_pages();
  const std::uint64_t kept = sim::DriverOptions{}.reserve_pages + kDriverPages;
  const std::uint64_t most = free_pages - std::min(free_pages, kept);
  plan.inflate_pages =
      options.inflate ? *options.inflate >> kPageShift
                      : std::min(most, default_inflation(options, plan.guest_memory, free_pages));
  if (options.inflate && (*options.inflate == 0 || *options.inflate % kPageSize != 0)) {
    return fail(Errc::kInvalidArgument, "--inflate is not a multiple of 4 KiB above 0");
  }
  if (plan.inflate_pages > most) {
    return fail(
        Errc::kTargetTooLarge,
        fmt::format("--inflate {} is more than the guest can give; the maximum here is {} "
                    "({} bytes)",
                    format_size(static_cast<double>(*options.inflate)),
                    format_size(static_cast<double>(most << kPageShift)), most << kPageShift));
  }
  return plan;
}

}  // namespace vballoon::tool
