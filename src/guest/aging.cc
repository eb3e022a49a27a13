// SPDX-License-Identifier: MIT
#include "vballoon/sim/aging.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>

namespace vballoon::sim {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014). The distributions of the standard library differ from one
// implementation to the next, so they could not keep the promise of the same memory.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  // A number in [0, limit).
  std::uint64_t below(std::uint32_t limit) { return ((next() >> 32) * limit) >> 32; }

 private:
  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

  std::uint64_t state_;
};

// What part of the memory is asked for in blocks of each order, in percent: mostly small blocks,
// and some large ones that leave large holes when they go.
constexpr std::array<std::uint32_t, kMaxOrder + 1> kMemoryShare{22, 15, 13, 9,  4, 4,
                                                                4,  4,  5,  12, 8};
static_assert(std::accumulate(kMemoryShare.begin(), kMemoryShare.end(), 0u) == 100);

constexpr std::uint32_t weight(unsigned order) {
  return kMemoryShare[order] << (kMaxOrder - order);
}
constexpr std::uint32_t total_weight() {
  std::uint32_t sum = 0;
  for (unsigned order = 0; order <= kMaxOrder; ++order) sum += weight(order);
  return sum;
}

unsigned random_order(Random& random, unsigned largest) {
  std::uint64_t left = random.below(total_weight());
  unsigned order = 0;
  while (left >= weight(order)) left -= weight(order++);
  return std::min(order, largest);
}

// Takes a smaller block where memory is too fragmented. Requires a free page.
Block allocate_at_most(PageAllocator& allocator, unsigned order) {
  std::optional<Block> block = allocator.allocate(order);
  while (!block) block = allocator.allocate(--order);
  return *block;
}

void free_until(PageAllocator& allocator, PageList& list, std::uint64_t free_pages) {
  while (allocator.free_pages() < free_pages && !list.empty()) {
    allocator.free(*allocator.pop(list));
  }
}

PageList take_every_other_page(PageAllocator& allocator) {
  PageList all;
  while (const std::optional<Block> page = allocator.allocate(0)) allocator.push(all, *page);
  PageList taken;
  while (const std::optional<Block> page = allocator.pop(all)) {
    if (page->first % 2 == 0) {
      allocator.push(taken, *page);
    } else {
      allocator.free(*page);
    }
  }
  return taken;
}

// Lets the guest live for some ticks: at each, the blocks whose time has come are freed, and new
// ones of random order and lifetime fill the memory up again. In the end the blocks that have the
// least time left go, until half of the memory is free. What dies at the same tick is on one list,
// so that the allocator's own memory is enough.
PageList live(PageAllocator& allocator, std::uint64_t seed) {
  constexpr std::uint32_t kLongestLife = 32;
  const std::uint64_t all = allocator.free_pages();
  // In a small guest a few blocks of the largest order would decide the outcome.
  const auto largest = static_cast<unsigned>(std::bit_width(all / 64 | 1)) - 1;
  Random random(seed);
  std::array<PageList, kLongestLife> dying{};
  for (std::uint32_t tick = 0; tick < kLongestLife; ++tick) {
    free_until(allocator, dying[tick], all);
    while (allocator.free_pages() > all / 16) {
      const std::uint64_t death = tick + 1 + random.below(kLongestLife - 1);
      allocator.push(dying[death % kLongestLife],
                     allocate_at_most(allocator, random_order(random, largest)));
    }
  }

  PageList taken;
  for (PageList& list : dying) {
    free_until(allocator, list, all / 2);
    while (const std::optional<Block> block = allocator.pop(list)) allocator.push(taken, *block);
  }
  return taken;
}

}  // namespace

std::string_view to_string(GuestAge age) noexcept {
  switch (age) {
    case GuestAge::kIdle:
      return "idle";
    case GuestAge::kFragmented:
      return "fragmented";
    case GuestAge::kAged:
      return "aged";
  }
  return "unknown";
}

std::optional<GuestAge> parse_guest_age(std::string_view text) noexcept {
  for (const GuestAge age : {GuestAge::kIdle, GuestAge::kFragmented, GuestAge::kAged}) {
    if (text == to_string(age)) return age;
  }
  return std::nullopt;
}

PageList age_guest(PageAllocator& allocator, GuestAge age, std::uint64_t seed) {
  switch (age) {
    case GuestAge::kFragmented:
      return take_every_other_page(allocator);
    case GuestAge::kAged:
      return live(allocator, seed);
    case GuestAge::kIdle:
      break;
  }
  return {};
}

}  // namespace vballoon::sim
