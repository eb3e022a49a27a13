// SPDX-License-Identifier: MIT
// Guest-physical memory: regions with holes between them, mapped into this process.  room: memory
//
// A GuestMemory is an immutable snapshot that its users share (std::shared_ptr). For another layout
// make another one, and give it to those users (BalloonDevice::set_memory()). All const members may
// be called from any thread. What the memory holds belongs to the guest: it may be hostile and may
// change between two reads, so copy once and check the copy.
#ifndef VBALLOON_GUEST_MEMORY_H_
#define VBALLOON_GUEST_MEMORY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "vballoon/export.h"
#include "vballoon/page_range.h"
#include "vballoon/result.h"

namespace vballoon {

// What an owned mapping is made of.
enum class Backing : std::uint8_t {
  kAnonymous,  // private anonymous memory
  kMemfd,      // shared memory file
  // Shared memory file of 2 MiB pages from the kernel's pool. What is given back can be taken by
  // another process: a touch that finds the pool empty is a SIGBUS, also when the device reads a
  // ring or a message there.
  kHugetlb,
};

// Transparent huge pages in an owned mapping: as the system has them, asked for, or refused.
enum class ThpMode : std::uint8_t { kSystem, kOn, kOff };

// How the kernel is asked to take memory of a region back.
enum class DiscardMethod : std::uint8_t {
  kDontNeed,   // MADV_DONTNEED: private mappings
  kRemove,     // MADV_REMOVE: shared mappings; frees the file's memory and tells userfaultfd
  kPunchHole,  // fallocate(PUNCH_HOLE) on the region's file
};

// Where a region lies in guest-physical memory; both values are multiples of 4 KiB (2 MiB with
// Backing::kHugetlb).
struct RegionLayout {
  std::uint64_t guest_address = 0;
  std::uint64_t bytes = 0;
};

struct AllocateOptions {
  Backing backing = Backing::kAnonymous;
  ThpMode thp = ThpMode::kSystem;  // without meaning for kHugetlb
};

// A mapping that the embedder made and keeps for as long as the GuestMemory lives. Where the kernel
// may be unable to fill it again (hugetlb, a full tmpfs), see Backing::kHugetlb.
struct BorrowedRegion {
  std::uint64_t guest_address = 0;
  std::uint64_t bytes = 0;
  void* host = nullptr;         // as mmap() gives it
  int fd = -1;                  // file behind the mapping, or -1; stays the embedder's
  std::uint64_t fd_offset = 0;  // bytes into the file at which the mapping begins
  bool shared = false;          // MAP_SHARED
  std::uint64_t host_page_bytes = kPageSize;  // granule in which the kernel can take it back
  // Size of the transparent huge pages that may lie behind it; 0: there are none. A power of two up
  // to 1 GiB; they begin at its multiples in this process. 0 with other host pages than 4 KiB.
  std::uint64_t huge_page_bytes = 0;
  // Unset: kDontNeed for private mappings, kRemove for shared ones. kDontNeed needs a private
  // mapping, kRemove a shared one, kPunchHole a shared one with its fd.
  std::optional<DiscardMethod> method = std::nullopt;
};

// One contiguous piece of guest memory.
struct MemoryRegion {
  std::uint64_t guest_address = 0;
  std::uint64_t bytes = 0;
  std::byte* host = nullptr;
  int fd = -1;
  std::uint64_t fd_offset = 0;
  bool shared = false;
  std::uint64_t host_page_bytes = kPageSize;
  std::uint64_t huge_page_bytes = 0;  // of transparent huge pages; 0: none
  DiscardMethod method = DiscardMethod::kDontNeed;
  std::uint64_t first_page_index = 0;  // pages in all regions below: index of a dense page table

  [[nodiscard]] PageRange pages() const {
    return {guest_address >> kPageShift, bytes >> kPageShift};
  }
};

// Contiguous memory of this process that belongs to one region.
struct HostRun {
  std::byte* address = nullptr;
  std::size_t length = 0;  // bytes
  const MemoryRegion* region = nullptr;

  friend bool operator==(const HostRun&, const HostRun&) = default;
};

class VBALLOON_EXPORT GuestMemory {
 public:
  // Maps memory of its own; `layout` in any order, without overlap. The mappings of one call lie
  // one behind the other in this process only by chance. Fails with kInvalidArgument, with
  // kMapFailed when the kernel refuses (too few huge pages, too little memory), or with
  // kNotSupported when ThpMode::kOn meets a kernel without transparent huge pages.
  [[nodiscard]] static Result<std::shared_ptr<const GuestMemory>> allocate(
      std::span<const RegionLayout> layout, const AllocateOptions& options = {});

  // Uses the embedder's mappings. Fails with kInvalidArgument when regions overlap, are not
  // aligned to their host page size, or have a discard method that does not fit their mapping.
  [[nodiscard]] static Result<std::shared_ptr<const GuestMemory>> borrow(
      std::span<const BorrowedRegion> regions);

  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;
  ~GuestMemory();

  // Ascending by guest address.
  [[nodiscard]] std::span<const MemoryRegion> regions() const { return regions_; }
  [[nodiscard]] std::uint64_t page_count() const { return page_count_; }
  [[nodiscard]] std::uint64_t bytes() const { return page_count_ << kPageShift; }

  // The region that holds the address, or nullptr. O(log regions), O(1) for the one found last.
  [[nodiscard]] const MemoryRegion* find(std::uint64_t guest_address) const;

  // The region that holds the page, or else the first one above it, or nullptr.
  [[nodiscard]] const MemoryRegion* find_or_next(Pfn pfn) const;

  // [guest_address, + length) in this process, or nullptr unless one region holds all of it.
  [[nodiscard]] std::byte* host(std::uint64_t guest_address, std::uint64_t length) const;

  // Appends the host runs of a range, cut at region bounds, ascending; returns how many of its
  // pages lie in guest memory. Does not allocate when `out` has room.
  std::uint64_t translate(PageRange range, std::vector<HostRun>& out) const;

  // Copies out of, or into, guest memory; the bytes may lie in several regions without a hole
  // between them. Returns false, having copied nothing, when part of them lies outside.
  [[nodiscard]] bool read(std::uint64_t guest_address, std::span<std::byte> out) const;
  [[nodiscard]] bool write(std::uint64_t guest_address, std::span<const std::byte> in) const;

 private:
  GuestMemory() = default;

  std::vector<MemoryRegion> regions_;  // sorted by guest_address
  std::uint64_t page_count_ = 0;
  bool owned_ = false;
  mutable std::atomic<std::uint32_t> last_found_{0};  // index into regions_: only a hint
};

}  // namespace vballoon

#endif  // VBALLOON_GUEST_MEMORY_H_
