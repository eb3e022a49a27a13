// SPDX-License-Identifier: MIT
// The driver's side of the statistics queue (virtio 1.3, section 5.5.6.3): one buffer, filled and
// made available at first and whenever the device has used it.
#ifndef VBALLOON_SRC_GUEST_STATS_SENDER_H_
#define VBALLOON_SRC_GUEST_STATS_SENDER_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/page_reporter.h"
#include "ring/driver_queue.h"
#include "vballoon/sim/balloon_driver.h"
#include "vballoon/sim/guest_kernel.h"

namespace vballoon::sim {

class StatsSender {
 public:
  static constexpr std::size_t kBufferBytes = 16 * 10;

  // All must outlive this; the buffer has kBufferBytes.
  StatsSender(DriverQueue& queue, DmaBuffer buffer, const GuestKernel& kernel, DriverHabits habits);

  // Makes the statistics of now available. True when the device wants a kick.
  [[nodiscard]] bool post();
  // The same, if the device has used the buffer.
  [[nodiscard]] bool post_if_asked();

  // Goes over to another queue: the one that it had was reset, and the buffer is the driver's.
  void use(DriverQueue& queue) { queue_ = &queue; }

 private:
  DriverQueue* queue_;
  const DmaBuffer buffer_;
  const GuestKernel& kernel_;
  const std::span<const std::uint16_t> tags_;  // what is sent, in this order
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_STATS_SENDER_H_
