// SPDX-License-Identifier: MIT
// Checks and books the pages of a batch, and decides which memory goes back to the kernel now.
//
// Policy only: a page of a region with 4 KiB pages goes at once; a page of a huge host page goes
// when all of that huge page is in the balloon, and until then is owed. What becomes of a page of a
// transparent huge page is for the HugePagePolicy to say. Where nothing may be owed (MUST_TELL_HOST
// was not negotiated), a page that does not go with its own batch is forgone.
#ifndef VBALLOON_SRC_DEVICE_DISCARD_PLAN_H_
#define VBALLOON_SRC_DEVICE_DISCARD_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include "base/page_ranges.h"
#include "device/ledger.h"
#include "vballoon/balloon_device.h"
#include "vballoon/discarder.h"
#include "vballoon/guest_memory.h"
#include "vballoon/page_range.h"

namespace vballoon {

class DiscardPlan {
 public:
  // Both must outlive the plan. Has room for a batch of that many ranges without allocating. Takes
  // a usable policy.
  DiscardPlan(const GuestMemory& memory, Ledger& ledger, std::size_t ranges,
              HugePagePolicy policy = HugePagePolicy::kSplit);

  struct Outcome {
    Ledger::Booked booked;
    std::uint64_t outside_pages = 0;  // not in guest memory
    std::uint64_t forgone_pages = 0;
    std::uint64_t immediate_pages = 0;  // of page_runs()
  };

  // Takes an ordered batch (sort_and_merge) of inflated pages; the runs to discard follow from it.
  Outcome inflate(std::span<const PageRange> batch, bool may_owe);

  // Takes an ordered batch of inflated pages that are not to be discarded now: all of them become
  // owed, or are forgone; no runs follow.
  Outcome inflate_later(std::span<const PageRange> batch, bool may_owe);

  struct Reported {
    std::uint64_t inside_pages = 0;
    std::uint64_t outside_pages = 0;
  };
  // Takes an ordered batch of pages that are free in the guest and not booked. A huge page
  // that must not be split is among the runs only if all of it is named.
  Reported report(std::span<const PageRange> batch);
  // Appends the parts of an ordered batch that lie in guest memory; returns the pages outside.
  std::uint64_t clip(std::span<const PageRange> batch, PageRanges& inside) const;

  // Takes an ordered batch of deflated pages; no runs follow.
  Outcome deflate(std::span<const PageRange> batch);
  // The same; huge_runs() are then the transparent huge pages that it names a page of and of which
  // none is in the balloon any more. None if no page left it.
  Outcome deflate_huge(std::span<const PageRange> batch);
  // Makes page_runs() those of an ordered batch, and nothing else.
  void translate(std::span<const PageRange> batch);

  // The runs of the last batch: of single pages, and of huge pages that became complete, with all
  // that was owed of them.
  [[nodiscard]] std::span<const HostRun> page_runs() const {
    return {page_runs_.get(), page_run_count_};
  }
  [[nodiscard]] std::span<const HostRun> huge_runs() const { return huge_runs_; }

  struct Settled {
    std::uint64_t freed_pages = 0;
    std::uint64_t forgone_pages = 0;
  };
  // Books what became of page_runs(), or of huge_runs().
  Settled settle_pages(const DiscardReport& report, bool may_owe);
  Settled settle_huge(DiscardReport& report, bool may_owe);

 private:
  struct Piece {
    const MemoryRegion* region = nullptr;
    PageRange pages;
  };
  Piece cut_piece(PageRange& rest) const;
  template <typename OnPieces>
  std::uint64_t for_each_region(std::span<const PageRange> batch, OnPieces on_pieces) const;
  void add_page_runs(const MemoryRegion& region, std::span<const PageRange> pieces);
  void add_page_run(const MemoryRegion& region, PageRange pages);
  void add_huge_run(const MemoryRegion& region, PageRange whole);

  // Returns how many pages do not go at once: paid by huge_runs(), owed or forgone.
  std::uint64_t plan_huge_pages(bool may_owe, Outcome& outcome);
  const GuestMemory* memory_;
  Ledger* ledger_;
  HugePagePolicy policy_;
  // A vector would touch all of the room that a batch may need, which is some megabytes.
  struct Free {
    void operator()(HostRun* runs) const { ::operator delete(runs); }
  };
  std::unique_ptr<HostRun[], Free> page_runs_;
  std::size_t page_run_count_ = 0;
  std::vector<HostRun> huge_runs_;
  // Pieces of the batch in huge pages, looked at when the whole batch is booked.
  std::vector<Piece> huge_pieces_;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_DEVICE_DISCARD_PLAN_H_
