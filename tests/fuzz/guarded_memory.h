// SPDX-License-Identifier: MIT
// Guest memory between pages that nobody may touch: a step over the edge of a region is a crash,
// not a look at whatever lies there.
#ifndef VBALLOON_TESTS_FUZZ_GUARDED_MEMORY_H_
#define VBALLOON_TESTS_FUZZ_GUARDED_MEMORY_H_

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "vballoon/guest_memory.h"

namespace vballoon::fuzz {

struct GuardedRegion {
  std::uint64_t guest_address = 0;
  std::uint64_t bytes = 0;
  std::uint64_t host_page_bytes = kPageSize;  // pretended: the mapping has pages of 4 KiB
  std::uint64_t huge_page_bytes = 0;          // pretended as well
};

// Never unmapped: made once, for all inputs.
inline std::shared_ptr<const GuestMemory> make_guarded_memory(
    std::initializer_list<GuardedRegion> regions) {
  constexpr std::uint64_t kGuardBytes = std::uint64_t{64} << 10;
  std::vector<BorrowedRegion> borrowed;
  for (const GuardedRegion& region : regions) {
    check(region.host_page_bytes <= kGuardBytes, "a guard is not smaller than a host page");
    const std::uint64_t reserved = region.bytes + 3 * kGuardBytes;
    void* const begin =
        ::mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(begin != MAP_FAILED, "there is memory for a fuzz target");
    const auto misaligned = reinterpret_cast<std::uintptr_t>(begin) % kGuardBytes;
    auto* const host = static_cast<std::byte*>(begin) + (2 * kGuardBytes - misaligned);
    check(::mprotect(host, region.bytes, PROT_READ | PROT_WRITE) == 0, "memory can be used");
    // A discard of one page must not meet a huge page of the kernel's.
    ::madvise(host, region.bytes, MADV_NOHUGEPAGE);
    borrowed.push_back({.guest_address = region.guest_address,
                        .bytes = region.bytes,
                        .host = host,
                        .host_page_bytes = region.host_page_bytes,
                        .huge_page_bytes = region.huge_page_bytes});
  }
  auto memory = GuestMemory::borrow(borrowed);
  check(memory.has_value(), "the regions make a guest memory");
  return *memory;
}

}  // namespace vballoon::fuzz

#endif  // VBALLOON_TESTS_FUZZ_GUARDED_MEMORY_H_
