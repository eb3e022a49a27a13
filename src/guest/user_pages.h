// SPDX-License-Identifier: MIT
// What processes and files have in memory and in the swap. Knows no allocator: pages come and go by
// number.
#ifndef VBALLOON_SRC_GUEST_USER_PAGES_H_
#define VBALLOON_SRC_GUEST_USER_PAGES_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "guest/resident_pages.h"
#include "vballoon/guest_memory.h"
#include "vballoon/page_range.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::sim {

class UserPages {
 public:
  // With memory, pages are filled as they come.
  UserPages(std::shared_ptr<const GuestMemory> memory, std::uint64_t swap_pages)
      : memory_(std::move(memory)), free_swap_(swap_pages) {}

  [[nodiscard]] ProcessId start_process();
  [[nodiscard]] bool alive(ProcessId process) const;
  [[nodiscard]] std::uint64_t resident_pages(ProcessId process) const {
    return processes_[process].resident;
  }
  [[nodiscard]] PageList& huge_pages(ProcessId process) { return processes_[process].huge; }
  // The process that has most, swapped and huge pages too; nullopt when none has anything.
  [[nodiscard]] std::optional<ProcessId> largest_process() const;

  // Whether the page is in memory; it then counts as used, and as dirty if it was written to.
  [[nodiscard]] bool use(PageKind kind, std::uint32_t owner, std::uint32_t index, bool write);
  [[nodiscard]] bool is_swapped(ProcessId process, std::uint32_t index) const;
  // Gives a page that is not in memory the one with the number `page.pfn`.
  void map(const ResidentPage& page);
  [[nodiscard]] bool has(Pfn page) const {
    return page < slot_of_.size() && slot_of_[page] != kAbsent;
  }
  // Puts the content of one of these pages into another one and uses that instead.
  void move(Pfn from, Pfn to);
  // Takes pages of a process out of memory and swap; calls release() for those of memory.
  void unmap(ProcessId process, std::uint32_t first, std::uint32_t count,
             const std::function<void(Pfn)>& release);
  // All of them; the process is then no longer alive.
  void end(ProcessId process, const std::function<void(Pfn)>& release);

  // Looks at the oldest page of the kind, of which there is one, as reclaim does. Either takes it
  // out of memory, an anonymous one to the swap, or makes it the newest: when it was used since, or
  // when it has to be written first. Requires room in the swap for an anonymous one.
  [[nodiscard]] std::optional<Pfn> reclaim_oldest(PageKind kind);
  // Takes all pages of files out of memory that need not be written, used or not.
  void drop_clean_files(const std::function<void(Pfn)>& release);
  // Writes all dirty pages; returns how many.
  std::uint64_t write_dirty_pages();

  [[nodiscard]] std::uint64_t count(PageKind kind) const { return resident_.count(kind); }
  [[nodiscard]] std::uint64_t dirty_pages() const { return dirty_; }
  [[nodiscard]] std::uint64_t free_swap_pages() const { return free_swap_; }
  // Pages that do not hold what they were filled with.
  [[nodiscard]] std::uint64_t damaged_pages() const;

 private:
  using Slot = ResidentPages::Slot;
  // Where a page is: the slot of one in memory, or one of these.
  static constexpr Slot kAbsent = ResidentPages::kNone;
  static constexpr Slot kSwapped = kAbsent - 1;
  using AddressSpace = std::vector<Slot>;

  struct Process {
    AddressSpace pages;
    std::uint64_t resident = 0;
    std::uint64_t swapped = 0;
    PageList huge;
    bool alive = true;
  };

  [[nodiscard]] AddressSpace& space_of(PageKind kind, std::uint32_t owner) {
    return kind == PageKind::kFile ? files_[owner] : processes_[owner].pages;
  }
  Pfn forget(Slot slot);
  Pfn remove_file_page(Slot slot);
  [[nodiscard]] std::uint64_t damaged(PageKind kind) const;

  std::shared_ptr<const GuestMemory> memory_;
  std::uint64_t free_swap_;
  std::uint64_t dirty_ = 0;
  ResidentPages resident_;
  std::vector<Slot> slot_of_;       // by page number: kAbsent for what is none of these
  std::vector<Process> processes_;  // by ProcessId
  std::unordered_map<FileId, AddressSpace> files_;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_USER_PAGES_H_
