// SPDX-License-Identifier: MIT
// The pages of processes and files that are in memory, in the order in which reclaim meets them.
#ifndef VBALLOON_SRC_GUEST_RESIDENT_PAGES_H_
#define VBALLOON_SRC_GUEST_RESIDENT_PAGES_H_

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "vballoon/page_range.h"

namespace vballoon::sim {

enum class PageKind : std::uint8_t { kAnonymous, kFile };

struct ResidentPage {
  Pfn pfn = 0;
  std::uint32_t owner = 0;  // the process or the file
  std::uint32_t index = 0;  // of the page in its owner
  PageKind kind = PageKind::kFile;
  bool dirty = false;       // must be written before it can be dropped
  bool referenced = false;  // used since it came or since reclaim looked at it last
};

// Two lists, one a kind, over one table of slots. A slot stays the same for as long as its page is
// resident.
class ResidentPages {
 public:
  using Slot = std::uint32_t;
  static constexpr Slot kNone = UINT32_MAX;

  // Adds a page as the newest of its kind.
  Slot add(const ResidentPage& page) {
    if (unused_ == kNone) {
      assert(entries_.size() < kNone - 1);
      unused_ = static_cast<Slot>(entries_.size());
      entries_.emplace_back();
    }
    const Slot slot = unused_;
    unused_ = entries_[slot].newer;
    entries_[slot].page = page;
    link(slot);
    return slot;
  }
  void remove(Slot slot) {
    unlink(slot);
    entries_[slot].newer = unused_;
    unused_ = slot;
  }
  void make_newest(Slot slot) {
    unlink(slot);
    link(slot);
  }

  [[nodiscard]] ResidentPage& operator[](Slot slot) { return entries_[slot].page; }
  [[nodiscard]] const ResidentPage& operator[](Slot slot) const { return entries_[slot].page; }
  // kNone when there is none.
  [[nodiscard]] Slot oldest(PageKind kind) const { return list(kind).oldest; }
  [[nodiscard]] Slot newer(Slot slot) const { return entries_[slot].newer; }
  [[nodiscard]] std::uint64_t count(PageKind kind) const { return list(kind).count; }

 private:
  struct Entry {
    ResidentPage page;
    Slot older = kNone;
    Slot newer = kNone;  // of an unused entry, the next unused one
  };
  struct List {
    Slot oldest = kNone;
    Slot newest = kNone;
    std::uint64_t count = 0;
  };

  [[nodiscard]] List& list(PageKind kind) { return lists_[static_cast<std::size_t>(kind)]; }
  [[nodiscard]] const List& list(PageKind kind) const {
    return lists_[static_cast<std::size_t>(kind)];
  }
  void link(Slot slot) {
    Entry& entry = entries_[slot];
    List& list = this->list(entry.page.kind);
    entry.older = list.newest;
    entry.newer = kNone;
    (list.newest == kNone ? list.oldest : entries_[list.newest].newer) = slot;
    list.newest = slot;
    ++list.count;
  }
  void unlink(Slot slot) {
    const Entry& entry = entries_[slot];
    List& list = this->list(entry.page.kind);
    (entry.older == kNone ? list.oldest : entries_[entry.older].newer) = entry.newer;
    (entry.newer == kNone ? list.newest : entries_[entry.newer].older) = entry.older;
    --list.count;
  }

  std::vector<Entry> entries_;
  Slot unused_ = kNone;  // the first of the unused entries
  std::array<List, 2> lists_;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_RESIDENT_PAGES_H_
