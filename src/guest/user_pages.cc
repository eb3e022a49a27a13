// SPDX-License-Identifier: MIT
#include "guest/user_pages.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

#include "guest/page_contents.h"

namespace vballoon::sim {
namespace {

// What a page is filled with; never the zero of a page that the host has taken.
std::uint64_t contents_of(const ResidentPage& page) {
  const std::uint64_t kind = page.kind == PageKind::kFile ? 1 : 0;
  const std::uint64_t name =
      std::uint64_t{page.owner} << 33 | std::uint64_t{page.index} << 1 | kind;
  return (name + 1) * 0x9e3779b97f4a7c15;  // odd, so different pages have different words
}

}  // namespace

ProcessId UserPages::start_process() {
  processes_.emplace_back();
  return static_cast<ProcessId>(processes_.size() - 1);
}

bool UserPages::alive(ProcessId process) const {
  return process < processes_.size() && processes_[process].alive;
}

std::optional<ProcessId> UserPages::largest_process() const {
  std::optional<ProcessId> largest;
  std::uint64_t most = 0;
  for (ProcessId id = 0; id < processes_.size(); ++id) {
    const Process& process = processes_[id];
    const std::uint64_t pages = process.resident + process.swapped + process.huge.pages;
    if (pages <= most) continue;
    largest = id;
    most = pages;
  }
  return largest;
}

bool UserPages::use(PageKind kind, std::uint32_t owner, std::uint32_t index, bool write) {
  const AddressSpace& space = space_of(kind, owner);
  if (index >= space.size() || space[index] == kAbsent || space[index] == kSwapped) return false;
  ResidentPage& page = resident_[space[index]];
  page.referenced = true;
  if (write && !page.dirty) {
    page.dirty = true;
    ++dirty_;
  }
  return true;
}

bool UserPages::is_swapped(ProcessId process, std::uint32_t index) const {
  const AddressSpace& pages = processes_[process].pages;
  return index < pages.size() && pages[index] == kSwapped;
}

void UserPages::map(const ResidentPage& page) {
  AddressSpace& space = space_of(page.kind, page.owner);
  if (page.index >= space.size()) space.resize(std::size_t{page.index} + 1, kAbsent);
  Slot& where = space[page.index];
  assert(where == kAbsent || where == kSwapped);
  if (page.kind == PageKind::kAnonymous) {
    Process& process = processes_[page.owner];
    ++process.resident;
    if (where == kSwapped) {
      --process.swapped;
      ++free_swap_;
    }
  }
  where = resident_.add(page);
  if (page.pfn >= slot_of_.size()) slot_of_.resize(page.pfn + 1, kAbsent);
  slot_of_[page.pfn] = where;
  if (page.dirty) ++dirty_;
  if (memory_) fill_page(*memory_, page.pfn, contents_of(page));
}

void UserPages::move(Pfn from, Pfn to) {
  const Slot slot = slot_of_[from];
  if (to >= slot_of_.size()) slot_of_.resize(to + 1, kAbsent);
  slot_of_[from] = kAbsent;
  slot_of_[to] = slot;
  resident_[slot].pfn = to;
  if (memory_) {
    std::memcpy(memory_->host(to << kPageShift, kPageSize),
                memory_->host(from << kPageShift, kPageSize), kPageSize);
  }
}

void UserPages::unmap(ProcessId id, std::uint32_t first, std::uint32_t count,
                      const std::function<void(Pfn)>& release) {
  Process& process = processes_[id];
  const std::size_t end = std::min(process.pages.size(), std::size_t{first} + count);
  for (std::size_t index = first; index < end; ++index) {
    const Slot where = std::exchange(process.pages[index], kAbsent);
    if (where == kAbsent) continue;
    if (where == kSwapped) {
      --process.swapped;
      ++free_swap_;
      continue;
    }
    const Pfn pfn = resident_[where].pfn;
    slot_of_[pfn] = kAbsent;
    --process.resident;
    resident_.remove(where);
    release(pfn);
  }
}

void UserPages::end(ProcessId id, const std::function<void(Pfn)>& release) {
  Process& process = processes_[id];
  unmap(id, 0, static_cast<std::uint32_t>(process.pages.size()), release);
  process.pages = {};
  process.alive = false;
}

std::optional<Pfn> UserPages::reclaim_oldest(PageKind kind) {
  const Slot slot = resident_.oldest(kind);
  ResidentPage& page = resident_[slot];
  if (page.referenced || page.dirty) {
    if (page.dirty) --dirty_;
    page.dirty = false;
    page.referenced = false;
    resident_.make_newest(slot);
    return std::nullopt;
  }
  if (kind == PageKind::kFile) return remove_file_page(slot);
  assert(free_swap_ > 0);
  Process& process = processes_[page.owner];
  --process.resident;
  ++process.swapped;
  --free_swap_;
  process.pages[page.index] = kSwapped;
  return forget(slot);
}

// Its owner has been told.
Pfn UserPages::forget(Slot slot) {
  const Pfn pfn = resident_[slot].pfn;
  slot_of_[pfn] = kAbsent;
  resident_.remove(slot);
  return pfn;
}

Pfn UserPages::remove_file_page(Slot slot) {
  const ResidentPage& page = resident_[slot];
  files_[page.owner][page.index] = kAbsent;
  return forget(slot);
}

void UserPages::drop_clean_files(const std::function<void(Pfn)>& release) {
  for (Slot slot = resident_.oldest(PageKind::kFile); slot != kAbsent;) {
    const Slot newer = resident_.newer(slot);
    if (!resident_[slot].dirty) release(remove_file_page(slot));
    slot = newer;
  }
}

std::uint64_t UserPages::write_dirty_pages() {
  for (Slot slot = resident_.oldest(PageKind::kFile); slot != kAbsent;
       slot = resident_.newer(slot)) {
    resident_[slot].dirty = false;
  }
  return std::exchange(dirty_, 0);
}

std::uint64_t UserPages::damaged_pages() const {
  if (!memory_) return 0;
  return damaged(PageKind::kAnonymous) + damaged(PageKind::kFile);
}

std::uint64_t UserPages::damaged(PageKind kind) const {
  std::uint64_t pages = 0;
  for (Slot slot = resident_.oldest(kind); slot != kAbsent; slot = resident_.newer(slot)) {
    const ResidentPage& page = resident_[slot];
    if (!page_holds(*memory_, page.pfn, contents_of(page))) ++pages;
  }
  return pages;
}

}  // namespace vballoon::sim
