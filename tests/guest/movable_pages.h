// SPDX-License-Identifier: MIT
// Pages that a compactor may move.
#ifndef VBALLOON_TESTS_GUEST_MOVABLE_PAGES_H_
#define VBALLOON_TESTS_GUEST_MOVABLE_PAGES_H_

#include <set>
#include <utility>
#include <vector>

#include "vballoon/page_range.h"
#include "vballoon/sim/compactor.h"

namespace vballoon::testing {

// Owns pages by number; all others cannot be moved.
class MovablePages final : public sim::PageMover {
 public:
  bool move(Pfn from, Pfn to) override {
    const auto found = pages.find(from);
    if (found == pages.end()) return false;
    pages.erase(found);
    pages.insert(to);
    moves.emplace_back(from, to);
    return true;
  }

  std::set<Pfn> pages;
  std::vector<std::pair<Pfn, Pfn>> moves;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_GUEST_MOVABLE_PAGES_H_
