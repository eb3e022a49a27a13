// SPDX-License-Identifier: MIT
// Device side of a virtqueue, split or packed (virtio 1.3, sections 2.7 and 2.8).   room: ring
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
#include <vector>

#include "vballoon/address_translator.h"
#include "vballoon/export.h"
#include "vballoon/guest_buffer.h"
#include "vballoon/guest_memory.h"
#include "vballoon/result.h"

namespace vballoon {

inline constexpr std::uint16_t kMaxQueueSize = 32768;

// Where the driver put a queue. The three addresses have the names of a split ring's parts. For a
// packed ring they stand for what a driver writes to the same registers of a transport (QueueDesc,
// QueueDriver, QueueDevice): the descriptor ring in the Descriptor Area, the driver's event
// suppression in the Driver Area, the device's in the Device Area.
struct QueueConfig {
  std::uint16_t size = 0;              // entries, at most kMaxQueueSize; split: a power of two
  std::uint64_t descriptor_table = 0;  // guest-physical, aligned to 16
  std::uint64_t available_ring = 0;    // aligned to 2; packed: to 4
  std::uint64_t used_ring = 0;         // aligned to 4
  bool event_index = false;            // VIRTIO_F_EVENT_IDX was negotiated
  bool indirect = false;               // VIRTIO_F_INDIRECT_DESC was negotiated
  bool packed = false;                 // VIRTIO_F_RING_PACKED was negotiated
  bool in_order = false;               // VIRTIO_F_IN_ORDER was negotiated
};

// How far a device has come on a queue: all that it knows beside what lies in guest memory. As it
// stands here, a ring that has not been used yet.
struct QueuePosition {
  std::uint16_t next_available = 0;  // split: the index of an entry; packed: a place in the ring
  std::uint16_t next_used = 0;
  bool available_wrap = true;  // packed: the wrap counters at these places; split: not looked at
  bool used_wrap = true;

  friend constexpr bool operator==(const QueuePosition&, const QueuePosition&) = default;
};

// A chain that was taken and is not on the used ring yet, as the ring knows it.
struct HeldChain {
  std::uint16_t id = 0;                                 // its head, or the id of its buffer
  std::uint16_t entries = 1;                            // of a packed ring that it lies in
  std::optional<std::uint32_t> written = std::nullopt;  // it was answered, and waits (IN_ORDER)

  friend constexpr bool operator==(const HeldChain&, const HeldChain&) = default;
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

  // The device-readable and the device-writable buffers, in order, guest-physical. Valid until the
  // chain is returned.
  [[nodiscard]] std::span<const GuestBuffer> readable() const;
  [[nodiscard]] std::span<const GuestBuffer> writable() const;
  [[nodiscard]] std::uint64_t readable_bytes() const;

  // Copies readable bytes from `offset` on, across buffers. Fails with kAddressOutOfRange when a
  // buffer is not inside guest memory; requires offset + out.size() <= readable_bytes().
  [[nodiscard]] Result<void> read(std::uint64_t offset, std::span<std::byte> out) const;

  [[nodiscard]] std::uint64_t writable_bytes() const;
  // Copies bytes to the beginning of the writable buffers. Fails with kAddressOutOfRange when a
  // buffer is not inside guest memory, after what stands before that; requires
  // in.size() <= writable_bytes().
  [[nodiscard]] Result<void> write(std::span<const std::byte> in);

  // Returns the chain to the driver. `written` is the number of bytes written to its writable
  // buffers. The driver sees it after DeviceQueue::publish().
  void complete(std::uint32_t written = 0);

  // Puts the chain back as if it had never been taken: pop() gives it again, here or where the
  // queue goes on. False, with the chain still held, unless it is the one taken last: release in
  // the opposite order, and complete those in front of a chain that was returned.
  [[nodiscard]] bool release();

 private:
  friend class DeviceQueue;
  struct Slot;
  explicit DescriptorChain(Slot* slot) : slot_(slot) {}

  Slot* slot_ = nullptr;  // nullptr: returned, or moved from
};

class VBALLOON_EXPORT DeviceQueue {
 public:
  DeviceQueue();
  // Chains stay with the queue that they were taken from; one that is assigned to is reset first.
  DeviceQueue(DeviceQueue&& other) noexcept;
  DeviceQueue& operator=(DeviceQueue&& other) noexcept;
  ~DeviceQueue();  // every chain must have been returned or the queue reset

  // Takes the rings into use, from `position` on. With a translator all addresses that the driver
  // gives, those in `config` too, go through it. Fails with kBadQueueConfig when the size is 0, too
  // large or, for a split ring, no power of two, an address is not aligned, a part is not inside
  // one region of memory (and one piece of the translation), or no ring can be at the position; the
  // queue is then not ready.
  [[nodiscard]] Result<void> start(std::shared_ptr<const GuestMemory> memory,
                                   const QueueConfig& config, const QueuePosition& position = {},
                                   AddressTranslator translator = {});

  // Forgets rings and chains. Chains that are still held lose their meaning.
  void reset();

  // Started, and not broken by the driver.
  [[nodiscard]] bool ready() const;

  // From where another start() on the same rings would go on: behind the chains that are held.
  // Requires ready() and that all returned chains are published.
  [[nodiscard]] QueuePosition position() const;

  // The chains that a queue at that position still owes the driver, in the order in which they were
  // taken. Requires what position() does.
  [[nodiscard]] std::vector<HeldChain> held() const;

  // Takes over what another queue held where start() began; before the first pop(). The chains that
  // were not answered come back, in the same order, to be returned: what they named cannot be read
  // any more, and they cannot be released. Fails with kBadQueueConfig, with nothing taken, when
  // these cannot be the chains between the two places of the position.
  [[nodiscard]] Result<std::vector<DescriptorChain>> retake(std::span<const HeldChain> chains);

  // Takes the next available chain, or nullopt when there is none, or when the chains that are
  // held fill the pool: as many chains, or buffers in all, as the queue has entries. Room comes
  // back when the chains taken last are returned, or all. With none held a chain always fits.
  // Fails with the reason when the chain is malformed; it has then been returned to the driver
  // with length 0 and the next pop() goes on behind it. A chain that a translator cuts into more
  // pieces than the queue has entries counts as malformed. Fails with kAvailIndexOutOfRange or,
  // for a head outside the table, kDescriptorIndexOutOfRange when nothing can be returned: the
  // queue is then broken (not ready) until reset, which a packed one never is. Fails with
  // kQueueNotReady when not ready().
  [[nodiscard]] Result<std::optional<DescriptorChain>> pop();

  // Makes the returned chains visible to the driver. True when the driver wants an interrupt. With
  // IN_ORDER a chain waits for those taken before it, whatever the order of completion. Each has a
  // used entry of its own then too: the standard allows one for a batch, but would have the
  // driver take all others of the batch for written in full.
  [[nodiscard]] bool publish();

  // Asks the driver for a kick when the next chain is available. True when chains came in the
  // meantime: look again before sleeping, no kick may come for them. False as long as pop() has no
  // room for them: look again when chains were returned.
  [[nodiscard]] bool enable_kicks();
  // Tells the driver that no kick is needed; it may still send some.
  void disable_kicks();

 private:
  friend class DescriptorChain;
  struct Impl;
  struct SplitImpl;
  struct PackedImpl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vballoon

#endif  // VBALLOON_DEVICE_QUEUE_H_
