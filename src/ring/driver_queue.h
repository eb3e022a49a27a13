// SPDX-License-Identifier: MIT
// Driver side of a virtqueue, split or packed (virtio 1.3, sections 2.7 and 2.8), in guest memory.
//
// The half that a guest has. It trusts the device no more than the device trusts it: used ids are
// checked. One thread drives a queue.
#ifndef VBALLOON_SRC_RING_DRIVER_QUEUE_H_
#define VBALLOON_SRC_RING_DRIVER_QUEUE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "vballoon/device_queue.h"
#include "vballoon/export.h"
#include "vballoon/guest_buffer.h"
#include "vballoon/guest_memory.h"
#include "vballoon/result.h"

namespace vballoon {

// Where the three parts of a queue of `size` entries lie when put one behind the other at `base`
// (aligned to 4 KiB), and how many bytes they take.
struct RingLayout {
  QueueConfig config;
  std::uint64_t bytes = 0;
};
[[nodiscard]] VBALLOON_EXPORT RingLayout lay_out_ring(std::uint16_t size, std::uint64_t base,
                                                      bool packed = false);

class VBALLOON_EXPORT DriverQueue {
 public:
  // A buffer that the device has used.
  struct Used {
    std::uint64_t token = 0;    // as given to add()
    std::uint32_t written = 0;  // bytes the device says it wrote
  };

  // Initializes the rings at config's addresses. Fails as DeviceQueue::start() does.
  [[nodiscard]] static Result<std::unique_ptr<DriverQueue>> create(
      std::shared_ptr<const GuestMemory> memory, const QueueConfig& config);

  ~DriverQueue();

  // Puts one buffer (a chain) on the queue: readable pieces first, then writable ones; at least
  // one and at most 2^32 bytes in all. False, with nothing changed, when too few descriptors are
  // free. The device sees it after publish().
  [[nodiscard]] bool add(std::span<const GuestBuffer> readable,
                         std::span<const GuestBuffer> writable, std::uint64_t token);

  // As add(), through an indirect table of the driver's at `table_address` in guest memory, with
  // room for all pieces; it is the device's until the buffer is used. False also when there are
  // more pieces than the queue has entries. Requires that INDIRECT_DESC was negotiated.
  [[nodiscard]] bool add_indirect(std::span<const GuestBuffer> readable,
                                  std::span<const GuestBuffer> writable,
                                  std::uint64_t table_address, std::uint64_t token);

  // Makes what was added available. True when the device wants a kick for it.
  [[nodiscard]] bool publish();

  // What a kick with NOTIFICATION_DATA says beside the number of the queue (2.9): where the next
  // buffer will become available. Split: the available index; packed: the place in the ring in 15
  // bits, and its wrap counter above them.
  [[nodiscard]] std::uint16_t next_available() const;

  // Takes back the next used buffer, if any. A used id that was never given out is dropped and
  // counted. With IN_ORDER one used entry may stand for a batch: the buffers in front of the one it
  // names come back as written in full.
  [[nodiscard]] std::optional<Used> take_used();

  // Asks for an interrupt at the next used buffer. True when buffers were used in the meantime.
  [[nodiscard]] bool enable_interrupts();
  void disable_interrupts();

  [[nodiscard]] std::uint16_t size() const;
  [[nodiscard]] std::uint16_t free_descriptors() const;
  [[nodiscard]] std::uint64_t bogus_used() const;  // used ids that were never given out
  // The tokens of the buffers that have not come back, in no particular order: what is lost when
  // the queue is reset (2.6.1).
  [[nodiscard]] std::vector<std::uint64_t> unused() const;

 private:
  struct Impl;
  struct SplitImpl;
  struct PackedImpl;
  explicit DriverQueue(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_RING_DRIVER_QUEUE_H_
