// SPDX-License-Identifier: MIT
#include "ring/driver_queue.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <utility>

#include "ring/driver_queue_impl.h"
#include "ring/packed_driver_queue.h"
#include "ring/split_driver_queue.h"

namespace vballoon {
namespace {

constexpr std::uint64_t kRingAlignment = 4096;
// Each event structure has a cache line of its own: one side writes it, the other reads it at every
// notification.
constexpr std::uint64_t kEventAlignment = 64;

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

}  // namespace

RingLayout lay_out_ring(std::uint16_t size, std::uint64_t base, bool packed) {
  assert(base % kRingAlignment == 0);
  RingLayout layout;
  QueueConfig& config = layout.config;
  config.size = size;
  config.packed = packed;
  config.descriptor_table = base;
  if (packed) {
    config.available_ring = round_up(base + packed_ring_bytes(size), kEventAlignment);
    config.used_ring = config.available_ring + kEventAlignment;
    layout.bytes = config.used_ring + kPackedEventBytes - base;
  } else {
    config.available_ring = base + descriptor_table_bytes(size);
    config.used_ring = round_up(config.available_ring + available_ring_bytes(size), 4);
    layout.bytes = config.used_ring + used_ring_bytes(size) - base;
  }
  return layout;
}

// The entries stand in a circle. In order it stays one, as what is taken first comes back first;
// otherwise the order of the free ones comes to be that in which they were freed.
DriverQueue::Impl::Impl(std::shared_ptr<const GuestMemory> guest_memory, const QueueConfig& config)
    : memory(std::move(guest_memory)),
      event_index(config.event_index),
      indirect(config.indirect),
      in_order(config.in_order),
      entries(config.size),
      free_descriptors(config.size),
      packed_(config.packed) {
  for (std::uint16_t i = 0; i < config.size; ++i) {
    entries[i].next = static_cast<std::uint16_t>(i + 1 == config.size ? 0 : i + 1);
  }
}

// 2^32 bytes in all are allowed, of which a used length can say all but one.
std::uint32_t DriverQueue::Impl::total_bytes(std::span<const GuestBuffer> buffers) {
  std::uint64_t bytes = 0;
  for (const GuestBuffer& buffer : buffers) bytes += buffer.length;
  return static_cast<std::uint32_t>(
      std::min<std::uint64_t>(bytes, std::numeric_limits<std::uint32_t>::max()));
}

DriverQueue::DriverQueue(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

DriverQueue::~DriverQueue() = default;

Result<std::unique_ptr<DriverQueue>> DriverQueue::create(std::shared_ptr<const GuestMemory> memory,
                                                         const QueueConfig& config) {
  assert(memory != nullptr);
  auto impl = config.packed ? PackedImpl::make(std::move(memory), config)
                            : SplitImpl::make(std::move(memory), config);
  if (impl == nullptr) return fail(Errc::kBadQueueConfig);
  return std::unique_ptr<DriverQueue>(new DriverQueue(std::move(impl)));
}

bool DriverQueue::add(std::span<const GuestBuffer> readable, std::span<const GuestBuffer> writable,
                      std::uint64_t token) {
  const Pieces pieces{readable, writable};
  assert(pieces.count() != 0);
  if (pieces.count() > impl_->free_descriptors) return false;
  impl_->add(pieces, token);
  return true;
}

bool DriverQueue::add_indirect(std::span<const GuestBuffer> readable,
                               std::span<const GuestBuffer> writable, std::uint64_t table_address,
                               std::uint64_t token) {
  const Pieces pieces{readable, writable};
  assert(pieces.count() != 0 && impl_->indirect);
  if (impl_->free_descriptors == 0 || pieces.count() > size()) return false;
  impl_->add_indirect(pieces, table_address, token);
  return true;
}

bool DriverQueue::publish() { return impl_->publish(); }

std::uint16_t DriverQueue::next_available() const { return impl_->next_available(); }

std::optional<DriverQueue::Used> DriverQueue::take_used() { return impl_->take_used(); }

bool DriverQueue::enable_interrupts() { return impl_->enable_interrupts(); }

void DriverQueue::disable_interrupts() { impl_->disable_interrupts(); }

std::uint16_t DriverQueue::size() const { return impl_->size(); }

std::uint16_t DriverQueue::free_descriptors() const { return impl_->free_descriptors; }

std::uint64_t DriverQueue::bogus_used() const { return impl_->bogus_used; }

std::vector<std::uint64_t> DriverQueue::unused() const {
  std::vector<std::uint64_t> tokens;
  for (const Impl::Entry& entry : impl_->entries) {
    if (entry.descriptors != 0) tokens.push_back(entry.token);
  }
  return tokens;
}

}  // namespace vballoon
