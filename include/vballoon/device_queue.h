// SPDX-License-Identifier: MIT
// Device side of a split virtqueue (virtio 1.3, section 2.7).                     room: ring
//
// Everything behind GuestMemory is written by an untrusted driver and may change between two
// reads; each field is copied out once. One thread drives a queue. BalloonDevice has its queues
// inside; this header is for those who build another device on the same rings.
#ifndef VBALLOON_DEVICE_QUEUE_H_
#define VBALLOON_DEVICE_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "vballoon/export.h"
#include "vballoon/guest_buffer.h"
#include "vballoon/guest_memory.h"
#include "vballoon/result.h"

namespace vballoon {

inline constexpr std::uint16_t kMaxQueueSize = 32768;

// Where the driver put a queue.
struct QueueConfig {
  std::uint16_t size = 0;              // entries; a power of two, at most kMaxQueueSize
  std::uint64_t descriptor_table = 0;  // guest-physical, aligned to 16
  std::uint64_t available_ring = 0;    // aligned to 2
  std::uint64_t used_ring = 0;         // aligned to 4
  bool event_index = false;            // VIRTIO_F_EVENT_IDX was negotiated
  bool indirect = false;               // VIRTIO_F_INDIRECT_DESC was negotiated
};

class DeviceQueue;

// A chain of descriptors taken from a queue. Move-only. Destroyed without an answer, it is
// returned to the driver with length 0, so no error path can lose a guest's buffer. After a
// reset of the queue, returning it does nothing.
class VBALLOON_EXPORT DescriptorChain {
 public:
  DescriptorChain(DescriptorChain&& other) noexcept;
  DescriptorChain& operator=(DescriptorChain&& other) noexcept;
  ~DescriptorChain();

  // The device-readable and the device-writable buffers, in order. Valid until the chain is
  // returned.
  [[nodiscard]] std::span<const GuestBuffer> readable() const;
  [[nodiscard]] std::span<const GuestBuffer> writable() const;
  [[nodiscard]] std::uint64_t readable_bytes() const;

  // Copies readable bytes from `offset` on, across buffers. Fails with kAddressOutOfRange when a
  // buffer is not inside guest memory; requires offset + out.size() <= readable_bytes().
  [[nodiscard]] Result<void> read(std::uint64_t offset, std::span<std::byte> out) const;

  // Returns the chain to the driver. `written` is the number of bytes written to its writable
  // buffers. The driver sees it after DeviceQueue::publish().
  void complete(std::uint32_t written = 0);

 private:
  friend class DeviceQueue;
  struct Slot;
  explicit DescriptorChain(Slot* slot) : slot_(slot) {}

  Slot* slot_ = nullptr;  // nullptr: returned, or moved from
};

class VBALLOON_EXPORT DeviceQueue {
 public:
  DeviceQueue();
  DeviceQueue(const DeviceQueue&) = delete;
  DeviceQueue& operator=(const DeviceQueue&) = delete;
  ~DeviceQueue();  // every chain must have been returned or the queue reset

  // Takes the rings into use. Fails with kBadQueueConfig when the size is not a power of two in
  // [1, kMaxQueueSize], an address is not aligned, or a ring is not inside one region of memory;
  // the queue is then not ready.
  [[nodiscard]] Result<void> start(std::shared_ptr<const GuestMemory> memory,
                                   const QueueConfig& config);

  // Forgets rings and chains. Chains that are still held lose their meaning.
  void reset();

  // Started, and not broken by the driver.
  [[nodiscard]] bool ready() const;

  // Takes the next available chain, or nullopt when there is none, or when the chains that are
  // held fill the pool: as many chains, or buffers in all, as the queue has entries. Room comes
  // back when the chains taken last are returned, or all. With none held a chain always fits.
  // Fails with the reason when the chain is malformed; it has then been returned to the driver
  // with length 0 and the next pop() goes on behind it. Fails with kAvailIndexOutOfRange or, for
  // a head outside the table, kDescriptorIndexOutOfRange when nothing can be returned: the queue
  // is then broken (not ready) until reset. Fails with kQueueNotReady when not ready().
  [[nodiscard]] Result<std::optional<DescriptorChain>> pop();

  // Makes the returned chains visible to the driver. True when the driver wants an interrupt.
  [[nodiscard]] bool publish();

  // Asks the driver for a kick when the next chain is available. True when chains came in the
  // meantime: look again before sleeping, no kick may come for them.
  [[nodiscard]] bool enable_kicks();
  // Tells the driver that no kick is needed; it may still send some.
  void disable_kicks();

 private:
  friend class DescriptorChain;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vballoon

#endif  // VBALLOON_DEVICE_QUEUE_H_
