// SPDX-License-Identifier: MIT
#include "migrate_options.h"

#include <fmt/format.h>

#include <algorithm>

#include "vballoon/sim/page_allocator.h"

namespace vballoon::tool {
namespace {

constexpr std::uint64_t kDefaultGuest = 8 * kGiB;
constexpr std::uint64_t kSmallestGuest = 32 * kMiB;
// Left to the machine by the guest that nobody asked for.
constexpr std::uint64_t kRoom = 2 * kGiB;
// The allocator's largest block; each of the two regions is a multiple of it.
constexpr std::uint64_t kBlockBytes = kPageSize << sim::kMaxOrder;

// Both sides, and what this process needs to know of their pages.
std::uint64_t needed_for(std::uint64_t guest_memory) {
  return 2 * guest_memory + guest_memory / 16;
}

Result<std::uint64_t> default_guest_memory(std::uint64_t available, std::string& note) {
  if (available >= needed_for(kDefaultGuest) + kRoom) return kDefaultGuest;
  const std::uint64_t half = available / 16 * 7;
  const std::uint64_t unit = half >= kGiB ? kGiB : kBlockBytes;
  const std::uint64_t fits = half / unit * unit;
  if (fits < kSmallestGuest) {
    return fail(Errc::kInvalidArgument,
                fmt::format("the smallest guest needs {} for both sides; this machine has {} "
                            "available",
                            format_bytes(needed_for(kSmallestGuest)), format_bytes(available)));
  }
  note = fmt::format("guest of {} instead of {}: both sides need memory, and {} are available",
                     format_bytes(fits), format_bytes(kDefaultGuest), format_bytes(available));
  return fits;
}

Result<std::uint64_t> guest_memory_for(const MigrateOptions& options, std::uint64_t available,
                                       std::string& note) {
  if (!options.guest_memory) return default_guest_memory(available, note);
  const std::uint64_t wanted = *options.guest_memory;
  if (wanted < kSmallestGuest || wanted % kBlockBytes != 0) {
    return fail(
        Errc::kInvalidArgument,
        fmt::format("--guest-memory {}: give a multiple of {}, at least {}", format_bytes(wanted),
                    format_bytes(kBlockBytes), format_bytes(kSmallestGuest)));
  }
  if (available < needed_for(wanted)) {
    return fail(Errc::kInvalidArgument,
                fmt::format("--guest-memory {}: both sides need {}; this machine has {} available",
                            format_bytes(wanted), format_bytes(needed_for(wanted)),
                            format_bytes(available)));
  }
  return wanted;
}

}  // namespace

Result<MigratePlan> make_plan(const MigrateOptions& options, const MachineFacts& machine) {
  MigratePlan plan;
  const auto guest_memory = guest_memory_for(options, machine.available_bytes, plan.note);
  if (!guest_memory) return tl::unexpected(guest_memory.error());
  plan.guest_memory = *guest_memory;
  plan.free = options.free.value_or(plan.guest_memory / 4 * 3);
  // Below, the guest reclaims; above, there is nothing that it could do.
  const std::uint64_t least = plan.guest_memory / 8;
  const std::uint64_t most = plan.guest_memory - least;
  if (plan.free < least || plan.free > most) {
    return fail(Errc::kInvalidArgument,
                fmt::format("--free {}: give {} to {}", format_bytes(plan.free),
                            format_bytes(least), format_bytes(most)));
  }
  if (options.bandwidth == 0u) {
    return fail(Errc::kInvalidArgument, "--bandwidth 0: give the bytes of a second");
  }
  return plan;
}

}  // namespace vballoon::tool
