// SPDX-License-Identifier: MIT
// Translation against a model that knows every page (src/memory/guest_memory.cc).
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <vector>

#include "vballoon/guest_memory.h"

namespace vballoon {
namespace {

// Where each page of guest memory lies in the host. Never dereferenced: the regions are made up.
using Model = std::map<Pfn, std::byte*>;

std::vector<BorrowedRegion> any_layout() {
  constexpr std::uintptr_t kHostBase = std::uintptr_t{1} << 40;
  std::vector<BorrowedRegion> layout;
  Pfn next = *rc::gen::element<Pfn>(0, 1, (Pfn{1} << 51) - 200);
  const int count = *rc::gen::inRange(1, 12);
  for (int i = 0; i < count; ++i) {
    next += *rc::gen::inRange<Pfn>(0, 4);  // often without a hole
    const auto pages = *rc::gen::inRange<std::uint64_t>(1, 8);
    const auto host = kHostBase + static_cast<std::uintptr_t>(count - i) * 16 * kPageSize;
    layout.push_back({.guest_address = next << kPageShift,
                      .bytes = pages << kPageShift,
                      .host = reinterpret_cast<std::byte*>(host)});
    next += pages;
  }
  return layout;
}

Model model_of(const std::vector<BorrowedRegion>& layout) {
  Model model;
  for (const BorrowedRegion& region : layout) {
    for (std::uint64_t i = 0; i < region.bytes >> kPageShift; ++i) {
      model[(region.guest_address >> kPageShift) + i] =
          static_cast<std::byte*>(region.host) + (i << kPageShift);
    }
  }
  return model;
}

PageRange any_range(const Model& model) {
  const Pfn near = model.begin()->first + *rc::gen::inRange<Pfn>(0, 130);
  const Pfn first = *rc::gen::weightedElement<Pfn>(
      {{8, near}, {1, 0}, {1, Pfn{1} << 52}, {1, std::numeric_limits<Pfn>::max()}});
  const auto count =
      *rc::gen::weightedElement<std::uint64_t>({{8, *rc::gen::inRange<std::uint64_t>(0, 60)},
                                                {1, std::uint64_t{1} << 52},
                                                {1, std::numeric_limits<std::uint64_t>::max()}});
  return {first, count};
}

std::vector<std::byte*> pages_in(const Model& model, PageRange range) {
  std::vector<std::byte*> pages;
  for (const auto& [pfn, host] : model) {
    if (pfn >= range.first && pfn - range.first < range.count) pages.push_back(host);
  }
  return pages;
}

std::vector<std::byte*> pages_in(const std::vector<HostRun>& runs) {
  std::vector<std::byte*> pages;
  for (const HostRun& run : runs) {
    for (std::size_t at = 0; at < run.length; at += kPageSize) pages.push_back(run.address + at);
  }
  return pages;
}

bool inside_its_region(const HostRun& run) {
  const MemoryRegion& region = *run.region;
  return run.address >= region.host && run.address + run.length <= region.host + region.bytes;
}

// Two runs of one region count too: they should have been one.
bool not_ascending(const HostRun& a, const HostRun& b) { return a.region >= b.region; }

RC_GTEST_PROP(GuestMemoryProperty, TranslationNamesThePagesOfTheModel, ()) {
  const std::vector<BorrowedRegion> layout = any_layout();
  const Model model = model_of(layout);
  const auto memory = GuestMemory::borrow(layout).value();

  // Several on one object, so that the hint of one meets the next.
  for (int i = 0; i < 8; ++i) {
    const PageRange range = any_range(model);
    std::vector<HostRun> runs;
    const std::uint64_t inside = memory->translate(range, runs);

    const std::vector<std::byte*> expected = pages_in(model, range);
    RC_ASSERT(pages_in(runs) == expected);
    RC_ASSERT(inside == expected.size());
    RC_ASSERT(std::all_of(runs.begin(), runs.end(), inside_its_region));
    RC_ASSERT(std::adjacent_find(runs.begin(), runs.end(), not_ascending) == runs.end());
  }
}

RC_GTEST_PROP(GuestMemoryProperty, FindAgreesWithTheModel, ()) {
  const std::vector<BorrowedRegion> layout = any_layout();
  const Model model = model_of(layout);
  const auto memory = GuestMemory::borrow(layout).value();

  for (int i = 0; i < 16; ++i) {
    const Pfn pfn = any_range(model).first;
    const std::uint64_t address = (pfn << kPageShift) + *rc::gen::element<std::uint64_t>(0, 4095);
    const auto expected = model.find(address >> kPageShift);

    std::byte* const page = memory->host(address & ~(kPageSize - 1), kPageSize);

    RC_ASSERT(page == (expected == model.end() ? nullptr : expected->second));
    RC_ASSERT((memory->find(address) != nullptr) == (expected != model.end()));
  }
}

}  // namespace
}  // namespace vballoon
