// SPDX-License-Identifier: MIT
#include "ring/driver_queue.h"

#include <atomic>
#include <cassert>
#include <cstddef>
#include <utility>
#include <vector>

#include "ring/split_layout.h"

namespace vballoon {
namespace {

constexpr std::uint64_t kRingAlignment = 4096;

// The descriptor of piece `index` of a chain; `next` is where the piece behind it lies.
Descriptor describe(std::span<const GuestBuffer> readable, std::span<const GuestBuffer> writable,
                    std::size_t index, std::uint16_t next) {
  const bool is_readable = index < readable.size();
  const bool is_last = index + 1 == readable.size() + writable.size();
  const GuestBuffer& buffer = is_readable ? readable[index] : writable[index - readable.size()];
  const int flags = (is_readable ? 0 : kDescriptorWrite) | (is_last ? 0 : kDescriptorNext);
  return {buffer.address, buffer.length, static_cast<std::uint16_t>(flags),
          is_last ? std::uint16_t{0} : next};
}

}  // namespace

RingLayout lay_out_ring(std::uint16_t size, std::uint64_t base) {
  assert(base % kRingAlignment == 0);
  RingLayout layout;
  layout.config.size = size;
  layout.config.descriptor_table = base;
  layout.config.available_ring = base + descriptor_table_bytes(size);
  const std::uint64_t available_end = layout.config.available_ring + available_ring_bytes(size);
  layout.config.used_ring = (available_end + 3) / 4 * 4;
  layout.bytes = layout.config.used_ring + used_ring_bytes(size) - base;
  return layout;
}

struct DriverQueue::Impl {
  // What the driver remembers of a descriptor; the table itself is open to the device.
  struct Entry {
    std::uint64_t token = 0;
    std::uint16_t next = 0;    // in the chain, or in the list of free ones
    std::uint16_t length = 0;  // descriptors of the chain that begins here; 0: none does
  };

  Impl(std::shared_ptr<const GuestMemory> guest_memory, const SplitLayout& split_layout,
       const QueueConfig& config)
      : memory(std::move(guest_memory)),
        layout(split_layout),
        event_index(config.event_index),
        indirect(config.indirect),
        entries(config.size),
        free_count(config.size) {
    for (std::uint16_t i = 0; i < config.size; ++i) {
      entries[i].next = static_cast<std::uint16_t>(i + 1);
    }
  }

  void clear_rings() const;
  void make_available(std::uint16_t head, std::uint16_t length, std::uint64_t token);
  void free_chain(std::uint16_t head);

  const std::shared_ptr<const GuestMemory> memory;
  const SplitLayout layout;
  const bool event_index;
  const bool indirect;

  std::vector<Entry> entries;
  std::uint16_t first_free = 0;
  std::uint16_t free_count;

  std::uint16_t next_avail = 0;       // the entry to fill next
  std::uint16_t published_avail = 0;  // avail.idx
  std::uint16_t next_used = 0;        // the entry to take next
  std::uint16_t seen_used = 0;        // used.idx when last read
  bool interrupts_enabled = true;
  std::uint64_t bogus_used = 0;
};

// Descriptors and entries need no clearing: the device reads only what was made available.
void DriverQueue::Impl::clear_rings() const {
  layout.avail_flags().store(0);
  layout.avail_index().store(0);
  layout.used_event().store(0);
  layout.used_flags().store(0);
  layout.used_index().store(0);
  layout.avail_event().store(0);
}

// The chain's descriptors are the first `length` ones of the free list.
void DriverQueue::Impl::make_available(std::uint16_t head, std::uint16_t length,
                                       std::uint64_t token) {
  std::uint16_t last = head;
  for (std::uint16_t i = 1; i < length; ++i) last = entries[last].next;
  first_free = entries[last].next;
  free_count = static_cast<std::uint16_t>(free_count - length);
  entries[head].length = length;
  entries[head].token = token;
  layout.avail_head(next_avail++).store(head);
}

void DriverQueue::Impl::free_chain(std::uint16_t head) {
  const std::uint16_t length = std::exchange(entries[head].length, std::uint16_t{0});
  std::uint16_t last = head;
  for (std::uint16_t i = 1; i < length; ++i) last = entries[last].next;
  entries[last].next = first_free;
  first_free = head;
  free_count = static_cast<std::uint16_t>(free_count + length);
}

DriverQueue::DriverQueue(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

DriverQueue::~DriverQueue() = default;

Result<std::unique_ptr<DriverQueue>> DriverQueue::create(std::shared_ptr<const GuestMemory> memory,
                                                         const QueueConfig& config) {
  assert(memory != nullptr);
  const auto layout = SplitLayout::locate(*memory, config);
  if (!layout) return fail(Errc::kBadQueueConfig);
  auto impl = std::make_unique<Impl>(std::move(memory), *layout, config);
  impl->clear_rings();
  return std::unique_ptr<DriverQueue>(new DriverQueue(std::move(impl)));
}

bool DriverQueue::add(std::span<const GuestBuffer> readable, std::span<const GuestBuffer> writable,
                      std::uint64_t token) {
  const std::size_t count = readable.size() + writable.size();
  assert(count != 0);
  if (count > impl_->free_count) return false;
  const std::uint16_t head = impl_->first_free;
  std::uint16_t index = head;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint16_t next = impl_->entries[index].next;
    impl_->layout.store_descriptor(index, describe(readable, writable, i, next));
    index = next;
  }
  impl_->make_available(head, static_cast<std::uint16_t>(count), token);
  return true;
}

bool DriverQueue::add_indirect(std::span<const GuestBuffer> readable,
                               std::span<const GuestBuffer> writable, std::uint64_t table_address,
                               std::uint64_t token) {
  const std::size_t count = readable.size() + writable.size();
  assert(count != 0 && impl_->indirect);
  if (impl_->free_count == 0 || count > size()) return false;
  for (std::size_t i = 0; i < count; ++i) {
    const Descriptor descriptor =
        describe(readable, writable, i, static_cast<std::uint16_t>(i + 1));
    [[maybe_unused]] const bool inside = impl_->memory->write(
        table_address + i * sizeof(Descriptor), std::as_bytes(std::span(&descriptor, 1)));
    assert(inside);
  }
  const std::uint16_t head = impl_->first_free;
  const auto bytes = static_cast<std::uint32_t>(count * sizeof(Descriptor));
  impl_->layout.store_descriptor(head, {table_address, bytes, kDescriptorIndirect, 0});
  impl_->make_available(head, 1, token);
  return true;
}

// One half of a handshake whose other half is DeviceQueue::enable_kicks(); see there.
bool DriverQueue::publish() {
  const std::uint16_t now = impl_->next_avail;
  const std::uint16_t before = std::exchange(impl_->published_avail, now);
  if (before == now) return false;
  const SplitLayout& layout = impl_->layout;
  layout.avail_index().store(now, std::memory_order_seq_cst);
  if (impl_->event_index) {
    return passes_event(layout.avail_event().load(std::memory_order_seq_cst), now, before);
  }
  return (layout.used_flags().load(std::memory_order_seq_cst) & kUsedNoNotify) == 0;
}

// A device that writes nonsense costs at most one turn for each of the 65535 entries that its index
// can claim.
std::optional<DriverQueue::Used> DriverQueue::take_used() {
  Impl& queue = *impl_;
  if (queue.next_used == queue.seen_used) {
    queue.seen_used = queue.layout.used_index().load(std::memory_order_acquire);
  }
  while (queue.next_used != queue.seen_used) {
    const UsedElement element = queue.layout.load_used(queue.next_used++);
    if (element.id < size() && queue.entries[element.id].length != 0) {
      const auto head = static_cast<std::uint16_t>(element.id);
      queue.free_chain(head);
      return Used{queue.entries[head].token, element.length};
    }
    ++queue.bogus_used;
  }
  return std::nullopt;
}

// The other half of DeviceQueue::publish().
bool DriverQueue::enable_interrupts() {
  Impl& queue = *impl_;
  if (queue.event_index) {
    queue.layout.used_event().store(queue.next_used, std::memory_order_seq_cst);
  } else {
    queue.layout.avail_flags().store(0, std::memory_order_seq_cst);
  }
  queue.interrupts_enabled = true;
  return queue.layout.used_index().load(std::memory_order_seq_cst) != queue.next_used;
}

void DriverQueue::disable_interrupts() {
  Impl& queue = *impl_;
  if (!std::exchange(queue.interrupts_enabled, false)) return;
  if (queue.event_index) {
    // An entry that is already behind us: the device passes it again after 65535 others.
    queue.layout.used_event().store(static_cast<std::uint16_t>(queue.next_used - 1));
  } else {
    queue.layout.avail_flags().store(kAvailNoInterrupt);
  }
}

std::uint16_t DriverQueue::size() const { return impl_->layout.size(); }

std::uint16_t DriverQueue::free_descriptors() const { return impl_->free_count; }

std::uint64_t DriverQueue::bogus_used() const { return impl_->bogus_used; }

}  // namespace vballoon
