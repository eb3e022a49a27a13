// SPDX-License-Identifier: MIT
#include "memory/huge_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <fstream>
#include <optional>
#include <string>

#include "vballoon/discarder.h"

namespace vballoon {
namespace {

constexpr int kMadvCollapse = 25;  // MADV_COLLAPSE, which old headers do not have

// Two huge pages' worth of addresses, of which one is aligned like a huge page.
class Probe {
 public:
  Probe() : mapped_(::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, kFlags, -1, 0)) {
    if (!mapped()) return;
    const std::uintptr_t misaligned = reinterpret_cast<std::uintptr_t>(mapped_) % kHugePageBytes;
    page_ = static_cast<std::byte*>(mapped_) + (kHugePageBytes - misaligned) % kHugePageBytes;
  }
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;
  ~Probe() {
    if (mapped()) ::munmap(mapped_, kBytes);
  }

  [[nodiscard]] bool mapped() const { return mapped_ != MAP_FAILED; }
  void advise(std::size_t bytes, int advice) { ::madvise(page_, bytes, advice); }
  void touch() { *static_cast<volatile std::byte*>(page_) = std::byte{1}; }
  // Only the first page was touched: it takes a huge page to have all of them here.
  [[nodiscard]] bool huge() const {
    std::array<unsigned char, kHugePageBytes / kPageSize> here{};
    if (::mincore(page_, kHugePageBytes, here.data()) != 0) return false;
    return std::ranges::all_of(here, [](unsigned char page) { return (page & 1) != 0; });
  }

 private:
  static constexpr std::size_t kBytes = 2 * kHugePageBytes;
  static constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* mapped_;
  std::byte* page_ = nullptr;
};

// Unknown while the kernel has no huge page to give.
std::optional<bool> probe_healing() {
  Probe probe;
  if (!probe.mapped()) return std::nullopt;
  // One small page, whose page table stays behind when it goes alone.
  probe.advise(kHugePageBytes, MADV_NOHUGEPAGE);
  probe.touch();
  probe.advise(kPageSize, MADV_DONTNEED);
  probe.advise(kHugePageBytes, MADV_HUGEPAGE);
  probe.advise(kHugePageBytes, MADV_DONTNEED);
  probe.touch();
  if (probe.huge()) return true;
  Probe fresh;
  if (!fresh.mapped()) return std::nullopt;
  fresh.advise(kHugePageBytes, MADV_HUGEPAGE);
  fresh.touch();
  return fresh.huge() ? std::optional(false) : std::nullopt;
}

}  // namespace

bool huge_pages_unless_refused() {
  std::ifstream setting("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string words;
  return std::getline(setting, words) && words.find("[always]") != std::string::npos;
}

bool collapse(const HostRun& run) { return ::madvise(run.address, run.length, kMadvCollapse) == 0; }

bool healing_available() {
  enum : std::uint8_t { kUnknown, kNo, kYes };
  static std::atomic<std::uint8_t> known{kUnknown};
  if (known == kUnknown) {
    if (const auto heals = probe_healing()) known = *heals ? kYes : kNo;
  }
  return known == kYes;
}

}  // namespace vballoon
