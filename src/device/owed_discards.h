// SPDX-License-Identifier: MIT
// Discards that were put off: which pages of those owed go to the kernel next, and which are there
// now.
//
// Takes pieces of the ledger in passes from low to high, so that a piece that the kernel refuses is
// asked for again in the next pass and not at once. Whoever owns this orders the calls; the
// kernel is called between take() and settle(), by one thread at a time.
#ifndef VBALLOON_SRC_DEVICE_OWED_DISCARDS_H_
#define VBALLOON_SRC_DEVICE_OWED_DISCARDS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "device/ledger.h"
#include "vballoon/balloon_device.h"
#include "vballoon/discarder.h"
#include "vballoon/guest_memory.h"
#include "vballoon/page_range.h"

namespace vballoon {

class OwedDiscards {
 public:
  // Both must outlive this, or the use of them. Takes a usable policy.
  OwedDiscards(const GuestMemory& memory, Ledger& ledger,
               HugePagePolicy policy = HugePagePolicy::kSplit);

  // The next runs, as much as one call to the kernel should have; none at the end of a pass. A huge
  // page is taken as a whole when all of it is in the balloon, and only then where it must not be
  // split. What is taken stays owed until it is settled.
  [[nodiscard]] std::span<const HostRun> take();
  // Books what the kernel took, which is all but this; returns the pages that are owed no more.
  std::uint64_t settle(std::vector<DiscardFailure> refused);

  // More pages are owed than when the pass began: another one is needed.
  void added() { added_ = true; }
  void restart();
  // Goes on with another memory and the ledger of that; nothing may be in the kernel.
  void use(const GuestMemory& memory, HugePagePolicy policy = HugePagePolicy::kSplit);

  // Something was taken and is not settled.
  [[nodiscard]] bool in_kernel() const { return !runs_.empty(); }
  // Whether one of the pages of an ordered batch is part of that.
  [[nodiscard]] bool in_kernel(std::span<const PageRange> pages) const;

 private:
  void take_from(const MemoryRegion& region);
  void take_run(const MemoryRegion& region, PageRange pages);
  [[nodiscard]] bool full() const;

  const GuestMemory* memory_;
  Ledger& ledger_;
  HugePagePolicy policy_;
  std::uint64_t cursor_ = 0;  // dense page index
  bool added_ = false;
  std::vector<HostRun> runs_;      // what was taken last
  std::vector<PageRange> pages_;   // the same in guest memory
  std::uint64_t taken_bytes_ = 0;  // of those
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_DEVICE_OWED_DISCARDS_H_
