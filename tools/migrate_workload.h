// SPDX-License-Identifier: MIT
// What goes on in a guest while it is migrated: seeded, and never twice the same value in a page.
#ifndef VBALLOON_TOOLS_MIGRATE_WORKLOAD_H_
#define VBALLOON_TOOLS_MIGRATE_WORKLOAD_H_

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "vballoon/guest_memory.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::tool {

// Gives all words of a page one value, of which no byte is 0.
void write_page(const GuestMemory& memory, Pfn pfn, std::uint64_t value);

class GuestWorkload {
 public:
  // Both must outlive this; the kernel fills the memory of its processes and files.
  GuestWorkload(std::shared_ptr<const GuestMemory> memory, sim::PageAllocator& allocator,
                sim::GuestKernel& kernel, std::uint64_t seed);

  // Takes that many pages, in turn for page cache (half of them, an eighth of that dirty), for a
  // process that gets and frees memory, and for one that writes. False when the guest has fewer.
  [[nodiscard]] bool fill(std::uint64_t pages);

  // Does one thing at random; returns how many pages it wrote.
  std::uint64_t work();

 private:
  [[nodiscard]] std::uint32_t random_piece(std::uint32_t pieces);
  std::uint64_t rewrite();
  void get_or_free();
  void use_file(bool write);

  const std::shared_ptr<const GuestMemory> memory_;
  sim::PageAllocator& allocator_;
  sim::GuestKernel& kernel_;
  std::mt19937_64 random_;
  std::uint64_t next_value_ = 1;
  std::vector<Pfn> written_;       // pages of the process that writes
  sim::ProcessId process_;         // the one that gets and frees
  std::vector<bool> process_has_;  // by piece; every other one at first
  std::uint32_t file_pieces_ = 0;  // in the page cache at first
};

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_MIGRATE_WORKLOAD_H_
