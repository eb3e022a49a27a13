// SPDX-License-Identifier: MIT
#include "real_linux/guest/holder.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <new>

#include "real_linux/guest/pattern.h"

namespace vballoon::guest {

Holder::Holder()
    : counts_(new (::mmap(nullptr, sizeof(Counts), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Counts{}) {}

bool Holder::start(std::size_t mib) {
  if (pid_ > 0) return false;
  counts_->passes = 0;
  counts_->wrong_pages = 0;
  pid_ = ::fork();
  if (pid_ == 0) check_for_ever(mib * kMib);
  return pid_ > 0;
}

void Holder::stop() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

std::string Holder::report() {
  if (pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) == pid_) pid_ = -1;
  if (pid_ <= 0) return "gone";
  return "passes " + std::to_string(counts_->passes) + " wrong " +
         std::to_string(counts_->wrong_pages);
}

void Holder::check_for_ever(std::size_t bytes) {
  const Memory lasting(bytes / 8 * 7);
  if (!lasting.mapped()) ::_exit(1);
  fill(lasting.words(), 0);
  for (std::uint64_t seed = 1;; ++seed) {
    const Memory wandering(bytes / 8);
    if (!wandering.mapped()) ::_exit(1);
    fill(wandering.words(), seed);
    counts_->wrong_pages +=
        count_wrong_pages(lasting.words(), 0) + count_wrong_pages(wandering.words(), seed);
    ++counts_->passes;
  }
}

}  // namespace vballoon::guest
