// SPDX-License-Identifier: MIT
// Any batches against plain sets: what is in the balloon, what is owed, and that every inflated
// page is freed, owed, forgone or cancelled, and only one of them; and that nothing is discarded
// that may not be, nor split that is to be kept.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cerrno>
#include <map>
#include <set>
#include <vector>

#include "base/page_batch.h"
#include "base/page_ranges.h"
#include "device/device_fixture.h"
#include "device/discard_plan.h"
#include "device/two_mib_pages.h"

namespace vballoon {
namespace {

using testing::borrow_memory;
using testing::guest_pages;
using testing::kTwoMib;

class PlanAndModel {
 public:
  PlanAndModel(bool may_owe, HugePagePolicy policy)
      : may_owe_(may_owe), policy_(policy), plan_(*memory_, ledger_, kMaxRanges, policy) {}

  void step() {
    auto batch = any_batch();
    sort_and_merge(batch);
    if (*rc::gen::weightedElement<bool>({{3, true}, {1, false}})) {
      inflate(batch);
    } else {
      deflate(batch);
    }
    check();
  }

 private:
  // Mostly around the bounds of huge pages and regions, so that small numbers of steps meet.
  static PageRanges any_batch() {
    return *rc::gen::container<PageRanges>(rc::gen::construct<PageRange>(
        rc::gen::element<Pfn>(0, 1, 255, 256, 511, 512, 513, 1023, 1024, 1500, 2047, 2048, 2049,
                              2100, 2559, 2560, 3071, 3072, 3073, 3500, 4000),
        rc::gen::element<std::uint64_t>(1, 1, 2, 63, 64, 65, 255, 256, 511, 512, 513, 1024)));
  }

  [[nodiscard]] bool inside(Pfn pfn) const { return memory_->find(pfn << kPageShift) != nullptr; }

  void inflate(const PageRanges& batch) {
    const auto outcome = plan_.inflate(batch, may_owe_);
    std::uint64_t outside = 0;
    std::uint64_t already = 0;
    named_.clear();
    for (const PageRange& range : batch) {
      for (Pfn pfn = range.first; pfn < range.end(); ++pfn) {
        if (!inside(pfn)) {
          ++outside;
        } else {
          already += ballooned_.insert(pfn).second ? 0 : 1;
          named_.insert(pfn);
        }
      }
    }
    RC_ASSERT(outcome.outside_pages == outside);
    RC_ASSERT(outcome.booked.unchanged == already);
    inflated_ += outcome.booked.pages;
    cancelled_ += outcome.booked.cancelled;
    forgone_ += outcome.forgone_pages;

    DiscardReport report = discard(plan_.page_runs());
    add(plan_.settle_pages(report, may_owe_));
    report = discard(plan_.huge_runs());
    add(plan_.settle_huge(report, may_owe_));
  }

  void deflate(const PageRanges& batch) {
    const auto outcome = plan_.deflate(batch);
    for (const PageRange& range : batch) {
      for (Pfn pfn = range.first; pfn < range.end(); ++pfn) ballooned_.erase(pfn);
    }
    cancelled_ += outcome.booked.cancelled;
  }

  // The kernel: refuses any host page it likes, and takes only pages in the balloon. Where nothing
  // may be owed they are of this batch.
  DiscardReport discard(std::span<const HostRun> runs) {
    DiscardReport report;
    for (const HostRun& run : runs) {
      if (policy_ == HugePagePolicy::kKeepWhole && run.region->huge_page_bytes != 0) {
        RC_ASSERT(reinterpret_cast<std::uintptr_t>(run.address) % kTwoMib == 0u);
        RC_ASSERT(run.length % kTwoMib == 0u);
      }
      for (std::size_t at = 0; at < run.length; at += run.region->host_page_bytes) {
        const HostRun piece{run.address + at, run.region->host_page_bytes, run.region};
        const PageRange pages = guest_pages(piece);
        RC_ASSERT(piece.address + piece.length <= run.region->host + run.region->bytes);
        const std::set<Pfn>& may_go = may_owe_ ? ballooned_ : named_;
        for (Pfn pfn = pages.first; pfn < pages.end(); ++pfn) RC_ASSERT(may_go.contains(pfn));
        if (refuses(pages)) {
          report.failures.push_back({piece, EAGAIN});
        } else {
          report.freed_bytes += piece.length;
        }
      }
    }
    return report;
  }
  bool refuses(PageRange pages) { return (pages.first * 2654435761u + ++turn_) % 7 == 0; }

  void add(const DiscardPlan::Settled& settled) {
    freed_ += settled.freed_pages;
    forgone_ += settled.forgone_pages;
  }

  void check() const {
    RC_ASSERT(ledger_.ballooned_pages() == ballooned_.size());
    RC_ASSERT(inflated_ == freed_ + ledger_.owed_pages() + forgone_ + cancelled_);
    RC_ASSERT(may_owe_ || ledger_.owed_pages() == 0u);
    RC_ASSERT(ledger_.owed_pages() <= ledger_.ballooned_pages());
  }

  static constexpr std::uint64_t kMaxRanges = 4096;

  const bool may_owe_;
  const HugePagePolicy policy_;
  // Two huge pages, a hole, one more, and behind it at once a region of small pages, and one of
  // transparent huge pages.
  std::shared_ptr<const GuestMemory> memory_ =
      borrow_memory({{0, 2 * kTwoMib},
                     {4 * kTwoMib, kTwoMib},
                     {5 * kTwoMib, kTwoMib, kPageSize},
                     {6 * kTwoMib, 2 * kTwoMib, kPageSize, kTwoMib}});
  Ledger ledger_{memory_->page_count()};
  DiscardPlan plan_;

  std::set<Pfn> ballooned_;
  std::set<Pfn> named_;  // in this batch
  std::uint64_t inflated_ = 0;
  std::uint64_t freed_ = 0;
  std::uint64_t forgone_ = 0;
  std::uint64_t cancelled_ = 0;
  std::uint64_t turn_ = 0;
};

RC_GTEST_PROP(DiscardPlanModelTest, EveryInflatedPageIsFreedOwedForgoneOrCancelled, ()) {
  PlanAndModel model(
      *rc::gen::arbitrary<bool>(),
      *rc::gen::element(HugePagePolicy::kSplit, HugePagePolicy::kKeepWhole, HugePagePolicy::kHeal));
  const int steps = *rc::gen::inRange(1, 20);
  for (int i = 0; i < steps; ++i) model.step();
}

}  // namespace
}  // namespace vballoon
