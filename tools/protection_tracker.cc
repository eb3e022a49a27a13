// SPDX-License-Identifier: MIT
// Write tracking without help of a new kernel (write_tracker.h).
#include <fmt/format.h>
#include <sys/mman.h>

#include <atomic>
#include <bit>
#include <cerrno>
#include <csignal>
#include <utility>
#include <vector>

#include "sizes.h"
#include "write_tracker.h"

namespace vballoon::tool {
namespace {

// Pieces that can all be open or closed for themselves; half of the mappings of a process.
constexpr std::uint64_t kMostPieces = 32768;

class ProtectionTracker final : public WriteTracker {
 public:
  explicit ProtectionTracker(std::shared_ptr<const GuestMemory> memory)
      : memory_(std::move(memory)),
        piece_pages_(std::bit_ceil((memory_->page_count() + kMostPieces - 1) / kMostPieces)) {
    for (const MemoryRegion& region : memory_->regions()) {
      const std::uint64_t pages = region.pages().count;
      watched_.push_back(
          {&region, std::vector<std::atomic<bool>>((pages + piece_pages_ - 1) / piece_pages_)});
    }
  }
  ~ProtectionTracker() override;
  ProtectionTracker(const ProtectionTracker&) = delete;
  ProtectionTracker& operator=(const ProtectionTracker&) = delete;

  [[nodiscard]] Result<void> begin();
  Result<void> harvest(PageSet& written) override;
  std::string name() const override {
    return fmt::format("page protection, in pieces of {}", format_bytes(piece_pages_ * kPageSize));
  }

 private:
  struct Watched {
    const MemoryRegion* region;
    std::vector<std::atomic<bool>> written;  // by piece
  };

  static void on_fault(int signal, siginfo_t* info, void* context);
  [[nodiscard]] bool open(const void* address);
  [[nodiscard]] bool protect(const MemoryRegion& region, PageRange pages, int protection) const;
  [[nodiscard]] PageRange pages_of(const MemoryRegion& region, std::size_t piece) const;

  static std::atomic<ProtectionTracker*> in_use_;

  const std::shared_ptr<const GuestMemory> memory_;
  const std::uint64_t piece_pages_;
  std::vector<Watched> watched_;
  struct sigaction former_ {};
};

std::atomic<ProtectionTracker*> ProtectionTracker::in_use_{nullptr};

// Pages of a region, counted from its first.
PageRange ProtectionTracker::pages_of(const MemoryRegion& region, std::size_t piece) const {
  const std::uint64_t first = piece * piece_pages_;
  return {first, std::min(piece_pages_, region.pages().count - first)};
}

bool ProtectionTracker::protect(const MemoryRegion& region, PageRange pages, int protection) const {
  return ::mprotect(region.host + (pages.first << kPageShift), pages.bytes(), protection) == 0;
}

Result<void> ProtectionTracker::begin() {
  ProtectionTracker* none = nullptr;
  if (!in_use_.compare_exchange_strong(none, this)) {
    return fail(Errc::kNotSupported, "a second tracker of writes by page protection");
  }
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigaction(SIGSEGV, &action, &former_);
  for (const Watched& watched : watched_) {
    if (!protect(*watched.region, {0, watched.region->pages().count}, PROT_READ)) {
      return fail(Errc::kNotSupported, "protecting guest memory", errno);
    }
  }
  return {};
}

ProtectionTracker::~ProtectionTracker() {
  if (in_use_ != this) return;
  for (const Watched& watched : watched_) {
    static_cast<void>(
        protect(*watched.region, {0, watched.region->pages().count}, PROT_READ | PROT_WRITE));
  }
  ::sigaction(SIGSEGV, &former_, nullptr);
  in_use_ = nullptr;
}

void ProtectionTracker::on_fault(int signal, siginfo_t* info, void*) {
  const int error = errno;
  ProtectionTracker* const tracker = in_use_;
  // What is no write to guest memory faults again, for whoever was there before.
  if (tracker == nullptr) {
    ::signal(signal, SIG_DFL);
  } else if (!tracker->open(info->si_addr)) {
    ::sigaction(signal, &tracker->former_, nullptr);
  }
  errno = error;
}

// Opened before it is noted: a harvest in between leaves the piece open and the next one finds it.
// The other way round it would close the piece, and this would open it without a note.
bool ProtectionTracker::open(const void* address) {
  const auto* const at = static_cast<const std::byte*>(address);
  for (Watched& watched : watched_) {
    const MemoryRegion& region = *watched.region;
    if (at < region.host || at >= region.host + region.bytes) continue;
    const std::size_t piece =
        (static_cast<std::uint64_t>(at - region.host) >> kPageShift) / piece_pages_;
    if (!protect(region, pages_of(region, piece), PROT_READ | PROT_WRITE)) return false;
    watched.written[piece] = true;
    return true;
  }
  return false;
}

Result<void> ProtectionTracker::harvest(PageSet& written) {
  for (Watched& watched : watched_) {
    const MemoryRegion& region = *watched.region;
    for (std::size_t piece = 0; piece < watched.written.size(); ++piece) {
      if (!watched.written[piece].exchange(false)) continue;
      const PageRange pages = pages_of(region, piece);
      if (!protect(region, pages, PROT_READ)) {
        return fail(Errc::kNotSupported, "protecting guest memory", errno);
      }
      written.add(PageRange{region.first_page_index + pages.first, pages.count});
    }
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<WriteTracker>> make_protection_tracker(
    std::shared_ptr<const GuestMemory> memory) {
  auto tracker = std::make_unique<ProtectionTracker>(std::move(memory));
  if (auto begun = tracker->begin(); !begun) return tl::unexpected(begun.error());
  return tracker;
}

}  // namespace vballoon::tool
