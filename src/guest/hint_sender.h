// SPDX-License-Identifier: MIT
// The driver's side of free page hints (virtio 1.3, section 5.5.6.5): a round names all free blocks
// of 4 MiB, one buffer each, between a command id and STOP.
//
// The blocks stay out of the allocator until the device says DONE or the guest needs them. Never
// blocks: a full ring ends a step.
#ifndef VBALLOON_SRC_GUEST_HINT_SENDER_H_
#define VBALLOON_SRC_GUEST_HINT_SENDER_H_

#include <cstddef>
#include <cstdint>

#include "guest/driver_pages.h"
#include "guest/page_reporter.h"
#include "ring/driver_queue.h"
#include "vballoon/balloon_registers.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon::sim {

class HintSender final : public Shrinker {
 public:
  // Of the command ids that are sent: that of the round, and STOP.
  static constexpr std::size_t kBufferBytes = 8;

  // All must outlive this; the buffer has kBufferBytes, the queue at least two entries.
  HintSender(DriverQueue& queue, DmaBuffer buffer, PageAllocator& allocator, DriverPages& pages);
  ~HintSender() override;  // frees what is held

  struct Progress {
    bool kick = false;   // the device wants one
    bool waits = false;  // for the device to use buffers
  };
  // Does all that can be done now that the configuration has this command id.
  [[nodiscard]] Progress step(std::uint32_t command);

  // The queue was reset: what the device has not seen of the round is said again, to another queue.
  void queue_was_reset();
  void use(DriverQueue& queue) { queue_ = &queue; }

  // Pages of hinted blocks that are held. The guest may take them at any time: the device is not
  // told.
  [[nodiscard]] std::uint64_t count() const override { return held_.pages; }
  std::uint64_t scan(std::uint64_t pages) override;

 private:
  // What a buffer is, for when it is lost.
  enum Token : std::uint64_t { kStartToken, kBlockToken, kStopToken };

  void begin(std::uint32_t command);
  [[nodiscard]] bool send_blocks();
  void send(std::size_t offset, std::uint32_t id, Token token);

  DriverQueue* queue_;
  const DmaBuffer buffer_;
  PageAllocator& allocator_;
  DriverPages& pages_;
  PageList held_;
  std::uint32_t active_ = kHintStop;  // the id of the round that was begun last
  bool sending_ = false;              // that round has not been ended
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_GUEST_HINT_SENDER_H_
