// SPDX-License-Identifier: MIT
#include "memory/mapping.h"

#include <fmt/format.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "memory/huge_pages.h"

namespace vballoon {
namespace {

std::string_view name_of(Backing backing) {
  switch (backing) {
    case Backing::kAnonymous:
      return "anonymous memory";
    case Backing::kMemfd:
      return "shared memory";
    case Backing::kHugetlb:
      return "2 MiB pages of the kernel's pool";
  }
  return "memory";
}

std::string describe(const RegionLayout& layout, Backing backing, std::string_view step) {
  return fmt::format("{} of {} at guest address {:#x}: {}", format_bytes(layout.bytes),
                     name_of(backing), layout.guest_address, step);
}

// The file behind a shared region, or -1 with errno set.
int open_file(std::uint64_t bytes, Backing backing) {
  const unsigned huge = backing == Backing::kHugetlb ? MFD_HUGETLB | MFD_HUGE_2MB : 0u;
  const int fd = ::memfd_create("vballoon-guest-memory", MFD_CLOEXEC | huge);
  if (fd < 0) return -1;
  if (::ftruncate(fd, static_cast<off_t>(bytes)) == 0) return fd;
  const int error = errno;
  ::close(fd);
  errno = error;
  return -1;
}

// Maps at an address that is a multiple of 2 MiB: takes more addresses than needed, maps over the
// aligned part of them and gives the rest back. MAP_FAILED with errno set when it cannot.
void* map_aligned(std::uint64_t bytes, int flags, int fd) {
  const std::uint64_t reserved = bytes + kHugePageBytes;
  void* const reservation =
      ::mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reservation == MAP_FAILED) return MAP_FAILED;

  auto* const begin = static_cast<std::byte*>(reservation);
  const std::uint64_t head = -reinterpret_cast<std::uintptr_t>(begin) % kHugePageBytes;
  void* const mapped =
      ::mmap(begin + head, bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
  if (mapped == MAP_FAILED) {
    const int error = errno;
    ::munmap(begin, reserved);
    errno = error;
    return MAP_FAILED;
  }
  if (head != 0) ::munmap(begin, head);
  ::munmap(begin + head + bytes, kHugePageBytes - head);
  return mapped;
}

// Shared memory has rules and a setting of its own.
bool may_have_huge_pages(const AllocateOptions& options) {
  if (options.backing != Backing::kAnonymous) return false;
  return options.thp == ThpMode::kOn ||
         (options.thp == ThpMode::kSystem && huge_pages_unless_refused());
}

// True unless huge pages were asked for and the kernel has none; refusing them never fails.
bool advise_thp(const MemoryRegion& region, ThpMode thp) {
  switch (thp) {
    case ThpMode::kSystem:
      return true;
    case ThpMode::kOn:
      return ::madvise(region.host, region.bytes, MADV_HUGEPAGE) == 0;
    case ThpMode::kOff:
      ::madvise(region.host, region.bytes, MADV_NOHUGEPAGE);
      return true;
  }
  return true;
}

}  // namespace

std::uint64_t host_page_bytes(Backing backing) {
  if (backing == Backing::kHugetlb) return kHugePageBytes;
  return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

Result<MemoryRegion> map_region(const RegionLayout& layout, const AllocateOptions& options) {
  const Backing backing = options.backing;
  MemoryRegion region{.guest_address = layout.guest_address,
                      .bytes = layout.bytes,
                      .shared = backing != Backing::kAnonymous,
                      .host_page_bytes = host_page_bytes(backing),
                      .huge_page_bytes = may_have_huge_pages(options) ? kHugePageBytes : 0};
  region.method = region.shared ? DiscardMethod::kRemove : DiscardMethod::kDontNeed;

  int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  if (region.shared) {
    region.fd = open_file(layout.bytes, backing);
    if (region.fd < 0) {
      const int error = errno;
      return fail(Errc::kMapFailed, describe(layout, backing, "cannot make the file"), error);
    }
    flags = MAP_SHARED;
  }
  // Without MAP_NORESERVE the kernel sets the huge pages of the pool aside here, or refuses;
  // otherwise too small a pool would be found out by a SIGBUS at the first touch.
  if (backing != Backing::kHugetlb) flags |= MAP_NORESERVE;

  void* const host = map_aligned(layout.bytes, flags, region.fd);
  if (host == MAP_FAILED) {
    const int error = errno;
    if (region.fd >= 0) ::close(region.fd);
    return fail(Errc::kMapFailed, describe(layout, backing, "cannot map"), error);
  }
  region.host = static_cast<std::byte*>(host);

  if (backing != Backing::kHugetlb && !advise_thp(region, options.thp)) {
    const int error = errno;
    unmap_region(region);
    return fail(Errc::kNotSupported, describe(layout, backing, "no transparent huge pages"), error);
  }
  return region;
}

void unmap_region(const MemoryRegion& region) noexcept {
  ::munmap(region.host, region.bytes);
  if (region.fd >= 0) ::close(region.fd);
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::pair<unsigned, std::string_view> kUnits[] = {
      {40, "TiB"}, {30, "GiB"}, {20, "MiB"}, {10, "KiB"}};
  for (const auto& [shift, unit] : kUnits) {
    const std::uint64_t count = bytes >> shift;
    if (count != 0 && count << shift == bytes) return fmt::format("{} {}", count, unit);
  }
  return fmt::format("{} bytes", bytes);
}

}  // namespace vballoon
