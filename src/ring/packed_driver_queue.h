// SPDX-License-Identifier: MIT
// The driver's side of a packed ring (virtio 1.3, section 2.8).
#ifndef VBALLOON_SRC_RING_PACKED_DRIVER_QUEUE_H_
#define VBALLOON_SRC_RING_PACKED_DRIVER_QUEUE_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "ring/driver_queue_impl.h"
#include "ring/packed_layout.h"

namespace vballoon {

struct DriverQueue::PackedImpl final : DriverQueue::Impl {
  // nullptr when there can be no such ring.
  [[nodiscard]] static std::unique_ptr<Impl> make(std::shared_ptr<const GuestMemory> memory,
                                                  const QueueConfig& config);

  PackedImpl(std::shared_ptr<const GuestMemory> guest_memory, const PackedLayout& packed_layout,
             const QueueConfig& config);

  void add(const Pieces& pieces, std::uint64_t token) override;
  void add_indirect(const Pieces& pieces, std::uint64_t table_address,
                    std::uint64_t token) override;
  [[nodiscard]] bool publish() override;
  [[nodiscard]] std::uint16_t next_available() const override { return published_avail_.word(); }
  [[nodiscard]] std::optional<Used> take_used() override;
  [[nodiscard]] bool enable_interrupts() override;
  void disable_interrupts() override;

 private:
  void clear_rings() const;
  void make_available(PackedPlace first, std::uint16_t flags);
  Used go_on_behind(const HandedOut& handed) {
    next_used_.advance(handed.descriptors, layout_.size());
    return handed.used;
  }

  const PackedLayout layout_;
  PackedPlace next_avail_;         // the entry to fill next
  PackedPlace published_avail_;    // from here on the device sees nothing yet
  PackedPlace next_used_;          // the entry that the device fills next
  std::uint16_t first_flags_ = 0;  // of the entry at published_avail_, once there is one
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_RING_PACKED_DRIVER_QUEUE_H_
