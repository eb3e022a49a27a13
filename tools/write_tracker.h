// SPDX-License-Identifier: MIT
// Tells which pages of a guest were written, whoever wrote them, while it runs.
#ifndef VBALLOON_TOOLS_WRITE_TRACKER_H_
#define VBALLOON_TOOLS_WRITE_TRACKER_H_

#include <memory>
#include <string>

#include "base/page_set.h"
#include "vballoon/guest_memory.h"
#include "vballoon/result.h"

namespace vballoon::tool {

class WriteTracker {
 public:
  virtual ~WriteTracker() = default;  // watches no more

  // Adds the pages that were written since the last harvest, or since tracking began, to `written`,
  // by dense index; more may be named than were. A page that is written while this goes on is named
  // now or by the next harvest. A page that was given back to the kernel and then written counts as
  // written.
  [[nodiscard]] virtual Result<void> harvest(PageSet& written) = 0;

  // What the figures of a migration should say about it.
  [[nodiscard]] virtual std::string name() const = 0;
};

// Each begins to watch the memory, which is private and has small pages.

// The kernel logs: userfaultfd with asynchronous write protection, read by PAGEMAP_SCAN
// (Linux 6.7). Fails with kNotSupported where there is no such thing, or none for this user.
[[nodiscard]] Result<std::unique_ptr<WriteTracker>> make_userfaultfd_tracker(
    std::shared_ptr<const GuestMemory> memory);

// A log in software: memory is protected piece by piece, and a handler of SIGSEGV notes who was
// written and opens it. A kernel allows some 65000 mappings, so the pieces of a large guest are
// larger than pages. One at a time; takes SIGSEGV for as long as it lives, and no system call can
// write into the memory. Fails with kNotSupported when the kernel refuses.
[[nodiscard]] Result<std::unique_ptr<WriteTracker>> make_protection_tracker(
    std::shared_ptr<const GuestMemory> memory);

// The first of these that can be had.
[[nodiscard]] Result<std::unique_ptr<WriteTracker>> make_write_tracker(
    std::shared_ptr<const GuestMemory> memory);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_WRITE_TRACKER_H_
