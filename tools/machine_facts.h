// SPDX-License-Identifier: MIT
// What this machine is and has: figures without it mean little.
#ifndef VBALLOON_TOOLS_MACHINE_FACTS_H_
#define VBALLOON_TOOLS_MACHINE_FACTS_H_

#include <cstdint>
#include <string>

#include "sizes.h"

namespace vballoon::tool {

inline constexpr std::uint64_t kHugePageBytes = 2 * kMiB;

struct MachineFacts {
  std::string kernel;       // "Linux 6.18.44"
  std::string processor;    // model name
  unsigned processors = 0;  // online
  std::uint64_t memory_bytes = 0;
  std::uint64_t available_bytes = 0;   // without swapping
  std::string transparent_huge_pages;  // "always", "madvise", "never"
  std::uint64_t huge_pages_free = 0;   // in the kernel's pool of 2 MiB pages
  std::uint64_t huge_pages_total = 0;
  bool vectored_discard = false;
  bool healing = false;  // of huge pages that were split
};

[[nodiscard]] MachineFacts read_machine_facts();

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_MACHINE_FACTS_H_
