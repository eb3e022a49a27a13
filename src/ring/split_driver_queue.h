// SPDX-License-Identifier: MIT
// The driver's side of a split ring (virtio 1.3, section 2.7).
#ifndef VBALLOON_SRC_RING_SPLIT_DRIVER_QUEUE_H_
#define VBALLOON_SRC_RING_SPLIT_DRIVER_QUEUE_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "ring/driver_queue_impl.h"
#include "ring/split_layout.h"

namespace vballoon {

struct DriverQueue::SplitImpl final : DriverQueue::Impl {
  // nullptr when there can be no such ring.
  [[nodiscard]] static std::unique_ptr<Impl> make(std::shared_ptr<const GuestMemory> memory,
                                                  const QueueConfig& config);

  SplitImpl(std::shared_ptr<const GuestMemory> guest_memory, const SplitLayout& split_layout,
            const QueueConfig& config);

  void add(const Pieces& pieces, std::uint64_t token) override;
  void add_indirect(const Pieces& pieces, std::uint64_t table_address,
                    std::uint64_t token) override;
  [[nodiscard]] bool publish() override;
  [[nodiscard]] std::uint16_t next_available() const override { return published_avail_; }
  [[nodiscard]] std::optional<Used> take_used() override;
  [[nodiscard]] bool enable_interrupts() override;
  void disable_interrupts() override;

 private:
  void clear_rings() const;

  const SplitLayout layout_;
  std::uint16_t next_avail_ = 0;       // the entry to fill next
  std::uint16_t published_avail_ = 0;  // avail.idx
  std::uint16_t next_used_ = 0;        // the entry to take next
  std::uint16_t seen_used_ = 0;        // used.idx when last read
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_RING_SPLIT_DRIVER_QUEUE_H_
