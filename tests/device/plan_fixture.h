// SPDX-License-Identifier: MIT
#ifndef VBALLOON_TESTS_DEVICE_PLAN_FIXTURE_H_
#define VBALLOON_TESTS_DEVICE_PLAN_FIXTURE_H_

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/page_ranges.h"
#include "device/device_fixture.h"
#include "device/discard_plan.h"
#include "device/two_mib_pages.h"

namespace vballoon::testing {

// A plan with its ledger; the test plays the discarder.
class PlanFixture : public ::testing::Test {
 protected:
  explicit PlanFixture(std::shared_ptr<const GuestMemory> memory,
                       HugePagePolicy policy = HugePagePolicy::kSplit)
      : memory_(std::move(memory)), plan_(*memory_, ledger_, 64, policy) {}

  DiscardPlan::Outcome inflate(PageRanges batch, bool may_owe = true) {
    return plan_.inflate(batch, may_owe);
  }
  DiscardPlan::Outcome deflate(PageRanges batch) { return plan_.deflate(batch); }

  static PageRanges pages(std::span<const HostRun> runs) {
    PageRanges all;
    for (const HostRun& run : runs) all.push_back(guest_pages(run));
    return all;
  }
  PageRanges page_runs() const { return pages(plan_.page_runs()); }
  PageRanges huge_runs() const { return pages(plan_.huge_runs()); }

  // The run of these pages as a piece that the kernel refused.
  DiscardFailure refused(PageRange range) const {
    std::vector<HostRun> runs;
    memory_->translate(range, runs);
    return {runs.at(0), ENOMEM};
  }
  DiscardPlan::Settled settle_pages(std::uint64_t freed, std::vector<DiscardFailure> failures,
                                    bool may_owe) {
    return plan_.settle_pages({freed << kPageShift, 1, std::move(failures)}, may_owe);
  }
  DiscardPlan::Settled settle_huge(std::vector<DiscardFailure> failures, bool may_owe = true) {
    DiscardReport report{0, 1, std::move(failures)};
    return plan_.settle_huge(report, may_owe);
  }

  std::shared_ptr<const GuestMemory> memory_;
  Ledger ledger_{memory_->page_count()};
  DiscardPlan plan_;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_DEVICE_PLAN_FIXTURE_H_
