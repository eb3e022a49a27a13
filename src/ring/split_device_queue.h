// SPDX-License-Identifier: MIT
// The device's side of a split ring (virtio 1.3, section 2.7).
#ifndef VBALLOON_SRC_RING_SPLIT_DEVICE_QUEUE_H_
#define VBALLOON_SRC_RING_SPLIT_DEVICE_QUEUE_H_

#include <cstdint>
#include <memory>
#include <span>

#include "ring/device_queue_impl.h"
#include "ring/split_layout.h"
#include "vballoon/device_queue.h"

namespace vballoon {

struct DeviceQueue::SplitImpl final : DeviceQueue::Impl {
  // nullptr when there can be no such ring.
  [[nodiscard]] static std::unique_ptr<Impl> make(std::shared_ptr<const GuestMemory> memory,
                                                  AddressTranslator translator,
                                                  const QueueConfig& config,
                                                  const QueuePosition& position);

  SplitImpl(std::shared_ptr<const GuestMemory> memory, AddressTranslator translator,
            const SplitLayout& layout, const QueueConfig& config, const QueuePosition& position);

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
  const SplitLayout layout_;
  std::uint16_t next_avail_;      // the entry to take next
  std::uint16_t seen_avail_;      // avail.idx when last read
  std::uint16_t next_used_;       // the entry to fill next
  std::uint16_t published_used_;  // used.idx
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_RING_SPLIT_DEVICE_QUEUE_H_
