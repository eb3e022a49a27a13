// SPDX-License-Identifier: MIT
// The page allocator against two models: a set of free pages, and buddies in plain lists.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/page_ranges.h"
#include "vballoon/page_range.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::sim {
namespace {

// Up to three zones with ragged ends and gaps, some of them touching.
PageRanges any_zones() {
  PageRanges zones;
  Pfn first = *rc::gen::inRange<Pfn>(0, 2000);
  const int count = *rc::gen::inRange(1, 4);
  for (int i = 0; i < count; ++i) {
    zones.push_back({first, *rc::gen::inRange<std::uint64_t>(1, 1500)});
    first = zones.back().end() + *rc::gen::element<std::uint64_t>(0, 1, 700);
  }
  return zones;
}

// Free pages by the set. As buddies always merge, it determines the free blocks too.
class SetModel {
 public:
  explicit SetModel(const PageRanges& zones) : zones_(zones) {
    for (const PageRange& zone : zones) insert(zone);
  }

  [[nodiscard]] bool holds(PageRange pages) const {
    return static_cast<std::uint64_t>(std::distance(free_.lower_bound(pages.first),
                                                    free_.lower_bound(pages.end()))) == pages.count;
  }
  void insert(PageRange pages) {
    for (Pfn pfn = pages.first; pfn < pages.end(); ++pfn) free_.insert(pfn);
  }
  void erase(PageRange pages) {
    free_.erase(free_.lower_bound(pages.first), free_.lower_bound(pages.end()));
  }
  [[nodiscard]] bool contains(Pfn pfn) const { return free_.contains(pfn); }
  [[nodiscard]] std::uint64_t size() const { return free_.size(); }

  [[nodiscard]] bool has_block_of(unsigned order) const {
    const BlocksByOrder all = blocks();
    return std::any_of(all.begin() + order, all.end(), [](std::uint64_t n) { return n > 0; });
  }
  [[nodiscard]] BlocksByOrder blocks() const {
    BlocksByOrder blocks{};
    for (const PageRange& zone : zones_) {
      for (Pfn pfn = zone.first; pfn < zone.end();) {
        const std::optional<unsigned> order = largest_free_at(pfn, zone);
        if (order) ++blocks[*order];
        pfn += order ? std::uint64_t{1} << *order : 1;
      }
    }
    return blocks;
  }

 private:
  [[nodiscard]] std::optional<unsigned> largest_free_at(Pfn pfn, const PageRange& zone) const {
    for (unsigned order = kMaxOrder + 1; order-- > 0;) {
      const PageRange pages = Block{pfn, order}.pages();
      if (pfn % pages.count == 0 && pages.end() <= zone.end() && holds(pages)) return order;
    }
    return std::nullopt;
  }

  PageRanges zones_;
  std::set<Pfn> free_;
};

// The same rules with lists that are searched: slow and plain.
class ListModel {
 public:
  explicit ListModel(const PageRanges& zones) {
    for (const PageRange& zone : zones) {
      zones_.push_back({zone, {}});
      for (Pfn pfn = zone.first; pfn < zone.end(); ++pfn) free({pfn, 0});
    }
  }

  std::optional<Block> allocate(unsigned order) {
    for (auto zone = zones_.rbegin(); zone != zones_.rend(); ++zone) {
      unsigned found = order;
      while (found <= kMaxOrder && zone->lists[found].empty()) ++found;
      if (found > kMaxOrder) continue;
      const Pfn pfn = zone->lists[found].back().block.first;
      zone->lists[found].pop_back();
      while (found-- > order) zone->lists[found].push_back({{pfn + (Pfn{1} << found), found}});
      return Block{pfn, order};
    }
    return std::nullopt;
  }

  void free(Block block) {
    block = merge(block);
    zone_of(block).lists[block.order].push_back({block});
  }

  // Free blocks of the order in a zone, the head last.
  std::vector<FreeBlock>& list(std::size_t zone, unsigned order) {
    return zones_[zone].lists[order];
  }
  void rotate(std::size_t zone, unsigned order) {
    std::ranges::rotate(list(zone, order), std::prev(list(zone, order).end()));
  }
  Block isolate(std::size_t zone, unsigned order) {
    const Block block = list(zone, order).back().block;
    list(zone, order).pop_back();
    return block;
  }
  void put_back(Block block, bool reported) {
    const Block merged = merge(block);
    auto& list = zone_of(merged).lists[merged.order];
    list.insert(list.begin(), {merged, reported && merged == block});
  }

 private:
  struct Zone {
    PageRange pages;
    std::array<std::vector<FreeBlock>, kMaxOrder + 1> lists;
  };

  Zone& zone_of(Block block) {
    return *std::ranges::find_if(
        zones_, [&block](const Zone& candidate) { return block.first < candidate.pages.end(); });
  }
  Block merge(Block block) {
    while (block.order < kMaxOrder) {
      auto& list = zone_of(block).lists[block.order];
      const Block buddy{block.first ^ block.pages().count, block.order};
      const auto found = std::ranges::find(list, buddy, &FreeBlock::block);
      if (found == list.end()) break;
      list.erase(found);
      block = {block.first & ~block.pages().count, block.order + 1};
    }
    return block;
  }

  std::vector<Zone> zones_;
};

unsigned any_order() { return *rc::gen::element<unsigned>(0, 0, 0, 1, 1, 2, 3, 5, 8, 9, 10); }

// Takes some block out of `blocks`.
Block take_any(std::vector<Block>& blocks) {
  std::swap(blocks[*rc::gen::inRange<std::size_t>(0, blocks.size())], blocks.back());
  const Block block = blocks.back();
  blocks.pop_back();
  return block;
}

// Replaces a block by two halves at random, as who frees a part of one does.
Block any_part(Block block, std::vector<Block>& blocks) {
  while (block.order > 0 && *rc::gen::inRange(0, 3) == 0) {
    --block.order;
    blocks.push_back({block.pages().end(), block.order});
  }
  return block;
}

RC_GTEST_PROP(PageAllocatorProperty, OwnsEachPageOnceAndMergesAllFreeBuddies, ()) {
  const PageRanges zones = any_zones();
  PageAllocator allocator(zones);
  SetModel model(zones);
  const BlocksByOrder initial = allocator.free_blocks_by_order();
  RC_ASSERT(initial == model.blocks());
  std::vector<Block> taken;

  const int steps = *rc::gen::inRange(0, 200);
  for (int step = 0; step < steps; ++step) {
    if (taken.empty() || *rc::gen::inRange(0, 5) < 3) {
      const unsigned order = any_order();
      const std::optional<Block> block = allocator.allocate(order);
      RC_ASSERT(block.has_value() == model.has_block_of(order));
      if (!block) continue;
      RC_ASSERT(block->order == order && block->first % block->pages().count == 0);
      RC_ASSERT(model.holds(block->pages()));
      model.erase(block->pages());
      taken.push_back(*block);
    } else {
      const Block block = any_part(take_any(taken), taken);
      allocator.free(block);
      model.insert(block.pages());
    }
    RC_ASSERT(allocator.free_pages() == model.size());
  }
  RC_ASSERT(allocator.free_blocks_by_order() == model.blocks());
  for (Pfn pfn = 0; pfn < zones.back().end() + 2; ++pfn) {
    RC_ASSERT(allocator.is_free(pfn) == model.contains(pfn));
  }
  while (!taken.empty()) allocator.free(any_part(take_any(taken), taken));
  RC_ASSERT(allocator.free_blocks_by_order() == initial);
}

RC_GTEST_PROP(PageAllocatorProperty, GivesTheBlocksThatPlainListsWouldGive, ()) {
  const PageRanges zones = any_zones();
  PageAllocator allocator(zones);
  ListModel model(zones);
  std::vector<Block> taken;
  // Small blocks first, so that there is much to merge and many a slot to leave behind.
  for (int i = 0; i < 600; ++i) {
    const std::optional<Block> block = allocator.allocate(0);
    RC_ASSERT(block == model.allocate(0));
    if (block) taken.push_back(*block);
  }

  const int steps = *rc::gen::inRange(0, 1000);
  for (int step = 0; step < steps; ++step) {
    if (taken.empty() || *rc::gen::inRange(0, 2) == 0) {
      const unsigned order = any_order();
      const std::optional<Block> block = allocator.allocate(order);
      RC_ASSERT(block == model.allocate(order));
      if (block) taken.push_back(*block);
    } else {
      const Block block = any_part(take_any(taken), taken);
      allocator.free(block);
      model.free(block);
    }
  }
}

// Asks both for the head of every list, and rotates each once around.
void compare_lists(PageAllocator& allocator, ListModel& model) {
  for (std::size_t zone = 0; zone < allocator.zones().size(); ++zone) {
    for (unsigned order = 0; order <= kMaxOrder; ++order) {
      RC_ASSERT(allocator.free_blocks(zone, order) == model.list(zone, order).size());
      for (std::size_t i = 0; i < model.list(zone, order).size(); ++i) {
        RC_ASSERT(allocator.head_of_free_list(zone, order) == model.list(zone, order).back());
        allocator.rotate_free_list(zone, order);
        model.rotate(zone, order);
      }
    }
  }
}

RC_GTEST_PROP(PageAllocatorProperty, ReportingKeepsTheListsThatPlainListsWouldKeep, ()) {
  const PageRanges zones = any_zones();
  PageAllocator allocator(zones);
  ListModel model(zones);
  std::vector<Block> taken;
  std::vector<Block> isolated;
  for (int i = 0; i < 600; ++i) {
    const std::optional<Block> block = allocator.allocate(0);
    RC_ASSERT(block == model.allocate(0));
    if (block) taken.push_back(*block);
  }

  const int steps = *rc::gen::inRange(0, 1000);
  for (int step = 0; step < steps; ++step) {
    const auto zone = *rc::gen::inRange<std::size_t>(0, zones.size());
    const unsigned order = any_order();
    const int action = *rc::gen::inRange(0, 6);
    const bool empty = model.list(zone, order).empty();
    if (action == 0) {
      const std::optional<Block> block = allocator.allocate(order);
      RC_ASSERT(block == model.allocate(order));
      if (block) taken.push_back(*block);
    } else if (action <= 2 && !taken.empty()) {
      const Block block = any_part(take_any(taken), taken);
      allocator.free(block);
      model.free(block);
    } else if (action == 3 && !empty) {
      allocator.rotate_free_list(zone, order);
      model.rotate(zone, order);
    } else if (action == 4 && !empty) {
      isolated.push_back(allocator.isolate_free_block(zone, order));
      RC_ASSERT(isolated.back() == model.isolate(zone, order));
    } else if (action == 5 && !isolated.empty()) {
      const Block block = take_any(isolated);
      const bool reported = *rc::gen::arbitrary<bool>();
      allocator.put_back(block, reported);
      model.put_back(block, reported);
    }
  }
  compare_lists(allocator, model);
}

}  // namespace
}  // namespace vballoon::sim
