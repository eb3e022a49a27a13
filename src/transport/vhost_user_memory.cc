// SPDX-License-Identifier: MIT
#include "transport/vhost_user_memory.h"

#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace vballoon::vhost_user {
namespace {

// The device keeps 2 bits for each page: 64 MiB of books for that much.
constexpr std::uint64_t kMaxMemoryBytes = std::uint64_t{1} << 40;

Result<void> refuse(const RegionDescription& region, const char* why) {
  return fail(Errc::kInvalidArgument, fmt::format("memory region of {} bytes at {:#x} {}",
                                                  region.bytes, region.guest_address, why));
}

bool overlap(std::uint64_t a, std::uint64_t b, const RegionDescription& one,
             const RegionDescription& other) {
  return a < b + other.bytes && b < a + one.bytes;
}

// The pages of the file, which the kernel gives out and takes back as a whole.
Result<std::uint64_t> page_bytes_of(const UniqueFd& fd, const RegionDescription& region) {
  struct stat file {};
  struct statfs system {};
  if (fstat(fd.get(), &file) != 0 || !S_ISREG(file.st_mode) || fstatfs(fd.get(), &system) != 0) {
    return tl::unexpected(refuse(region, "comes with something that is no file").error());
  }
  const auto file_bytes = static_cast<std::uint64_t>(file.st_size);
  // Behind the end of a file a touch kills.
  if (region.fd_offset > file_bytes || region.bytes > file_bytes - region.fd_offset) {
    return tl::unexpected(refuse(region, "ends behind its file").error());
  }
  return system.f_type == HUGETLBFS_MAGIC ? static_cast<std::uint64_t>(system.f_bsize) : kPageSize;
}

}  // namespace

struct MemoryTable::Mapping {
  Mapping(std::byte* host_in, std::uint64_t bytes_in, std::uint64_t page_bytes_in)
      : host(host_in), bytes(bytes_in), page_bytes(page_bytes_in) {}
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { munmap(host, bytes); }

  std::byte* const host;
  const std::uint64_t bytes;
  const std::uint64_t page_bytes;
};

Result<void> MemoryTable::add(const RegionDescription& region, const UniqueFd& fd) {
  if (slots_.size() == kMaxMemorySlots) return refuse(region, "is one too many");
  if (region.bytes == 0 || region.bytes > kMaxMemoryBytes) {
    return refuse(region, "is empty or larger than 1 TiB");
  }
  const auto page_bytes = page_bytes_of(fd, region);
  if (!page_bytes) return tl::unexpected(page_bytes.error());
  if ((region.bytes | region.guest_address | region.user_address | region.fd_offset) %
          *page_bytes !=
      0) {
    return refuse(region, "is not aligned to its pages");
  }
  if (region.guest_address + region.bytes < region.bytes ||
      region.user_address + region.bytes < region.bytes) {
    return refuse(region, "wraps around");
  }
  std::uint64_t total = region.bytes;
  for (const Slot& slot : slots_) {
    total += slot.region.bytes;
    if (overlap(region.guest_address, slot.region.guest_address, region, slot.region) ||
        overlap(region.user_address, slot.region.user_address, region, slot.region)) {
      return refuse(region, "overlaps another");
    }
  }
  if (total > kMaxMemoryBytes) return refuse(region, "makes more than 1 TiB with the others");
  void* const at = mmap(nullptr, region.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                        fd.get(), static_cast<off_t>(region.fd_offset));
  if (at == MAP_FAILED) {
    return fail(Errc::kMapFailed, fmt::format("{} bytes of a front end's file", region.bytes),
                errno);
  }
  slots_.push_back(
      {region, std::make_shared<Mapping>(static_cast<std::byte*>(at), region.bytes, *page_bytes)});
  return {};
}

Result<void> MemoryTable::remove(const RegionDescription& region) {
  const auto found = std::ranges::find_if(slots_, [&](const Slot& slot) {
    return slot.region.guest_address == region.guest_address &&
           slot.region.user_address == region.user_address && slot.region.bytes == region.bytes;
  });
  if (found == slots_.end()) return refuse(region, "is not there to be removed");
  slots_.erase(found);
  return {};
}

Result<std::shared_ptr<const GuestMemory>> MemoryTable::guest_memory() const {
  std::vector<BorrowedRegion> regions;
  for (const Slot& slot : slots_) {
    regions.push_back({.guest_address = slot.region.guest_address,
                       .bytes = slot.region.bytes,
                       .host = slot.mapping->host,
                       .shared = true,
                       .host_page_bytes = slot.mapping->page_bytes});
  }
  auto memory = GuestMemory::borrow(regions);
  if (!memory) return memory;
  struct Kept {
    std::vector<Slot> slots;
    std::shared_ptr<const GuestMemory> memory;
  };
  auto kept = std::make_shared<Kept>(Kept{slots_, std::move(*memory)});
  return std::shared_ptr<const GuestMemory>(kept, kept->memory.get());
}

std::optional<std::uint64_t> MemoryTable::guest_address(std::uint64_t user_address) const {
  for (const auto& [region, mapping] : slots_) {
    if (user_address >= region.user_address && user_address - region.user_address < region.bytes) {
      return region.guest_address + (user_address - region.user_address);
    }
  }
  return std::nullopt;
}

}  // namespace vballoon::vhost_user
