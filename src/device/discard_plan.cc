// SPDX-License-Identifier: MIT
#include "device/discard_plan.h"

#include <algorithm>

namespace vballoon {
namespace {

// Index of a page in the dense table over all regions.
std::uint64_t dense_index(const MemoryRegion& region, Pfn pfn) {
  return region.first_page_index + (pfn - region.pages().first);
}

PageRange dense_range(const HostRun& run) {
  const auto offset = static_cast<std::uint64_t>(run.address - run.region->host);
  return {run.region->first_page_index + (offset >> kPageShift), run.length >> kPageShift};
}

HostRun host_run(const MemoryRegion& region, PageRange pages) {
  return {region.host + ((pages.first << kPageShift) - region.guest_address),
          static_cast<std::size_t>(pages.bytes()), &region};
}

}  // namespace

DiscardPlan::DiscardPlan(const GuestMemory& memory, Ledger& ledger, std::size_t ranges)
    : memory_(memory), ledger_(ledger) {
  const std::size_t pieces = ranges + memory.regions().size();
  page_runs_.reserve(pieces);
  const bool huge = std::ranges::any_of(memory.regions(), [](const MemoryRegion& region) {
    return region.host_page_bytes > kPageSize;
  });
  if (!huge) return;
  huge_pieces_.reserve(pieces);
  huge_runs_.reserve(pieces * 3);  // the middle of a piece and a completed page at each end
}

template <typename Piece>
std::uint64_t DiscardPlan::for_each_piece(std::span<const PageRange> batch, Piece piece) const {
  std::uint64_t outside = 0;
  const MemoryRegion* region = nullptr;
  PageRange region_pages;
  for (PageRange rest : batch) {
    while (rest.count != 0) {
      if (region == nullptr || rest.first - region_pages.first >= region_pages.count) {
        region = memory_.find_or_next(rest.first);
        if (region == nullptr) {
          outside += rest.count;
          break;
        }
        region_pages = region->pages();
        if (region_pages.first > rest.first) {
          const std::uint64_t hole = std::min(rest.count, region_pages.first - rest.first);
          outside += hole;
          rest = {rest.first + hole, rest.count - hole};
          continue;
        }
      }
      const std::uint64_t count = std::min(rest.count, region_pages.end() - rest.first);
      piece(*region, PageRange{rest.first, count});
      rest = {rest.first + count, rest.count - count};
    }
  }
  return outside;
}

DiscardPlan::Outcome DiscardPlan::inflate(std::span<const PageRange> batch, bool may_owe) {
  page_runs_.clear();
  huge_runs_.clear();
  huge_pieces_.clear();
  Outcome outcome;
  WordGatherer book(
      [&](std::uint64_t word, std::uint64_t mask) { ledger_.inflate(word, mask, outcome.booked); });
  outcome.outside_pages = for_each_piece(batch, [&](const MemoryRegion& region, PageRange pages) {
    book.add(dense_index(region, pages.first), pages.count);
    if (region.host_page_bytes == kPageSize) {
      page_runs_.push_back(host_run(region, pages));
      outcome.immediate_pages += pages.count;
    } else {
      huge_pieces_.push_back({&region, pages});
    }
  });
  book.flush();
  if (!huge_pieces_.empty()) plan_huge_pages(may_owe, outcome);
  return outcome;
}

DiscardPlan::Outcome DiscardPlan::deflate(std::span<const PageRange> batch) {
  page_runs_.clear();
  huge_runs_.clear();
  Outcome outcome;
  WordGatherer book(
      [&](std::uint64_t word, std::uint64_t mask) { ledger_.deflate(word, mask, outcome.booked); });
  outcome.outside_pages = for_each_piece(batch, [&](const MemoryRegion& region, PageRange pages) {
    book.add(dense_index(region, pages.first), pages.count);
    page_runs_.push_back(host_run(region, pages));
  });
  book.flush();
  return outcome;
}

// All pages of the batch become owed; a huge page of which every page is in the balloon becomes a
// run, and settling it pays for all that is owed of it, whichever message brought it.
void DiscardPlan::plan_huge_pages(bool may_owe, Outcome& outcome) {
  for (const auto& [region, pages] : huge_pieces_) {
    const std::uint64_t granule = region->host_page_bytes >> kPageShift;
    const Pfn base = region->pages().first;
    // The next huge page that has not been looked at: two pieces may share one.
    Pfn next = base + (pages.first - base) / granule * granule;
    ledger_.owe({dense_index(*region, pages.first), pages.count});
    if (!huge_runs_.empty() && huge_runs_.back().region == region) {
      const HostRun& last = huge_runs_.back();
      const auto end = static_cast<std::uint64_t>(last.address + last.length - region->host);
      next = std::max(next, base + (end >> kPageShift));
    }
    for (; next < pages.end(); next += granule) {
      const PageRange whole{next, granule};
      const bool named = pages.first <= next && pages.end() >= whole.end();
      const bool complete =
          named || (may_owe && ledger_.all_ballooned({dense_index(*region, next), granule}));
      if (complete) {
        const HostRun run = host_run(*region, whole);
        HostRun* last = huge_runs_.empty() ? nullptr : &huge_runs_.back();
        if (last != nullptr && last->region == region &&
            last->address + last->length == run.address) {
          last->length += run.length;
        } else {
          huge_runs_.push_back(run);
        }
      } else if (!may_owe) {
        const Pfn first = std::max(pages.first, next);
        const Pfn end = std::min(pages.end(), whole.end());
        outcome.forgone_pages += ledger_.settle({dense_index(*region, first), end - first});
      }
    }
  }
}

DiscardPlan::Settled DiscardPlan::settle_pages(const DiscardReport& report, bool may_owe) {
  Settled settled{report.freed_bytes >> kPageShift, 0};
  for (const DiscardFailure& failure : report.failures) {
    const PageRange pages = dense_range(failure.run);
    if (may_owe) {
      ledger_.owe(pages);
    } else {
      settled.forgone_pages += pages.count;
    }
  }
  return settled;
}

// Both the runs and, once sorted, the failures ascend, so that one pass over each is enough,
// however many there are.
DiscardPlan::Settled DiscardPlan::settle_huge(DiscardReport& report, bool may_owe) {
  const auto first_page = [](const DiscardFailure& f) { return dense_range(f.run).first; };
  std::ranges::sort(report.failures, {}, first_page);
  Settled settled;
  auto failure = report.failures.begin();
  for (const HostRun& run : huge_runs_) {
    const PageRange pages = dense_range(run);
    std::uint64_t paid_up_to = pages.first;
    for (; failure != report.failures.end() && first_page(*failure) < pages.end(); ++failure) {
      const PageRange refused = dense_range(failure->run);
      settled.freed_pages += ledger_.settle({paid_up_to, refused.first - paid_up_to});
      if (!may_owe) settled.forgone_pages += ledger_.settle(refused);
      paid_up_to = refused.end();
    }
    settled.freed_pages += ledger_.settle({paid_up_to, pages.end() - paid_up_to});
  }
  return settled;
}

}  // namespace vballoon
