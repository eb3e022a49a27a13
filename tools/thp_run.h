// SPDX-License-Identifier: MIT
// What a balloon leaves of the huge pages of its host: the published experiment with one mode and
// one policy.
//
// A guest on transparent huge pages has a process that gave back every other of its pages. The
// balloon is inflated and deflated, then the process ends and another one uses as much memory, and
// at last all that is free.
#ifndef VBALLOON_TOOLS_THP_RUN_H_
#define VBALLOON_TOOLS_THP_RUN_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "sizes.h"
#include "vballoon/balloon_device.h"
#include "vballoon/features.h"
#include "vballoon/result.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::tool {

// As published. What the kernel and the process take has been touched, the rest has not.
struct ThpPlan {
  std::uint64_t guest_memory = 1024 * kMiB;
  std::uint64_t kernel = 90 * kMiB;
  std::uint64_t process = 800 * kMiB;
  std::uint64_t inflate = 424 * kMiB;
};

// What the host does about huge pages. The published systems know the first one only.
struct ThpPolicy {
  std::string_view name = "split";
  HugePagePolicy inflate = HugePagePolicy::kSplit;
  DeflateAction deflate = DeflateAction::kNothing;
};
inline constexpr std::array<ThpPolicy, 4> kThpPolicies{
    {{},
     {"keep-whole", HugePagePolicy::kKeepWhole},
     {"heal", HugePagePolicy::kHeal},
     {"collapse", HugePagePolicy::kSplit, DeflateAction::kCollapse}}};

// Huge pages are those that the host has mapped as such ("AnonHugePages").
struct ThpRun {
  std::uint64_t huge_before = 0;
  std::uint64_t huge_inflated = 0;
  std::uint64_t huge_reused = 0;
  std::uint64_t huge_complete = 0;  // of those that there can be, all in the balloon when inflated
  // Of these, at the end: those of which something was used again, and those that are huge, which
  // is unknown on an old kernel.
  std::uint64_t complete_reused = 0;
  std::optional<std::uint64_t> complete_huge;
  std::uint64_t resident_before = 0;  // bytes
  std::uint64_t resident_inflated = 0;
  std::uint64_t resident_deflated = 0;
  std::uint64_t owed_bytes = 0;       // in the balloon and not given back, when inflated
  std::uint64_t collapsed_bytes = 0;  // by the policy
  std::uint64_t moved_pages = 0;      // by the guest, for large blocks
  sim::BlocksByOrder allocations_by_order{};
  double inflate_ms = 0;
  double deflate_ms = 0;
  std::string failure;  // empty when the guest's memory was as it should be
};

// Fails with kNotSupported when the host has no transparent huge pages.
[[nodiscard]] Result<ThpRun> run_thp(Dialect mode, const ThpPolicy& policy, bool compaction,
                                     const ThpPlan& plan = {});

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_THP_RUN_H_
