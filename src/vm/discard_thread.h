// SPDX-License-Identifier: MIT
// The thread that gives back what a device owes, while the guest goes on.
#ifndef VBALLOON_SRC_VM_DISCARD_THREAD_H_
#define VBALLOON_SRC_VM_DISCARD_THREAD_H_

#include <atomic>
#include <chrono>
#include <thread>

#include "vballoon/balloon_device.h"
#include "vm/event_fd.h"

namespace vballoon::sim {

class DiscardThread {
 public:
  // Starts the thread; `device` must outlive it.
  DiscardThread(BalloonDevice& device, EventFd owed);
  ~DiscardThread();

  // There is something to do: BalloonOptions::discards_owed.
  void wake() { owed_.signal(); }

  // System time that the thread has used for what it has done.
  [[nodiscard]] std::chrono::nanoseconds system_time() const { return system_time_.load(); }

 private:
  void run();

  BalloonDevice& device_;
  const EventFd owed_;
  std::atomic<bool> stop_{false};
  std::atomic<std::chrono::nanoseconds> system_time_{};
  std::thread thread_;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_VM_DISCARD_THREAD_H_
