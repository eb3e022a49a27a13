// SPDX-License-Identifier: MIT
#include "device/discard_plan.h"

#include <algorithm>
#include <utility>

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

DiscardPlan::DiscardPlan(const GuestMemory& memory, Ledger& ledger, std::size_t ranges)
    : memory_(&memory), ledger_(&ledger) {
  const std::size_t pieces = ranges + memory.regions().size();
  page_runs_.reset(static_cast<HostRun*>(::operator new(pieces * sizeof(HostRun))));
  const bool huge = std::ranges::any_of(memory.regions(), [](const MemoryRegion& region) {
    return region.host_page_bytes > kPageSize;
  });
  if (!huge) return;
  huge_pieces_.reserve(pieces);
  huge_runs_.reserve(pieces * 3);  // the middle of a piece and a completed page at each end
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
  std::uint64_t huge_pages = 0;
  WordGatherer book(
      [&](std::uint64_t word, std::uint64_t mask) { ledger_->inflate(word, mask, outcome.booked); },
      [&](std::uint64_t word, std::uint64_t words) {
        ledger_->inflate_whole(word, words, outcome.booked);
      });
  outcome.outside_pages =
      for_each_region(batch, [&](const MemoryRegion& region, std::span<const PageRange> pieces) {
        book.add(pieces, dense_offset(region));
        if (region.host_page_bytes == kPageSize) {
          add_page_runs(region, pieces);
          return;
        }
        for (const PageRange& pages : pieces) {
          huge_pieces_.push_back({&region, pages});
          huge_pages += pages.count;
        }
      });
  book.flush();
  outcome.immediate_pages = outcome.booked.pages - huge_pages;
  if (!huge_pieces_.empty()) plan_huge_pages(may_owe, outcome);
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

DiscardPlan::Reported DiscardPlan::report(std::span<const PageRange> batch) {
  page_run_count_ = 0;
  huge_runs_.clear();
  Reported reported;
  reported.outside_pages =
      for_each_region(batch, [&](const MemoryRegion& region, std::span<const PageRange> pieces) {
        for (const PageRange& pages : pieces) reported.inside_pages += pages.count;
        if (region.host_page_bytes == kPageSize) {
          add_page_runs(region, pieces);
          return;
        }
        const std::uint64_t granule = region.host_page_bytes >> kPageShift;
        const Pfn base = region.pages().first;
        for (const PageRange& pages : pieces) {
          const Pfn first = base + (pages.first - base + granule - 1) / granule * granule;
          const Pfn end = base + (pages.end() - base) / granule * granule;
          if (first < end) add_huge_run(region, {first, end - first});
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

// All pages of the batch become owed; a huge page of which every page is in the balloon becomes a
// run, and settling it pays for all that is owed of it, whichever message brought it.
void DiscardPlan::plan_huge_pages(bool may_owe, Outcome& outcome) {
  // Pieces may share a huge page, by the thousand where it is of 1 GiB: each is looked at once.
  const MemoryRegion* looked_region = nullptr;
  Pfn looked_up_to = 0;
  for (const Piece& piece : huge_pieces_) {
    const MemoryRegion* region = piece.region;
    const PageRange pages = piece.pages;
    const std::uint64_t granule = region->host_page_bytes >> kPageShift;
    const Pfn base = region->pages().first;
    Pfn next = base + (pages.first - base) / granule * granule;
    ledger_->owe({dense_index(*region, pages.first), pages.count});
    if (std::exchange(looked_region, region) != region) looked_up_to = 0;
    for (; next < pages.end(); next += granule) {
      const bool first_look = next >= looked_up_to;
      looked_up_to = std::max(looked_up_to, next + granule);
      const PageRange whole{next, granule};
      const bool named = pages.first <= next && pages.end() >= whole.end();
      const bool complete =
          named ||
          (may_owe && first_look && ledger_->all_ballooned({dense_index(*region, next), granule}));
      if (complete) {
        add_huge_run(*region, whole);
      } else if (!may_owe) {
        const Pfn first = std::max(pages.first, next);
        const Pfn end = std::min(pages.end(), whole.end());
        outcome.forgone_pages += ledger_->settle({dense_index(*region, first), end - first});
      }
    }
  }
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
