// SPDX-License-Identifier: MIT
#include "vm/event_fd.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

namespace vballoon::sim {

Result<EventFd> EventFd::create() {
  const int fd = ::eventfd(0, EFD_CLOEXEC);
  if (fd < 0) return fail(Errc::kNotSupported, "cannot make an eventfd", errno);
  return EventFd(fd);
}

EventFd::EventFd(EventFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

EventFd::~EventFd() {
  if (fd_ >= 0) ::close(fd_);
}

// Fails only when the counter is full, and then the other side has enough to wake up for.
void EventFd::signal() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(fd_, &one, sizeof one);
}

bool EventFd::wait(std::chrono::nanoseconds watch) const {
  using clock = std::chrono::steady_clock;
  if (watch.count() != 0) {
    pollfd event{fd_, POLLIN, 0};
    for (const auto start = clock::now();
         clock::now() - start < watch && ::poll(&event, 1, 0) == 0;) {
    }
  }
  std::uint64_t count = 0;
  return ::read(fd_, &count, sizeof count) == sizeof count;
}

}  // namespace vballoon::sim
