// SPDX-License-Identifier: MIT
// One use of a queue's rings, from start to reset, with the chains that are held meanwhile. What is
// different in split and packed rings is behind the virtual functions.
#ifndef VBALLOON_SRC_RING_DEVICE_QUEUE_IMPL_H_
#define VBALLOON_SRC_RING_DEVICE_QUEUE_IMPL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "ring/chain_buffers.h"
#include "ring/device_memory.h"
#include "vballoon/device_queue.h"

namespace vballoon {

// What a ring has to know to return a chain, or to give it once more.
struct RingEntry {
  std::uint16_t id = 0;       // the head, or the id of the buffer
  std::uint16_t entries = 1;  // of a packed ring that the chain lies in
  std::uint16_t place = 0;    // where it was available, in the words of the ring
};

// A held chain.
struct DescriptorChain::Slot {
  DeviceQueue::Impl* queue = nullptr;
  WalkedChain chain;
  std::size_t first_buffer = 0;  // in the queue's buffers; the chain's follow one another
  RingEntry entry;
  std::uint64_t number = 0;   // of all chains that were taken
  std::uint32_t written = 0;  // the answer, while it waits for the chains in front of it
  bool held = false;
  // Where the last read() ended. Windows that follow one another need no search.
  struct Cursor {
    std::size_t buffer = 0;          // counted from first_buffer
    std::uint64_t bytes_before = 0;  // readable bytes in front of that buffer
  } cursor;
};

struct DeviceQueue::Impl {
  Impl(std::shared_ptr<const GuestMemory> memory, AddressTranslator translator,
       const QueueConfig& config);
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  virtual ~Impl() = default;

  // Ends this use. Chains that are held keep it alive, but no longer touch the rings.
  static void retire(std::unique_ptr<Impl> impl);

  [[nodiscard]] const GuestMemory& guest_memory() const { return *guest_memory_; }
  [[nodiscard]] const std::vector<GuestBuffer>& buffers() const { return buffers_; }
  [[nodiscard]] bool broken() const { return broken_; }
  [[nodiscard]] bool holds_chains() const { return slots_used_ != 0; }

  // The pool has room for another chain, however long.
  [[nodiscard]] bool has_room() const;
  [[nodiscard]] Result<std::optional<DescriptorChain>> pop();

  [[nodiscard]] std::vector<HeldChain> held() const;
  [[nodiscard]] Result<std::vector<DescriptorChain>> retake(std::span<const HeldChain> chains);

  // Both take back a chain that pop() gave out; this object may be gone afterwards.
  void give_back(DescriptorChain::Slot& slot, std::uint32_t written);
  [[nodiscard]] bool release(DescriptorChain::Slot& slot);

  [[nodiscard]] virtual bool publish() = 0;
  [[nodiscard]] virtual bool enable_kicks() = 0;
  virtual void disable_kicks() = 0;
  [[nodiscard]] virtual QueuePosition position() const = 0;

 protected:
  // What was taken: written where it is kept.
  struct Taken {
    RingEntry& entry;
    WalkedChain& chain;                   // empty before
    std::span<GuestBuffer> buffers;       // for the chain's
    Errc error = Errc::kInvalidArgument;  // why it is malformed, or the queue broken
  };
  enum class Take : std::uint8_t {
    kNothing,  // none is available
    kChain,
    kMalformed,  // to be returned
    kBroken,     // so much that there is nothing to return
  };
  [[nodiscard]] virtual Take take_next(Taken& taken) = 0;
  // Makes the one taken last available to take_next() again.
  virtual void untake(const RingEntry& entry) = 0;
  // Whether these can be all the chains that were taken and not returned.
  [[nodiscard]] virtual bool may_hold(std::span<const HeldChain> chains) const = 0;
  // Puts a chain on the ring as used; the driver sees it after publish().
  virtual void put_used(const RingEntry& entry, std::uint32_t written) = 0;

  [[nodiscard]] const DeviceMemory& memory() const { return memory_; }

  const bool event_index_;
  const bool indirect_;
  bool kicks_enabled_ = true;  // until we know better

 private:
  void answer(const DescriptorChain::Slot& slot);
  void refuse(DescriptorChain::Slot& slot);
  void settle();

  const std::shared_ptr<const GuestMemory> guest_memory_;
  const AddressTranslator translator_;
  const DeviceMemory memory_;
  const bool in_order_;
  bool broken_ = false;

  // Both are stacks of a fixed size: space comes back from the top. The buffers are twice the
  // queue's size, so that the longest chain fits whenever at most a queue's size is in use.
  std::vector<DescriptorChain::Slot> slots_;
  std::vector<GuestBuffer> buffers_;
  std::size_t slots_used_ = 0;
  std::size_t buffers_used_ = 0;
  std::size_t slots_answered_ = 0;  // in order only: those at the bottom that are on the used ring
  std::uint64_t chains_taken_ = 0;  // and not released

  std::unique_ptr<Impl> self_;  // set once retired with chains held
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_RING_DEVICE_QUEUE_IMPL_H_
