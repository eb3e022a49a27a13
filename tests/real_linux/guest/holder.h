// SPDX-License-Identifier: MIT
// A process that fills memory with a pattern and keeps checking it.
#ifndef VBALLOON_TESTS_REAL_LINUX_GUEST_HOLDER_H_
#define VBALLOON_TESTS_REAL_LINUX_GUEST_HOLDER_H_

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace vballoon::guest {

class Holder {
 public:
  Holder();
  ~Holder() { stop(); }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

  // Most of the memory stays what it is, an eighth is given back and taken anew after
  // every pass, so that pages wander between this process, free memory and the balloon.
  // False when the process cannot be made, or one runs already.
  [[nodiscard]] bool start(std::size_t mib);
  void stop();

  // "passes 12 wrong 0", or "gone" when no process runs (any more).
  [[nodiscard]] std::string report();

 private:
  // Shared with the process.
  struct Counts {
    std::atomic<std::uint64_t> passes;  // over all of the memory
    std::atomic<std::uint64_t> wrong_pages;
  };

  [[noreturn]] void check_for_ever(std::size_t bytes);

  Counts* counts_;
  pid_t pid_ = -1;
};

}  // namespace vballoon::guest

#endif  // VBALLOON_TESTS_REAL_LINUX_GUEST_HOLDER_H_
