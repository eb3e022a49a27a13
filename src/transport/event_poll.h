// SPDX-License-Identifier: MIT
// Waits for many descriptors behind one (epoll).
#ifndef VBALLOON_SRC_TRANSPORT_EVENT_POLL_H_
#define VBALLOON_SRC_TRANSPORT_EVENT_POLL_H_

#include <sys/epoll.h>

#include <array>
#include <cstdint>
#include <span>

#include "base/unique_fd.h"

namespace vballoon {

class EventPoll {
 public:
  static constexpr std::size_t kMaxEvents = 16;

  EventPoll() : poll_(epoll_create1(EPOLL_CLOEXEC)) {}
  [[nodiscard]] bool ready() const { return static_cast<bool>(poll_); }
  [[nodiscard]] int fd() const { return poll_.get(); }

  // `events` as of epoll, `tag` comes back with them. False for what cannot be waited for.
  [[nodiscard]] bool add(int fd, std::uint32_t events, std::uint64_t tag) const {
    epoll_event event{.events = events, .data = {.u64 = tag}};
    return epoll_ctl(poll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
  }
  // Before a descriptor is closed: another process may hold what it stands for open.
  void remove(int fd) const {
    if (fd >= 0) epoll_ctl(poll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  }
  // What has happened; does not wait. Valid until the next call.
  [[nodiscard]] std::span<const epoll_event> events() {
    const int count = epoll_wait(poll_.get(), events_.data(), static_cast<int>(events_.size()), 0);
    return std::span(events_).first(count > 0 ? static_cast<std::size_t>(count) : 0);
  }

 private:
  UniqueFd poll_;
  std::array<epoll_event, kMaxEvents> events_{};
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_TRANSPORT_EVENT_POLL_H_
