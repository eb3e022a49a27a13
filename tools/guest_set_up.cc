// SPDX-License-Identifier: MIT
#include "guest_set_up.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <string>
#include <string_view>

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

std::string_view where_from(Backing backing) {
  return backing == Backing::kHugetlb ? "in free huge pages (/proc/sys/vm/nr_hugepages makes more)"
                                      : "available";
}

// What a guest of the size that nobody asked for gets, and why it is less than usual.
Result<std::uint64_t> default_guest_memory(const CompareOptions& options,
                                           std::uint64_t available_bytes, std::string& note) {
  const bool pool = options.backing == Backing::kHugetlb;
  // A pool has no other users to leave room for.
  if (available_bytes >= (pool ? kDefaultGuest : kRoomForDefault)) return kDefaultGuest;
  const std::uint64_t unit = available_bytes >= 2 * kGiB ? kGiB : kBlockBytes;
  const std::uint64_t fits = (pool ? available_bytes : available_bytes / 3 * 2) / unit * unit;
  if (fits < kSmallestGuest) {
    return fail(Errc::kNotSupported,
                fmt::format("the smallest guest has {}; this machine has {} {}",
                            format_bytes(kSmallestGuest), format_bytes(available_bytes),
                            where_from(options.backing)));
  }
  note = pool ? fmt::format("guest of {} instead of {}: the pool of huge pages has {} free",
                            format_bytes(fits), format_bytes(kDefaultGuest),
                            format_bytes(available_bytes))
              : fmt::format(
                    "guest of {} instead of {}: this machine has {} available, the full "
                    "size wants {}",
                    format_bytes(fits), format_bytes(kDefaultGuest), format_bytes(available_bytes),
                    format_bytes(kRoomForDefault));
  return fits;
}

Result<std::uint64_t> guest_memory_for(const CompareOptions& options, const MachineFacts& machine,
                                       std::string& note) {
  const bool pool = options.backing == Backing::kHugetlb;
  const std::uint64_t available_bytes =
      pool ? machine.huge_pages_free * kHugePageBytes : machine.available_bytes;
  if (!options.guest_memory) return default_guest_memory(options, available_bytes, note);
  const std::uint64_t wanted = *options.guest_memory;
  if (wanted < kSmallestGuest || wanted % kBlockBytes != 0) {
    return fail(
        Errc::kInvalidArgument,
        fmt::format("--guest-memory {}: give a multiple of {}, at least {}", format_bytes(wanted),
                    format_bytes(kBlockBytes), format_bytes(kSmallestGuest)));
  }
  if (wanted > available_bytes) {
    return fail(Errc::kInvalidArgument,
                fmt::format("--guest-memory {}: this machine has {} {}", format_bytes(wanted),
                            format_bytes(available_bytes), where_from(options.backing)));
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
  return pages;
}

sim::PageList age(const CompareOptions& options, sim::PageAllocator& allocator) {
  return sim::age_guest(allocator, options.guest, options.seed);
}

Result<ComparePlan> make_plan(const CompareOptions& options, const MachineFacts& machine) {
  if (!std::has_single_bit(options.queue_size)) {
    return fail(Errc::kInvalidArgument,
                fmt::format("--queue-size {}: give a power of two", options.queue_size));
  }
  ComparePlan plan;
  const auto guest_memory = guest_memory_for(options, machine, plan.note);
  if (!guest_memory) return tl::unexpected(guest_memory.error());
  plan.guest_memory = *guest_memory;
  const auto pages = make_guest_pages(options, plan.guest_memory);
  if (!pages) return tl::unexpected(pages.error());

  age(options, *pages->allocator);
  const std::uint64_t free_pages = pages->allocator->free_pages();
  const std::uint64_t kept = sim::DriverOptions{}.reserve_pages + kDriverPages;
  const std::uint64_t most = free_pages - std::min(free_pages, kept);
  plan.inflate_pages =
      options.inflate ? *options.inflate >> kPageShift
                      : std::min(most, default_inflation(options, plan.guest_memory, free_pages));
  if (options.inflate && (*options.inflate == 0 || *options.inflate % kPageSize != 0)) {
    return fail(Errc::kInvalidArgument,
                fmt::format("--inflate {}: give a multiple of {} above 0",
                            format_bytes(*options.inflate), format_bytes(kPageSize)));
  }
  if (plan.inflate_pages > most) {
    return fail(
        Errc::kTargetTooLarge,
        fmt::format("--inflate {}: more than this guest can give; the maximum is {} bytes ({})",
                    format_bytes(*options.inflate), most << kPageShift,
                    format_bytes(most << kPageShift)));
  }
  return plan;
}

}  // namespace vballoon::tool
