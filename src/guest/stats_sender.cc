// SPDX-License-Identifier: MIT
#include "guest/stats_sender.h"

#include <array>
#include <cstdint>
#include <span>

#include "wire/little_endian.h"

namespace vballoon::sim {
namespace {

// As Linux sends them: events first, what the memory looks like at the end.
constexpr std::array<std::uint16_t, 16> kLinuxTags{0,  1,  2, 3, 10, 11, 12, 13,
                                                   14, 15, 8, 9, 4,  5,  6,  7};
// Those of the standard, by their numbers.
constexpr std::array<std::uint16_t, 10> kWindowsTags{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};

std::span<const std::uint16_t> tags_of(DriverHabits habits) {
  if (habits == DriverHabits::kWindows) return kWindowsTags;
  return kLinuxTags;
}

}  // namespace

StatsSender::StatsSender(DriverQueue& queue, DmaBuffer buffer, const GuestKernel& kernel,
                         DriverHabits habits)
    : queue_(&queue), buffer_(buffer), kernel_(kernel), tags_(tags_of(habits)) {}

bool StatsSender::post() {
  const MemoryStatistics statistics = kernel_.statistics();
  std::byte* to = buffer_.bytes.data();
  for (const std::uint16_t tag : tags_) {
    store_le(to, tag);
    store_le(to + sizeof tag, statistics.values[tag]);
    to += sizeof tag + sizeof(std::uint64_t);
  }
  // Before the device can use it, or the interrupt for that would be missed.
  (void)queue_->enable_interrupts();
  const GuestBuffer whole{buffer_.address, static_cast<std::uint32_t>(to - buffer_.bytes.data())};
  return queue_->add(std::span(&whole, 1), {}, 0) && queue_->publish();
}

bool StatsSender::post_if_asked() { return queue_->take_used() && post(); }

}  // namespace vballoon::sim
