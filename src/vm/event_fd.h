// SPDX-License-Identifier: MIT
// An eventfd: how two threads wake each other, as with ioeventfd and irqfd.
#ifndef VBALLOON_SRC_VM_EVENT_FD_H_
#define VBALLOON_SRC_VM_EVENT_FD_H_

#include <chrono>

#include "vballoon/result.h"

namespace vballoon::sim {

class EventFd {
 public:
  [[nodiscard]] static Result<EventFd> create();
  EventFd(EventFd&& other) noexcept;
  EventFd& operator=(EventFd&&) = delete;
  ~EventFd();

  void signal() const;
  // Blocks until signalled; false when a signal handler ran instead. Looks for that long before it
  // sleeps: waking a thread whose processor has gone idle can take longer than all it waits for.
  bool wait(std::chrono::nanoseconds watch = {}) const;

 private:
  explicit EventFd(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_VM_EVENT_FD_H_
