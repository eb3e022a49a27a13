// SPDX-License-Identifier: MIT
// The device's side of a packed ring (virtio 1.3, section 2.8).
#ifndef VBALLOON_SRC_RING_PACKED_DEVICE_QUEUE_H_
#define VBALLOON_SRC_RING_PACKED_DEVICE_QUEUE_H_

#include <cstdint>
#include <memory>
#include <span>

#include "ring/device_queue_impl.h"
#include "ring/packed_layout.h"
#include "vballoon/device_queue.h"

namespace vballoon {

struct DeviceQueue::PackedImpl final : DeviceQueue::Impl {
  // nullptr when there can be no such ring.
  [[nodiscard]] static std::unique_ptr<Impl> make(std::shared_ptr<const GuestMemory> memory,
                                                  AddressTranslator translator,
                                                  const QueueConfig& config,
                                                  const QueuePosition& position);

  PackedImpl(std::shared_ptr<const GuestMemory> memory, AddressTranslator translator,
             const PackedLayout& layout, const QueueConfig& config, const QueuePosition& position);

  [[nodiscard]] bool publish() override;
  [[nodiscard]] bool enable_kicks() override;
  void disable_kicks() override;
  [[nodiscard]] QueuePosition position() const override;

 protected:
  [[nodiscard]] Take take_next(Taken& taken) override;
  void untake(const RingEntry& entry) override;
  [[nodiscard]] bool may_hold(std::span<const HeldChain> chains) const override;
  void put_used(const RingEntry& entry, std::uint32_t written) override;

 private:
  const PackedLayout layout_;
  PackedPlace next_avail_;      // the entry to take next
  PackedPlace next_used_;       // the entry to fill next
  PackedPlace published_used_;  // from here on the driver sees nothing yet

  // Entries between published_used_ and next_avail_. Never more than the ring has: a driver that
  // makes entries available that were not returned is not looked at until they are.
  std::uint16_t unreturned_;
  std::uint16_t first_flags_ = 0;  // of the entry at published_used_, once there is one
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_RING_PACKED_DEVICE_QUEUE_H_
