// SPDX-License-Identifier: MIT
// A balloon device behind the registers of virtio-mmio (virtio 1.3, section 4.2, version 2).
//                                                                                 room: transport
//
// A hypervisor hands over the accesses of its virtual processors to the device's page, and an
// interrupt line. All calls may come from any thread at the same time; process() of the device
// stays with one thread. The legacy interface (version 1) is not there.
#ifndef VBALLOON_TRANSPORT_MMIO_H_
#define VBALLOON_TRANSPORT_MMIO_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "vballoon/balloon_device.h"
#include "vballoon/discarder.h"
#include "vballoon/export.h"
#include "vballoon/guest_memory.h"
#include "vballoon/result.h"

namespace vballoon {

// How much of the guest's address space the registers take.
inline constexpr std::uint64_t kMmioBytes = 0x200;
// Where a driver writes the number of a queue to kick it: the address of an ioeventfd, with a
// datamatch on the queue's number or without.
inline constexpr std::uint64_t kMmioQueueNotify = 0x050;

struct MmioOptions {
  std::uint32_t vendor_id = 0x4C4C4256;  // "VBLL"
  // The level of the interrupt line, called when it changes; a lock of the transport is held, so
  // it must not call back.
  std::function<void(bool asserted)> interrupt_line = {};
  // The driver kicked a queue by writing QueueNotify: have process() called for it. A hypervisor
  // that attaches an ioeventfd there never gets these. Called on the thread of write(), for numbers
  // below kMaxBalloonQueues.
  std::function<void(std::uint16_t queue)> queue_notify = {};
};

class VBALLOON_EXPORT MmioTransport {
 public:
  // Makes the device; its notify_queue and notify_config become interrupts, the other options are
  // the embedder's. Fails as BalloonDevice::create() does.
  [[nodiscard]] static Result<std::unique_ptr<MmioTransport>> create(
      std::shared_ptr<const GuestMemory> memory, std::unique_ptr<Discarder> discarder,
      BalloonOptions device = {}, MmioOptions options = {});

  ~MmioTransport();  // no other call may be running
  MmioTransport(const MmioTransport&) = delete;
  MmioTransport& operator=(const MmioTransport&) = delete;

  // An access of `size` bytes (1, 2, 4 or 8) at `offset` from the first register, as numbers of
  // this machine. Registers below 0x100 take aligned accesses of 4 bytes; what a driver must not do
  // reads as 0 and writes nothing.
  [[nodiscard]] std::uint64_t read(std::uint64_t offset, unsigned size) const;
  void write(std::uint64_t offset, unsigned size, std::uint64_t value);

  [[nodiscard]] BalloonDevice& device();

  // The registers of the transport and the device behind them, as BalloonDevice::save() and
  // restore() have it; the processors of the guest are stopped. restore() asserts the interrupt
  // line if the driver had not acknowledged an interrupt.
  [[nodiscard]] std::vector<std::byte> save();
  [[nodiscard]] Result<void> restore(std::span<const std::byte> state);

 private:
  struct Impl;
  explicit MmioTransport(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace vballoon

#endif  // VBALLOON_TRANSPORT_MMIO_H_
