// SPDX-License-Identifier: MIT
#include "vballoon/discarder.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cassert>
#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace vballoon {
namespace {

constexpr std::size_t kMaxPieces = 1024;  // UIO_MAXIOV: what the kernel takes in one call
// The kernel silently cuts a call at 2 GiB less one page, which would split a huge page.
constexpr std::size_t kMaxCallBytes = std::size_t{1} << 30;
constexpr int kMaxTries = 8;  // of one piece, while the kernel says "try again"

// This process, as process_madvise wants it named. A child that forked off still holds the
// parent's: the kernel then refuses the call, and every piece goes the way of a failed one.
class OwnPidfd {
 public:
  OwnPidfd() : fd_(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0))) {}
  OwnPidfd(const OwnPidfd&) = delete;
  OwnPidfd& operator=(const OwnPidfd&) = delete;
  ~OwnPidfd() {
    if (fd_ >= 0) ::close(fd_);
  }

  // Bytes of the leading pieces that the kernel took, or -1 with errno set when it took none.
  [[nodiscard]] ssize_t advise(std::span<const iovec> pieces, int advice) const {
    return ::syscall(SYS_process_madvise, fd_, pieces.data(), pieces.size(), advice, 0);
  }

 private:
  int fd_;
};

int advice_of(DiscardMethod method) {
  assert(method != DiscardMethod::kPunchHole);
  return method == DiscardMethod::kRemove ? MADV_REMOVE : MADV_DONTNEED;
}

int call_kernel(const HostRun& run) {
  const MemoryRegion& region = *run.region;
  if (region.method != DiscardMethod::kPunchHole) {
    return ::madvise(run.address, run.length, advice_of(region.method));
  }
  const auto offset = region.fd_offset + static_cast<std::uint64_t>(run.address - region.host);
  return ::fallocate(region.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                     static_cast<off_t>(offset), static_cast<off_t>(run.length));
}

// One call, or a few while the kernel says "try again"; returns its errno, or 0.
int try_piece(const HostRun& run, DiscardReport& report) {
  int error = 0;
  for (int tries = 0; tries < kMaxTries; ++tries) {
    ++report.calls;
    if (call_kernel(run) == 0) {
      report.freed_bytes += run.length;
      return 0;
    }
    error = errno;
    if (error != EINTR && error != EAGAIN) break;
  }
  return error;
}

// Neighbours that failed for the same reason are one failure: there can be one for each page.
void add_failure(const HostRun& run, int error, DiscardReport& report) {
  if (!report.failures.empty()) {
    DiscardFailure& last = report.failures.back();
    if (last.os_error == error && last.run.region == run.region &&
        last.run.address + last.run.length == run.address) {
      last.run.length += run.length;
      return;
    }
  }
  report.failures.push_back({run, error});
}

// One piece; true when all of it is freed. The kernel stops at the first page that it cannot take
// and may have taken what lies before it, so a refused piece is tried again in halves: no page
// keeps the others, and what is reported is what happened.
bool discard_piece(const HostRun& run, DiscardReport& report) {
  const int error = try_piece(run, report);
  if (error == 0) return true;
  const std::size_t pages = run.length / run.region->host_page_bytes;
  // A file refuses its holes as a whole.
  if (pages <= 1 || run.region->method == DiscardMethod::kPunchHole) {
    add_failure(run, error, report);
    return false;
  }
  const std::size_t half = pages / 2 * run.region->host_page_bytes;
  const bool lower = discard_piece({run.address, half, run.region}, report);
  const bool upper = discard_piece({run.address + half, run.length - half, run.region}, report);
  return lower && upper;
}

void discard_merged(std::span<const HostRun> runs, DiscardReport& report) {
  for (const HostRun& run : runs) discard_piece(run, report);
}

void discard_per_page(std::span<const HostRun> runs, DiscardReport& report) {
  for (const HostRun& run : runs) {
    const std::size_t page_bytes = run.region->host_page_bytes;
    for (std::size_t done = 0; done < run.length; done += page_bytes) {
      discard_piece({run.address + done, page_bytes, run.region}, report);
    }
  }
}

// How many of the leading runs can share one call.
std::size_t count_of_one_call(std::span<const HostRun> runs) {
  const DiscardMethod method = runs.front().region->method;
  if (method == DiscardMethod::kPunchHole) return 1;
  std::size_t count = 1;
  std::size_t bytes = runs.front().length;
  while (count < runs.size() && count < kMaxPieces) {
    const HostRun& next = runs[count];
    bytes += next.length;
    if (next.region->method != method || bytes > kMaxCallBytes) break;
    ++count;
  }
  return count;
}

// Counts the leading pieces that lie wholly within `taken` bytes as freed.
std::size_t count_freed(std::span<const iovec> pieces, std::size_t taken, DiscardReport& report) {
  std::size_t count = 0;
  while (count < pieces.size() && pieces[count].iov_len <= taken) {
    taken -= pieces[count].iov_len;
    report.freed_bytes += pieces[count].iov_len;
    ++count;
  }
  return count;
}

// Runs with one advice. The kernel stops at the first piece that it cannot take, so that one is
// tried alone to learn why, and the call goes on behind it.
void discard_together(const OwnPidfd& self, std::span<const HostRun> runs, DiscardReport& report) {
  assert(runs.size() <= kMaxPieces);
  std::array<iovec, kMaxPieces> pieces;
  for (std::size_t i = 0; i < runs.size(); ++i) pieces[i] = {runs[i].address, runs[i].length};

  std::size_t done = 0;
  while (runs.size() - done > 1) {
    const std::span<const iovec> rest(&pieces[done], runs.size() - done);
    const ssize_t taken = self.advise(rest, advice_of(runs.front().region->method));
    ++report.calls;
    if (taken > 0) done += count_freed(rest, static_cast<std::size_t>(taken), report);
    if (done == runs.size()) return;
    const bool freed = discard_piece(runs[done++], report);
    // It was the call that the kernel refused, not the piece: no use in asking that way again.
    if (taken <= 0 && freed) break;
  }
  discard_merged(runs.subspan(done), report);
}

void discard_vectored(const OwnPidfd& self, std::span<const HostRun> runs, DiscardReport& report) {
  while (!runs.empty()) {
    const std::size_t count = count_of_one_call(runs);
    if (count == 1) {
      discard_piece(runs.front(), report);
    } else {
      discard_together(self, runs.first(count), report);
    }
    runs = runs.subspan(count);
  }
}

class KernelDiscarder final : public Discarder {
 public:
  explicit KernelDiscarder(DiscardStrategy strategy) : strategy_(strategy) {
    if (strategy == DiscardStrategy::kVectored) self_.emplace();
  }

  void discard(std::span<const HostRun> runs, DiscardReport& report) override {
    switch (strategy_) {
      case DiscardStrategy::kPerPage:
        return discard_per_page(runs, report);
      case DiscardStrategy::kMerged:
        return discard_merged(runs, report);
      case DiscardStrategy::kVectored:
        return discard_vectored(*self_, runs, report);
    }
  }

 private:
  const DiscardStrategy strategy_;
  std::optional<OwnPidfd> self_;  // for kVectored
};

// Looks at the memory and not only at the return value.
bool probe_vectored_discard() {
  const auto page_bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* const mapped =
      ::mmap(nullptr, 2 * page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return false;
  auto* const bytes = static_cast<volatile unsigned char*>(mapped);
  bytes[0] = 1;
  bytes[page_bytes] = 1;

  const std::array<iovec, 2> pieces{
      {{static_cast<std::byte*>(mapped) + page_bytes, page_bytes}, {mapped, page_bytes}}};
  const ssize_t taken = OwnPidfd().advise(pieces, MADV_DONTNEED);
  const bool happened =
      taken == static_cast<ssize_t>(2 * page_bytes) && bytes[0] == 0 && bytes[page_bytes] == 0;
  ::munmap(mapped, 2 * page_bytes);
  return happened;
}

}  // namespace

std::string_view to_string(DiscardStrategy strategy) noexcept {
  switch (strategy) {
    case DiscardStrategy::kPerPage:
      return "per-page";
    case DiscardStrategy::kMerged:
      return "merged";
    case DiscardStrategy::kVectored:
      return "vectored";
  }
  return "unknown";
}

std::optional<DiscardStrategy> parse_discard_strategy(std::string_view text) noexcept {
  for (const DiscardStrategy strategy :
       {DiscardStrategy::kPerPage, DiscardStrategy::kMerged, DiscardStrategy::kVectored}) {
    if (text == to_string(strategy)) return strategy;
  }
  return std::nullopt;
}

std::unique_ptr<Discarder> make_kernel_discarder(const KernelDiscarderOptions& options) {
  DiscardStrategy strategy = options.strategy;
  if (strategy == DiscardStrategy::kVectored &&
      (options.without_vectored_call || !vectored_discard_available())) {
    strategy = DiscardStrategy::kMerged;
  }
  return std::make_unique<KernelDiscarder>(strategy);
}

bool vectored_discard_available() {
  static const bool available = probe_vectored_discard();
  return available;
}

}  // namespace vballoon
