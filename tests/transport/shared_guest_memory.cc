// SPDX-License-Identifier: MIT
#include "transport/shared_guest_memory.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stdexcept>

namespace vballoon::testing {
namespace {

constexpr std::uint64_t kMark = 0xBA11'0000'0000'0000;

}  // namespace

SharedGuestMemory::SharedGuestMemory() : file_(memfd_create("guest", MFD_CLOEXEC)) {
  if (ftruncate(file_.get(), kFileBytes) != 0) throw std::runtime_error("no memory file");
  void* const at = mmap(nullptr, kFileBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
  if (at == MAP_FAILED) throw std::runtime_error("no mapping");
  mapping_ = static_cast<std::byte*>(at);
  std::vector<BorrowedRegion> borrowed;
  for (const SharedRegion& region : regions()) {
    borrowed.push_back({.guest_address = region.guest,
                        .bytes = region.bytes,
                        .host = mapping_ + region.offset,
                        .shared = true});
  }
  guest_ = GuestMemory::borrow(borrowed).value();
}

SharedGuestMemory::~SharedGuestMemory() { munmap(mapping_, kFileBytes); }

std::uint64_t SharedGuestMemory::user_address(std::uint64_t guest_address) {
  for (const SharedRegion& region : regions()) {
    if (guest_address >= region.guest && guest_address - region.guest < region.bytes) {
      return region.user + (guest_address - region.guest);
    }
  }
  throw std::out_of_range("no guest memory there");
}

std::uint64_t& SharedGuestMemory::first_word(Pfn pfn) const {
  return *reinterpret_cast<std::uint64_t*>(guest_->host(pfn << kPageShift, kPageSize));
}

void SharedGuestMemory::fill() {
  for (const MemoryRegion& region : guest_->regions()) {
    for (Pfn pfn = region.pages().first; pfn < region.pages().end(); ++pfn) {
      first_word(pfn) = kMark | pfn;
    }
  }
}

std::uint64_t SharedGuestMemory::resident_bytes() const {
  struct stat file {};
  if (fstat(file_.get(), &file) != 0) throw std::runtime_error("fstat");
  return static_cast<std::uint64_t>(file.st_blocks) * 512;
}

bool SharedGuestMemory::has_its_number(Pfn pfn) const { return first_word(pfn) == (kMark | pfn); }
bool SharedGuestMemory::is_zero(Pfn pfn) const { return first_word(pfn) == 0; }

}  // namespace vballoon::testing
