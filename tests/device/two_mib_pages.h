// SPDX-License-Identifier: MIT
// Guest memory that says of ordinary memory that the kernel takes it back in pages of 2 MiB only,
// or has huge pages behind it, so that tests of huge pages need none.
#ifndef VBALLOON_TESTS_DEVICE_TWO_MIB_PAGES_H_
#define VBALLOON_TESTS_DEVICE_TWO_MIB_PAGES_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "vballoon/guest_memory.h"

namespace vballoon::testing {

inline constexpr std::uint64_t kTwoMib = std::uint64_t{2} << 20;
inline constexpr std::uint64_t kPagesPerHugePage = kTwoMib >> kPageShift;

struct TestRegion {
  std::uint64_t guest_address = 0;
  std::uint64_t bytes = 0;
  std::uint64_t host_page_bytes = kTwoMib;
  std::uint64_t huge_page_bytes = 0;
};

inline std::shared_ptr<const GuestMemory> borrow_memory(const std::vector<TestRegion>& layout) {
  // Borrowed mappings must live as long as the memory that uses them.
  struct Borrowed {
    Borrowed() = default;
    Borrowed(const Borrowed&) = delete;
    Borrowed& operator=(const Borrowed&) = delete;
    ~Borrowed() {
      memory.reset();
      for (void* mapping : mappings) std::free(mapping);
    }
    std::vector<void*> mappings;
    std::shared_ptr<const GuestMemory> memory;
  };
  auto borrowed = std::make_shared<Borrowed>();
  std::vector<BorrowedRegion> regions;
  for (const TestRegion& part : layout) {
    void* const mapping = std::aligned_alloc(kTwoMib, part.bytes);
    if (mapping == nullptr) throw std::bad_alloc();
    borrowed->mappings.push_back(mapping);
    regions.push_back({.guest_address = part.guest_address,
                       .bytes = part.bytes,
                       .host = static_cast<std::byte*>(mapping),
                       .host_page_bytes = part.host_page_bytes,
                       .huge_page_bytes = part.huge_page_bytes});
  }
  borrowed->memory = GuestMemory::borrow(regions).value();
  return {borrowed, borrowed->memory.get()};
}

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_DEVICE_TWO_MIB_PAGES_H_
