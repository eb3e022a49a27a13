// SPDX-License-Identifier: MIT
#include "device/discard_plan.h"

#include <algorithm>
#include <utility>

#include "device/granules.h"
#include "device/host_runs.h"

namespace vballoon {
namespace {

// What makes a page's number its index in the dense table over all regions, modulo 2^64.
std::uint64_t dense_offset(const MemoryRegion& region) {
  return region.first_page_index - region.pages().first;
}

std::uint64_t dense_index(const MemoryRegion& region, Pfn pfn) {
  return pfn + dense_offset(region);
}

}  // namespace

DiscardPlan::DiscardPlan(const GuestMemory& memory, Ledger& ledger, std::size_t ranges,
                         HugePagePolicy policy)
    : memory_(&memory), ledger_(&ledger), policy_(policy) {
  const std::size_t regions = memory.regions().size();
  const bool huge = std::ranges::any_of(memory.regions(), [&](const MemoryRegion& region) {
    return granules_of(region, policy).any() || has_transparent_huge_pages(region);
  });
  // A piece can be cut at the bounds of a region, of its huge pages, and of those it has parts of.
  const std::size_t pieces = huge ? 2 * (ranges + 3 * regions) : ranges + regions;
  page_runs_.reset(static_cast<HostRun*>(::operator new(pieces * sizeof(HostRun))));
  if (!huge) return;
  huge_pieces_.reserve(pieces);
  huge_runs_.reserve(pieces);
}

// The part of `rest` before or in the next region, which is cut off it; a null region for a hole.
DiscardPlan::Piece DiscardPlan::cut_piece(PageRange& rest) const {
  const MemoryRegion* region = memory_->find_or_next(rest.first);
  std::uint64_t count = rest.count;
  if (region != nullptr && region->pages().first > rest.first) {
    count = std::min(count, region->pages().first - rest.first);
    region = nullptr;
  } else if (region != nullptr) {
    count = std::min(count, region->pages().end() - rest.first);
  }
  const Piece piece{region, {rest.first, count}};
  rest = {rest.first + count, rest.count - count};
  return piece;
}

// Calls on_pieces(region, pieces) for the parts of the batch inside guest memory, ascending;
// returns the number of pages outside. A page can be a range of its own, so all that lie in one
// region are handed over together, for a loop that has nothing else to do.
template <typename OnPieces>
std::uint64_t DiscardPlan::for_each_region(std::span<const PageRange> batch,
                                           OnPieces on_pieces) const {
  std::uint64_t outside = 0;
  while (!batch.empty()) {
    PageRange rest = batch.front();
    const MemoryRegion* region = memory_->find_or_next(rest.first);
    if (region != nullptr && region->pages().first <= rest.first) {
      const auto inside = std::ranges::partition_point(
          batch, [end = region->pages().end()](const PageRange& r) { return r.end() <= end; });
      const auto count = static_cast<std::size_t>(inside - batch.begin());
      on_pieces(*region, batch.first(count));
      batch = batch.subspan(count);
      if (count != 0) continue;
    }
    while (rest.count != 0) {  // begins or ends outside the region
      const Piece piece = cut_piece(rest);
      if (piece.region == nullptr) {
        outside += piece.pages.count;
      } else {
        on_pieces(*piece.region, std::span(&piece.pages, 1));
      }
    }
    batch = batch.subspan(1);
  }
  return outside;
}

DiscardPlan::Outcome DiscardPlan::inflate(std::span<const PageRange> batch, bool may_owe) {
  huge_runs_.clear();
  huge_pieces_.clear();
  page_run_count_ = 0;
  Outcome outcome;
  WordGatherer book(
      [&](std::uint64_t word, std::uint64_t mask) { ledger_->inflate(word, mask, outcome.booked); },
      [&](std::uint64_t word, std::uint64_t words) {
        ledger_->inflate_whole(word, words, outcome.booked);
      });
  outcome.outside_pages =
      for_each_region(batch, [&](const MemoryRegion& region, std::span<const PageRange> pieces) {
        book.add(pieces, dense_offset(region));
        const Granules granules = granules_of(region, policy_);
        if (!granules.any()) {
          add_page_runs(region, pieces);
          return;
        }
        for (const PageRange& pages : pieces) {
          const auto [before, inside, behind] = granules.cut(pages);
          add_page_run(region, before);
          if (inside.count != 0) huge_pieces_.push_back({&region, inside});
          add_page_run(region, behind);
        }
      });
  book.flush();
  outcome.immediate_pages = outcome.booked.pages;
  if (!huge_pieces_.empty()) outcome.immediate_pages -= plan_huge_pages(may_owe, outcome);
  return outcome;
}

DiscardPlan::Outcome DiscardPlan::inflate_later(std::span<const PageRange> batch, bool may_owe) {
  Outcome outcome;
  WordGatherer book(
      [&](std::uint64_t word, std::uint64_t mask) {
        ledger_->inflate(word, mask, outcome.booked);
        if (may_owe) ledger_->owe(word, mask);
      },
      [&](std::uint64_t word, std::uint64_t words) {
        ledger_->inflate_whole(word, words, outcome.booked);
        if (may_owe) ledger_->owe({word * 64, words * 64});
      });
  outcome.outside_pages =
      for_each_region(batch, [&](const MemoryRegion& region, std::span<const PageRange> pieces) {
        book.add(pieces, dense_offset(region));
      });
  book.flush();
  if (!may_owe) outcome.forgone_pages = outcome.booked.pages;
  return outcome;
}

DiscardPlan::Outcome DiscardPlan::deflate(std::span<const PageRange> batch) {
  Outcome outcome;
  WordGatherer book(
      [&](std::uint64_t word, std::uint64_t mask) { ledger_->deflate(word, mask, outcome.booked); },
      [&](std::uint64_t word, std::uint64_t words) {
        ledger_->deflate_whole(word, words, outcome.booked);
      });
  outcome.outside_pages =
      for_each_region(batch, [&](const MemoryRegion& region, std::span<const PageRange> pieces) {
        book.add(pieces, dense_offset(region));
      });
  book.flush();
  return outcome;
}

DiscardPlan::Outcome DiscardPlan::deflate_huge(std::span<const PageRange> batch) {
  huge_runs_.clear();
  const Outcome outcome = deflate(batch);
  if (outcome.booked.pages == outcome.booked.unchanged) return outcome;
  for_each_region(batch, [&](const MemoryRegion& region, std::span<const PageRange> pieces) {
    if (!has_transparent_huge_pages(region)) return;
    const Granules granules = granules_of(region, HugePagePolicy::kKeepWhole);
    Pfn looked_up_to = granules.pages.first;
    for (const PageRange& pages : pieces) {
      const Pfn end = std::min(pages.end(), granules.pages.end());
      for (Pfn page = std::max(pages.first, looked_up_to); page < end; page = looked_up_to) {
        const PageRange whole = granules.of(page);
        looked_up_to = whole.end();
        if (ledger_->none_ballooned({dense_index(region, whole.first), whole.count})) {
          add_huge_run(region, whole);
        }
      }
    }
  });
  return outcome;
}

DiscardPlan::Reported DiscardPlan::report(std::span<const PageRange> batch) {
  page_run_count_ = 0;
  huge_runs_.clear();
  Reported reported;
  reported.outside_pages =
      for_each_region(batch, [&](const MemoryRegion& region, std::span<const PageRange> pieces) {
        for (const PageRange& pages : pieces) reported.inside_pages += pages.count;
        const Granules granules = granules_of(region, policy_);
        if (!granules.any() || !granules.only_whole) {
          add_page_runs(region, pieces);
          return;
        }
        for (const PageRange& pages : pieces) {
          const auto [before, inside, behind] = granules.cut(pages);
          add_page_run(region, before);
          if (inside.count != 0) {
            const PageRange last = granules.of(inside.end());
            const Pfn first = granules.of(inside.first + granules.each - 1).first;
            if (first < last.first) add_huge_run(region, {first, last.first - first});
          }
          add_page_run(region, behind);
        }
      });
  return reported;
}

std::uint64_t DiscardPlan::clip(std::span<const PageRange> batch, PageRanges& inside) const {
  return for_each_region(batch, [&](const MemoryRegion&, std::span<const PageRange> pieces) {
    inside.insert(inside.end(), pieces.begin(), pieces.end());
  });
}

void DiscardPlan::translate(std::span<const PageRange> batch) {
  page_run_count_ = 0;
  for_each_region(batch, [&](const MemoryRegion& region, std::span<const PageRange> pieces) {
    add_page_runs(region, pieces);
  });
}

void DiscardPlan::add_page_runs(const MemoryRegion& region, std::span<const PageRange> pieces) {
  HostRun* run = page_runs_.get() + page_run_count_;
  page_run_count_ += pieces.size();
  std::byte* const host = region.host;
  const Pfn first = region.pages().first;
  for (const PageRange& pages : pieces) {
    *run++ = {host + ((pages.first - first) << kPageShift), pages.bytes(), &region};
  }
}

// Where pages of huge pages are cut apart, those that follow one another are one run.
void DiscardPlan::add_page_run(const MemoryRegion& region, PageRange pages) {
  if (pages.count == 0) return;
  HostRun* const last = page_run_count_ == 0 ? nullptr : &page_runs_[page_run_count_ - 1];
  const HostRun run = host_run(region, pages);
  if (last != nullptr && last->region == &region && last->address + last->length == run.address) {
    last->length += run.length;
  } else {
    page_runs_[page_run_count_++] = run;
  }
}

// Huge pages that follow one another are one run.
void DiscardPlan::add_huge_run(const MemoryRegion& region, PageRange whole) {
  const HostRun run = host_run(region, whole);
  HostRun* last = huge_runs_.empty() ? nullptr : &huge_runs_.back();
  if (last != nullptr && last->region == &region && last->address + last->length == run.address) {
    last->length += run.length;
  } else {
    huge_runs_.push_back(run);
  }
}

// A huge page of which every page is in the balloon becomes a run, and settling that pays for all
// that is owed of it, whichever message brought it. So what the batch has of it becomes owed first,
// as does each page that must not go alone.
std::uint64_t DiscardPlan::plan_huge_pages(bool may_owe, Outcome& outcome) {
  std::uint64_t owed = 0;
  // Pieces may share a huge page, by the thousand where it is of 1 GiB: each is looked at once.
  const MemoryRegion* region = nullptr;
  Granules granules;
  Pfn looked_up_to = 0;
  bool complete = false;
  for (const Piece& piece : huge_pieces_) {
    if (std::exchange(region, piece.region) != piece.region) {
      granules = granules_of(*region, policy_);
      looked_up_to = 0;
    }
    for (PageRange rest = piece.pages; rest.count != 0;) {
      const PageRange whole = granules.of(rest.first);
      const PageRange part{rest.first, std::min(rest.end(), whole.end()) - rest.first};
      rest = {part.end(), rest.count - part.count};
      if (whole.end() > looked_up_to) {
        looked_up_to = whole.end();
        complete =
            part == whole ||
            (may_owe && ledger_->all_ballooned({dense_index(*region, whole.first), whole.count}));
        if (complete) add_huge_run(*region, whole);
      }
      if (!complete && !granules.only_whole) {
        add_page_run(*region, part);
        continue;
      }
      const PageRange dense{dense_index(*region, part.first), part.count};
      ledger_->owe(dense);
      owed += part.count;
      if (!complete && !may_owe) outcome.forgone_pages += ledger_->settle(dense);
    }
  }
  return owed;
}

DiscardPlan::Settled DiscardPlan::settle_pages(const DiscardReport& report, bool may_owe) {
  Settled settled{report.freed_bytes >> kPageShift, 0};
  for (const DiscardFailure& failure : report.failures) {
    const PageRange pages = dense_pages(failure.run);
    if (may_owe) {
      ledger_->owe(pages);
    } else {
      settled.forgone_pages += pages.count;
    }
  }
  return settled;
}

DiscardPlan::Settled DiscardPlan::settle_huge(DiscardReport& report, bool may_owe) {
  Settled settled;
  settled.freed_pages = settle_runs(huge_runs_, report.failures, *ledger_, [&](PageRange refused) {
    if (!may_owe) settled.forgone_pages += ledger_->settle(refused);
  });
  return settled;
}

}  // namespace vballoon
