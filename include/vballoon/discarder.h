// SPDX-License-Identifier: MIT
// Gives memory back to the kernel.                                                room: memory
//
// Mechanism only: which runs to give back, and when, is decided by the device. An embedder may
// put its own Discarder in place (another process, a hypervisor's own call).
#ifndef VBALLOON_DISCARDER_H_
#define VBALLOON_DISCARDER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "vballoon/export.h"
#include "vballoon/guest_memory.h"

namespace vballoon {

enum class DiscardStrategy : std::uint8_t {
  kPerPage,   // one call for each host page, as most devices do; the baseline
  kMerged,    // one call for each run
  kVectored,  // runs gathered into process_madvise calls of up to 1024 pieces
};

// "per-page", "merged", "vectored"; and back.
[[nodiscard]] VBALLOON_EXPORT std::string_view to_string(DiscardStrategy strategy) noexcept;
[[nodiscard]] VBALLOON_EXPORT std::optional<DiscardStrategy> parse_discard_strategy(
    std::string_view text) noexcept;

// A piece that the kernel did not take; neighbours that it refused for the same reason are one.
struct DiscardFailure {
  HostRun run;
  int os_error = 0;
};

// What became of the runs of one discard(). Every byte is in freed_bytes or in `failures`.
struct DiscardReport {
  std::uint64_t freed_bytes = 0;  // the kernel took these
  std::uint64_t calls = 0;        // system calls made
  std::vector<DiscardFailure> failures;

  void clear() {
    freed_bytes = 0;
    calls = 0;
    failures.clear();
  }
};

class VBALLOON_EXPORT Discarder {
 public:
  virtual ~Discarder() = default;

  // Gives the runs back and adds the outcome to `report`. Each run is a multiple of its region's
  // host page size and no two overlap. A page that fails is reported with its errno (with
  // kPunchHole the whole run is) and the rest still happens. May be called from several threads,
  // with a report of their own each. A device calls it while it keeps resets and other queues out:
  // it must not call that device back, nor wait for a thread that does.
  virtual void discard(std::span<const HostRun> runs, DiscardReport& report) = 0;
};

struct KernelDiscarderOptions {
  DiscardStrategy strategy = DiscardStrategy::kVectored;
  // Behave as on a kernel that refuses to discard by process_madvise. Neither that nor pidfd_open
  // is then called: for a process that would be killed for it.
  bool without_vectored_call = false;
};

// The discarder that asks this process's kernel. kVectored falls back to kMerged where the kernel
// cannot do it (before Linux 6.13), and for regions with DiscardMethod::kPunchHole.
[[nodiscard]] VBALLOON_EXPORT std::unique_ptr<Discarder> make_kernel_discarder(
    const KernelDiscarderOptions& options = {});

// Whether this kernel takes a vectored discard on the own process; probed once.
[[nodiscard]] VBALLOON_EXPORT bool vectored_discard_available();

// Whether a huge page that was discarded in pieces is huge again at the next touch once all of it
// is discarded in one call: its page table goes then (Linux 6.14, x86-64); probed, once where huge
// pages can be had.
[[nodiscard]] VBALLOON_EXPORT bool healing_available();

}  // namespace vballoon

#endif  // VBALLOON_DISCARDER_H_
