// SPDX-License-Identifier: MIT
#include "vballoon/guest_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <string>
#include <utility>

#include "memory/guest_bytes.h"
#include "memory/mapping.h"

namespace vballoon {
namespace {

// Below this no sum of an address, a length and an alignment can overflow.
constexpr std::uint64_t kAddressLimit = std::uint64_t{1} << 63;

constexpr std::uint64_t kMaxHugePageBytes = std::uint64_t{1} << 30;

std::string describe(std::uint64_t guest_address, std::uint64_t bytes, std::string_view problem) {
  return fmt::format("region of {} at guest address {:#x} {}", format_bytes(bytes), guest_address,
                     problem);
}

tl::unexpected<Error> invalid(std::uint64_t guest_address, std::uint64_t bytes,
                              std::string_view problem) {
  return fail(Errc::kInvalidArgument, describe(guest_address, bytes, problem));
}

// What must hold for a region wherever its memory comes from.
Result<void> check_layout(const RegionLayout& layout, std::uint64_t page_bytes) {
  const auto& [address, bytes] = layout;
  if (bytes == 0) return invalid(address, bytes, "is empty");
  if (address >= kAddressLimit || bytes > kAddressLimit - address) {
    return invalid(address, bytes, "ends beyond 2^63");
  }
  if (address % page_bytes != 0 || bytes % page_bytes != 0) {
    return invalid(address, bytes,
                   fmt::format("is not aligned to its pages of {}", format_bytes(page_bytes)));
  }
  return {};
}

DiscardMethod method_of(const BorrowedRegion& region) {
  return region.method.value_or(region.shared ? DiscardMethod::kRemove : DiscardMethod::kDontNeed);
}

Result<void> check_borrowed(const BorrowedRegion& region) {
  const std::uint64_t address = region.guest_address;
  const std::uint64_t page_bytes = region.host_page_bytes;
  if (!std::has_single_bit(page_bytes) || page_bytes < kPageSize) {
    return invalid(address, region.bytes, "has an impossible host page size");
  }
  const std::uint64_t huge_bytes = region.huge_page_bytes;
  if (huge_bytes != 0 && (!std::has_single_bit(huge_bytes) || huge_bytes <= page_bytes ||
                          huge_bytes > kMaxHugePageBytes || page_bytes != kPageSize)) {
    return invalid(address, region.bytes, "has an impossible size of transparent huge pages");
  }
  if (auto ok = check_layout({address, region.bytes}, page_bytes); !ok) return ok;
  if (region.host == nullptr) return invalid(address, region.bytes, "has no host address");
  if (reinterpret_cast<std::uintptr_t>(region.host) % page_bytes != 0 ||
      region.fd_offset % page_bytes != 0) {
    return invalid(address, region.bytes, "has a host address or offset inside a host page");
  }
  if (region.fd_offset >= kAddressLimit - region.bytes) {
    return invalid(address, region.bytes, "ends beyond what a file can hold");
  }
  const DiscardMethod method = method_of(region);
  if (method == DiscardMethod::kPunchHole && region.fd < 0) {
    return invalid(address, region.bytes, "has no file to punch holes into");
  }
  // The kernel would answer success, or an error for every page, and free nothing.
  if ((method == DiscardMethod::kDontNeed) == region.shared) {
    return invalid(address, region.bytes, "has a discard method that does not fit its mapping");
  }
  return {};
}

// Sorts, checks for overlap, and numbers the pages; returns how many there are.
Result<std::uint64_t> arrange(std::vector<MemoryRegion>& regions) {
  std::sort(regions.begin(), regions.end(), [](const MemoryRegion& a, const MemoryRegion& b) {
    return a.guest_address < b.guest_address;
  });
  std::uint64_t pages = 0;
  std::uint64_t end = 0;
  for (MemoryRegion& region : regions) {
    if (region.guest_address < end) {
      return invalid(region.guest_address, region.bytes, "overlaps the one below");
    }
    end = region.guest_address + region.bytes;
    region.first_page_index = pages;
    pages += region.pages().count;
  }
  return pages;
}

// How much of [address, ...) lies in the region that holds the address.
std::uint64_t bytes_from(const MemoryRegion& region, std::uint64_t address) {
  return region.bytes - (address - region.guest_address);
}

// Hands the host address, the offset and the length of each part of a guest range to `copy`;
// or none and returns false when part of the range lies outside guest memory.
template <typename Copy>
bool copy_parts(const GuestMemory& memory, std::uint64_t address, std::size_t length, Copy copy) {
  for (std::uint64_t checked = 0; checked < length;) {
    const MemoryRegion* region = memory.find(address + checked);
    if (region == nullptr) return false;
    checked += bytes_from(*region, address + checked);
  }
  for (std::uint64_t offset = 0; offset < length;) {
    const MemoryRegion& region = *memory.find(address + offset);
    const auto part = std::min(length - offset, bytes_from(region, address + offset));
    copy(region.host + (address + offset - region.guest_address), offset, part);
    offset += part;
  }
  return true;
}

}  // namespace

Result<std::shared_ptr<const GuestMemory>> GuestMemory::allocate(
    std::span<const RegionLayout> layout, const AllocateOptions& options) {
  std::vector<MemoryRegion> planned;
  planned.reserve(layout.size());
  for (const RegionLayout& part : layout) {
    if (const auto ok = check_layout(part, host_page_bytes(options.backing)); !ok) {
      return tl::unexpected(ok.error());
    }
    planned.push_back({.guest_address = part.guest_address, .bytes = part.bytes});
  }
  const Result<std::uint64_t> pages = arrange(planned);
  if (!pages) return tl::unexpected(pages.error());

  // When a mapping fails, the destructor gives back those that were made before.
  const std::shared_ptr<GuestMemory> memory(new GuestMemory);
  memory->owned_ = true;
  memory->page_count_ = *pages;
  memory->regions_.reserve(planned.size());
  for (const MemoryRegion& plan : planned) {
    Result<MemoryRegion> region = map_region({plan.guest_address, plan.bytes}, options);
    if (!region) return tl::unexpected(std::move(region.error()));
    region->first_page_index = plan.first_page_index;
    memory->regions_.push_back(*region);
  }
  return memory;
}

Result<std::shared_ptr<const GuestMemory>> GuestMemory::borrow(
    std::span<const BorrowedRegion> regions) {
  const std::shared_ptr<GuestMemory> memory(new GuestMemory);
  memory->regions_.reserve(regions.size());
  for (const BorrowedRegion& region : regions) {
    if (const auto ok = check_borrowed(region); !ok) return tl::unexpected(ok.error());
    memory->regions_.push_back({.guest_address = region.guest_address,
                                .bytes = region.bytes,
                                .host = static_cast<std::byte*>(region.host),
                                .fd = region.fd,
                                .fd_offset = region.fd_offset,
                                .shared = region.shared,
                                .host_page_bytes = region.host_page_bytes,
                                .huge_page_bytes = region.huge_page_bytes,
                                .method = method_of(region)});
  }
  const Result<std::uint64_t> pages = arrange(memory->regions_);
  if (!pages) return tl::unexpected(pages.error());
  memory->page_count_ = *pages;
  return memory;
}

GuestMemory::~GuestMemory() {
  if (!owned_) return;
  for (const MemoryRegion& region : regions_) unmap_region(region);
}

const MemoryRegion* GuestMemory::find(std::uint64_t guest_address) const {
  const MemoryRegion* region = find_or_next(guest_address >> kPageShift);
  return region != nullptr && region->guest_address <= guest_address ? region : nullptr;
}

const MemoryRegion* GuestMemory::find_or_next(Pfn pfn) const {
  if (regions_.empty()) return nullptr;
  const MemoryRegion& last = regions_[last_found_.load(std::memory_order_relaxed)];
  const PageRange pages = last.pages();
  if (pfn >= pages.first && pfn < pages.end()) return &last;

  const auto found = std::partition_point(
      regions_.begin(), regions_.end(),
      [pfn](const MemoryRegion& region) { return region.pages().end() <= pfn; });
  if (found == regions_.end()) return nullptr;
  last_found_.store(static_cast<std::uint32_t>(found - regions_.begin()),
                    std::memory_order_relaxed);
  return &*found;
}

std::byte* GuestMemory::host(std::uint64_t guest_address, std::uint64_t length) const {
  const MemoryRegion* region = find(guest_address);
  if (region == nullptr || length > bytes_from(*region, guest_address)) return nullptr;
  return region->host + (guest_address - region->guest_address);
}

std::uint64_t GuestMemory::translate(PageRange range, std::vector<HostRun>& out) const {
  // The range comes from the guest: its end need not fit in 64 bits.
  const Pfn end =
      range.first + std::min(range.count, std::numeric_limits<Pfn>::max() - range.first);
  const MemoryRegion* const regions_end = regions_.data() + regions_.size();
  std::uint64_t inside = 0;
  const MemoryRegion* region = find_or_next(range.first);
  for (; region != nullptr && region != regions_end; ++region) {
    const PageRange pages = region->pages();
    const Pfn first = std::max(range.first, pages.first);
    const Pfn past = std::min(end, pages.end());
    if (first >= past) break;
    out.push_back({.address = region->host + ((first - pages.first) << kPageShift),
                   .length = (past - first) << kPageShift,
                   .region = region});
    inside += past - first;
  }
  return inside;
}

bool GuestMemory::read(std::uint64_t guest_address, std::span<std::byte> out) const {
  return copy_parts(*this, guest_address, out.size(),
                    [out](const std::byte* host, std::size_t offset, std::size_t length) {
                      copy_guest_bytes(out.data() + offset, host, length);
                    });
}

bool GuestMemory::write(std::uint64_t guest_address, std::span<const std::byte> in) const {
  return copy_parts(*this, guest_address, in.size(),
                    [in](std::byte* host, std::size_t offset, std::size_t length) {
                      copy_guest_bytes(host, in.data() + offset, length);
                    });
}

}  // namespace vballoon
