// SPDX-License-Identifier: MIT
// Discarders for tests: one that only writes down what it is asked, one that can be held up.
// The object under test owns them; the test keeps a plain pointer. Safe for several threads.
#ifndef VBALLOON_TESTS_MEMORY_TEST_DISCARDERS_H_
#define VBALLOON_TESTS_MEMORY_TEST_DISCARDERS_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "base/page_ranges.h"
#include "vballoon/discarder.h"
#include "vballoon/guest_memory.h"

namespace vballoon::testing {

// Where a run lies in guest-physical memory.
[[nodiscard]] inline PageRange guest_pages(const HostRun& run) {
  const auto offset = static_cast<std::uint64_t>(run.address - run.region->host);
  return {(run.region->guest_address + offset) >> kPageShift, run.length >> kPageShift};
}

// Records runs and reports them as freed without calling the kernel.
class RecordingDiscarder final : public Discarder {
 public:
  void discard(std::span<const HostRun> runs, DiscardReport& report) override {
    const std::lock_guard lock(mutex_);
    ++calls_;
    for (const HostRun& run : runs) {
      runs_.push_back(run);
      ++report.calls;
      if (const int error = error_of(run); error != 0) {
        report.failures.push_back({run, error});
      } else {
        report.freed_bytes += run.length;
      }
    }
  }

  // From now on runs that hold this byte fail with this errno.
  void fail_at(const std::byte* address, int os_error) {
    const std::lock_guard lock(mutex_);
    failing_.emplace_back(address, os_error);
  }

  // Takes back all that fail_at() asked for.
  void heal() {
    const std::lock_guard lock(mutex_);
    failing_.clear();
  }

  // All runs so far, also those that failed, in the order in which they came.
  [[nodiscard]] std::vector<HostRun> runs() const {
    const std::lock_guard lock(mutex_);
    return runs_;
  }

  // The same as guest pages.
  [[nodiscard]] PageRanges pages() const {
    PageRanges pages;
    for (const HostRun& run : runs()) pages.push_back(guest_pages(run));
    return pages;
  }

  // How often discard() was called.
  [[nodiscard]] std::uint64_t calls() const {
    const std::lock_guard lock(mutex_);
    return calls_;
  }

  void forget() {
    const std::lock_guard lock(mutex_);
    runs_.clear();
    calls_ = 0;
  }

 private:
  [[nodiscard]] int error_of(const HostRun& run) const {
    for (const auto& [address, error] : failing_) {
      if (address >= run.address && address < run.address + run.length) return error;
    }
    return 0;
  }

  mutable std::mutex mutex_;
  std::vector<HostRun> runs_;
  std::uint64_t calls_ = 0;
  std::vector<std::pair<const std::byte*, int>> failing_;
};

// Forwards to another discarder; between block() and release() each discard() waits first.
class BlockingDiscarder final : public Discarder {
 public:
  explicit BlockingDiscarder(std::unique_ptr<Discarder> inner) : inner_(std::move(inner)) {}

  void discard(std::span<const HostRun> runs, DiscardReport& report) override {
    {
      std::unique_lock lock(mutex_);
      ++waiting_;
      changed_.notify_all();
      changed_.wait(lock, [this] { return !blocked_; });
      --waiting_;
    }
    inner_->discard(runs, report);
  }

  void block() {
    const std::lock_guard lock(mutex_);
    blocked_ = true;
  }

  // Lets those that wait, and those that come later, go on.
  void release() {
    const std::lock_guard lock(mutex_);
    blocked_ = false;
    changed_.notify_all();
  }

  // Returns when a discard() is in flight and held up. Requires block() before.
  void wait_until_blocked() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return blocked_ && waiting_ > 0; });
  }

 private:
  const std::unique_ptr<Discarder> inner_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool blocked_ = false;
  int waiting_ = 0;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_MEMORY_TEST_DISCARDERS_H_
