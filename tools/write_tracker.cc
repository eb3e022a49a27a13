// SPDX-License-Identifier: MIT
#include "write_tracker.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <span>
#include <utility>

#include "pagemap_scan.h"

namespace vballoon::tool {
namespace {

// Features that the headers of Debian 12 do not have: protection of pages that are not there, and
// writes that open a page by themselves.
constexpr std::uint64_t kUnpopulated = 1 << 13;
constexpr std::uint64_t kAsync = 1 << 15;

class UserfaultfdTracker final : public WriteTracker {
 public:
  explicit UserfaultfdTracker(std::shared_ptr<const GuestMemory> memory)
      : memory_(std::move(memory)) {}
  ~UserfaultfdTracker() override {
    if (faults_ >= 0) ::close(faults_);
    if (pagemap_ >= 0) ::close(pagemap_);
  }
  UserfaultfdTracker(const UserfaultfdTracker&) = delete;
  UserfaultfdTracker& operator=(const UserfaultfdTracker&) = delete;

  [[nodiscard]] Result<void> begin();
  Result<void> harvest(PageSet& written) override;
  std::string name() const override { return "userfaultfd"; }

 private:
  [[nodiscard]] Result<void> protect(const MemoryRegion& region) const;

  const std::shared_ptr<const GuestMemory> memory_;
  int faults_ = -1;
  int pagemap_ = -1;
};

Result<void> UserfaultfdTracker::begin() {
  faults_ = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY));
  if (faults_ < 0) return fail(Errc::kNotSupported, "userfaultfd", errno);
  pagemap_ = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (pagemap_ < 0) return fail(Errc::kNotSupported, "/proc/self/pagemap", errno);
  uffdio_api api{.api = UFFD_API,
                 .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | kUnpopulated | kAsync,
                 .ioctls = 0};
  if (::ioctl(faults_, UFFDIO_API, &api) != 0) {
    return fail(Errc::kNotSupported, "asynchronous write protection", errno);
  }
  for (const MemoryRegion& region : memory_->regions()) {
    if (auto protected_now = protect(region); !protected_now) return protected_now;
  }
  PageSet none(memory_->page_count());
  return harvest(none);  // finds out whether PAGEMAP_SCAN is there
}

Result<void> UserfaultfdTracker::protect(const MemoryRegion& region) const {
  const uffdio_range range{.start = address_of(region.host), .len = region.bytes};
  uffdio_register watched{.range = range, .mode = UFFDIO_REGISTER_MODE_WP, .ioctls = 0};
  if (::ioctl(faults_, UFFDIO_REGISTER, &watched) != 0) {
    return fail(Errc::kNotSupported, "watching guest memory by userfaultfd", errno);
  }
  uffdio_writeprotect protection{.range = range, .mode = UFFDIO_WRITEPROTECT_MODE_WP};
  if (::ioctl(faults_, UFFDIO_WRITEPROTECT, &protection) != 0) {
    return fail(Errc::kNotSupported, "protecting guest memory by userfaultfd", errno);
  }
  return {};
}

Result<void> UserfaultfdTracker::harvest(PageSet& written) {
  std::array<ScannedRange, 1024> ranges;
  for (const MemoryRegion& region : memory_->regions()) {
    const std::uint64_t base = address_of(region.host);
    ScanRequest scan{.size = sizeof(ScanRequest),
                     .flags = kScanProtectMatching | kScanCheckAsync,
                     .start = base,
                     .end = base + region.bytes,
                     .ranges = reinterpret_cast<std::uintptr_t>(ranges.data()),
                     .ranges_room = ranges.size(),
                     .category_mask = kPageIsWritten,
                     .return_mask = kPageIsWritten};
    while (scan.start < scan.end) {
      const int found = ::ioctl(pagemap_, kPagemapScan, &scan);
      if (found < 0) return fail(Errc::kNotSupported, "PAGEMAP_SCAN of guest memory", errno);
      for (const ScannedRange& range : std::span(ranges).first(static_cast<std::size_t>(found))) {
        written.add(PageRange{region.first_page_index + ((range.start - base) >> kPageShift),
                              (range.end - range.start) >> kPageShift});
      }
      scan.start = scan.walk_end;
    }
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<WriteTracker>> make_userfaultfd_tracker(
    std::shared_ptr<const GuestMemory> memory) {
  auto tracker = std::make_unique<UserfaultfdTracker>(std::move(memory));
  if (auto begun = tracker->begin(); !begun) return tl::unexpected(begun.error());
  return tracker;
}

Result<std::unique_ptr<WriteTracker>> make_write_tracker(
    std::shared_ptr<const GuestMemory> memory) {
  auto tracker = make_userfaultfd_tracker(memory);
  return tracker ? std::move(tracker) : make_protection_tracker(std::move(memory));
}

}  // namespace vballoon::tool
