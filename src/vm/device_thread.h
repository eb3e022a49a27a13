// SPDX-License-Identifier: MIT
// The thread on which a device serves its queues when it is kicked through an eventfd.
#ifndef VBALLOON_SRC_VM_DEVICE_THREAD_H_
#define VBALLOON_SRC_VM_DEVICE_THREAD_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "vballoon/balloon_device.h"
#include "vm/event_fd.h"

namespace vballoon::sim {

class DeviceThread {
 public:
  // Starts the thread, which watches the rings for as long as `watch` before it sleeps. `device`
  // must outlive it.
  DeviceThread(BalloonDevice& device, EventFd kick, std::chrono::nanoseconds watch);
  ~DeviceThread();

  void kick(std::uint16_t queue);

  // System time that the thread has used, once it has served what it was kicked for.
  [[nodiscard]] std::chrono::nanoseconds system_time();

 private:
  void run();
  void watch();
  void serve(std::uint32_t queues);

  BalloonDevice& device_;
  const EventFd kick_;
  const std::chrono::nanoseconds watch_;
  std::atomic<std::uint32_t> kicked_{0};  // a bit a queue, kSample and kStop
  std::atomic<bool> sampled_{false};
  std::chrono::nanoseconds system_time_{0};  // written before sampled_ is set
  std::thread thread_;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_VM_DEVICE_THREAD_H_
