// SPDX-License-Identifier: MIT
#include "oracle.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "sizes.h"

namespace vballoon::tool {
namespace {

// Where in a page its value stands: behind the word that a busy virtual processor writes.
constexpr std::uint64_t kValueOffset = 8;
constexpr std::uint64_t kPagesPerTick = 16384;

Result<std::uint64_t> resident_in(const MemoryRegion& region) {
  if (region.shared) {
    struct stat status {};
    if (::fstat(region.fd, &status) != 0) {
      return fail(Errc::kNotSupported, "fstat of guest memory", errno);
    }
    return static_cast<std::uint64_t>(status.st_blocks) * 512;
  }
  std::vector<unsigned char> pages(region.bytes >> kPageShift);
  if (::mincore(region.host, region.bytes, pages.data()) != 0) {
    return fail(Errc::kNotSupported, "mincore of guest memory", errno);
  }
  const auto resident = std::ranges::count_if(pages, [](unsigned char p) { return (p & 1) != 0; });
  return static_cast<std::uint64_t>(resident) << kPageShift;
}

volatile std::uint64_t* value_in(const MemoryRegion& region, std::uint64_t page) {
  return reinterpret_cast<volatile std::uint64_t*>(region.host + (page << kPageShift) +
                                                   kValueOffset);
}

}  // namespace

Result<std::uint64_t> resident_bytes(const GuestMemory& memory) {
  std::uint64_t bytes = 0;
  for (const MemoryRegion& region : memory.regions()) {
    auto resident = resident_in(region);
    if (!resident) return resident;
    bytes += *resident;
  }
  return bytes;
}

PageSet free_pages_of(const sim::PageAllocator& allocator) {
  PageSet free(allocator.zones().back().end());
  for (const PageRange& zone : allocator.zones()) {
    for (Pfn pfn = zone.first; pfn < zone.end(); ++pfn) {
      if (allocator.is_free(pfn)) free.add(pfn);
    }
  }
  return free;
}

Oracle::Oracle(std::shared_ptr<const GuestMemory> memory, std::uint64_t seed)
    : memory_(std::move(memory)),
      seed_(seed),
      unknown_(memory_->page_count()),
      ballooned_(memory_->page_count()) {}

// Never zero, which is what a page holds that was given back.
std::uint64_t Oracle::value_of(Pfn pfn) const {
  return (((origin_of(pfn) + 1) * 0x9E3779B97F4A7C15U) ^ (seed_ << 1)) | 1;
}

Pfn Oracle::origin_of(Pfn pfn) const {
  const auto origin = origins_.find(pfn);
  return origin == origins_.end() ? pfn : origin->second;
}

// A page that was left keeps what it held, until it is used again.
void Oracle::pages_moved(std::span<const MovedPage> moves) {
  for (const auto& [from, to] : moves) origins_[to] = origin_of(from);
}

bool Oracle::go_on(const Tick& tick, std::uint64_t dense) const {
  return dense % kPagesPerTick != 0 ||
         tick(static_cast<double>(dense) / static_cast<double>(memory_->page_count()));
}

bool Oracle::mark_all(const Tick& tick) {
  for (const MemoryRegion& region : memory_->regions()) {
    const PageRange pages = region.pages();
    for (std::uint64_t i = 0; i < pages.count; ++i) {
      *value_in(region, i) = value_of(pages.first + i);
      if (!go_on(tick, region.first_page_index + i)) return false;
    }
  }
  return true;
}

void Oracle::except_driver_pages(const PageSet& free_before, const sim::PageAllocator& allocator) {
  for (const MemoryRegion& region : memory_->regions()) {
    const PageRange pages = region.pages();
    for (Pfn pfn = pages.first; pfn < pages.end(); ++pfn) {
      if (pfn < free_before.size() && free_before.contains(pfn) && !allocator.is_free(pfn)) {
        unknown_.add(region.first_page_index + (pfn - pages.first));
      }
    }
  }
}

Result<void> Oracle::before_inflate() {
  const auto resident = resident_bytes(*memory_);
  if (!resident) return tl::unexpected(resident.error());
  resident_before_ = *resident;
  return {};
}

std::string Oracle::after_inflate(const sim::BalloonDriver& driver, const sim::ResizeReport& report,
                                  const Tick& tick) {
  // Residency first: looking at a page that was given back brings one in.
  const auto resident = resident_bytes(*memory_);
  if (!resident) return resident.error().message();
  const std::uint64_t shrunk = resident_before_ - std::min(resident_before_, *resident);
  const BalloonMetrics& device = report.device;
  if (shrunk != device.freed_bytes) {
    return fmt::format("the device says it freed {} bytes, resident memory shrank by {}",
                       device.freed_bytes, shrunk);
  }
  const std::uint64_t named = report.pages << kPageShift;
  const std::uint64_t told = device.freed_bytes + device.owed_bytes + device.forgone_bytes;
  if (told != named) {
    return fmt::format("freed, owed and forgone come to {} bytes, {} were inflated", told, named);
  }
  driver.for_each_block([&](sim::Block block) {
    const MemoryRegion* region = memory_->find(block.first << kPageShift);
    ballooned_.add(
        {region->first_page_index + (block.first - region->pages().first), block.pages().count});
  });
  return find_changed_page(tick);
}

std::string Oracle::after_deflate(const sim::Machine& machine, const Tick& tick) {
  if (machine.device().ballooned_pages() != 0) {
    return fmt::format("{} pages are still booked as ballooned after a full deflation",
                       machine.device().ballooned_pages());
  }
  for (const MemoryRegion& region : memory_->regions()) {
    const PageRange pages = region.pages();
    for (std::uint64_t i = 0; i < pages.count; ++i) {
      const std::uint64_t dense = region.first_page_index + i;
      if (!go_on([&](double done) { return tick(done / 2); }, dense)) return {};
      if (ballooned_.contains(dense)) *value_in(region, i) = value_of(pages.first + i);
    }
  }
  ballooned_.clear();
  return find_changed_page([&](double done) { return tick((1 + done) / 2); });
}

std::string Oracle::find_changed_page(const Tick& tick) const {
  for (const MemoryRegion& region : memory_->regions()) {
    const PageRange pages = region.pages();
    for (std::uint64_t i = 0; i < pages.count; ++i) {
      const std::uint64_t dense = region.first_page_index + i;
      if (!go_on(tick, dense)) return {};
      if (ballooned_.contains(dense) || unknown_.contains(dense)) continue;
      if (*value_in(region, i) != value_of(pages.first + i)) {
        return fmt::format("page {:#x} lost its contents outside the balloon", pages.first + i);
      }
    }
  }
  return {};
}

}  // namespace vballoon::tool
