// SPDX-License-Identifier: MIT
// One use of a queue's rings, from start to reset, with the chains that are held meanwhile.
#ifndef VBALLOON_SRC_RING_DEVICE_QUEUE_IMPL_H_
#define VBALLOON_SRC_RING_DEVICE_QUEUE_IMPL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "ring/chain_walk.h"
#include "ring/split_layout.h"
#include "vballoon/device_queue.h"

namespace vballoon {

// A held chain.
struct DescriptorChain::Slot {
  DeviceQueue::Impl* queue = nullptr;
  WalkedChain chain;
  std::size_t first_buffer = 0;  // in the queue's buffers; the chain's follow one another
  std::uint16_t head = 0;
  bool held = false;
  // Where the last read() ended. Windows that follow one another need no search.
  struct Cursor {
    std::size_t buffer = 0;          // counted from first_buffer
    std::uint64_t bytes_before = 0;  // readable bytes in front of that buffer
  } cursor;
};

struct DeviceQueue::Impl {
  Impl(std::shared_ptr<const GuestMemory> memory, const SplitLayout& layout,
       const QueueConfig& config);

  // Ends this use. Chains that are held keep it alive, but no longer touch the rings.
  static void retire(std::unique_ptr<Impl> impl);

  [[nodiscard]] const GuestMemory& memory() const { return *memory_; }
  [[nodiscard]] const std::vector<GuestBuffer>& buffers() const { return buffers_; }
  [[nodiscard]] bool broken() const { return broken_; }

  [[nodiscard]] Result<std::optional<DescriptorChain>> pop();
  [[nodiscard]] bool publish();
  [[nodiscard]] bool enable_kicks();
  void disable_kicks();

  // Takes back a chain that pop() gave out; this object may be gone afterwards.
  void give_back(DescriptorChain::Slot& slot, std::uint32_t written);

 private:
  [[nodiscard]] bool has_room() const;
  [[nodiscard]] Result<bool> look_for_available();
  [[nodiscard]] tl::unexpected<Error> break_queue(Errc reason);
  void put_used(std::uint16_t head, std::uint32_t written);

  const std::shared_ptr<const GuestMemory> memory_;
  const SplitLayout layout_;
  const bool event_index_;
  const bool indirect_;

  std::uint16_t next_avail_ = 0;      // the entry to take next
  std::uint16_t seen_avail_ = 0;      // avail.idx when last read
  std::uint16_t next_used_ = 0;       // the entry to fill next
  std::uint16_t published_used_ = 0;  // used.idx
  bool kicks_enabled_ = true;         // as the driver left the rings
  bool broken_ = false;

  // Both are stacks of a fixed size: space comes back from the top. The buffers are twice the
  // queue's size, so that the longest chain fits whenever at most a queue's size is in use.
  std::vector<DescriptorChain::Slot> slots_;
  std::vector<GuestBuffer> buffers_;
  std::size_t slots_used_ = 0;
  std::size_t buffers_used_ = 0;

  std::unique_ptr<Impl> self_;  // set once retired with chains held
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_RING_DEVICE_QUEUE_IMPL_H_
