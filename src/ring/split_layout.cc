// SPDX-License-Identifier: MIT
#include "ring/split_layout.h"

#include <bit>

namespace vballoon {
std::optional<SplitLayout> SplitLayout::locate(const DeviceMemory& memory,
                                               const QueueConfig& config) {
  if (!std::has_single_bit(config.size) || config.size > kMaxQueueSize) return std::nullopt;
  SplitLayout layout;
  layout.size_ = config.size;
  layout.descriptors_ =
      memory.locate(config.descriptor_table, descriptor_table_bytes(config.size), 16, false);
  layout.available_ =
      memory.locate(config.available_ring, available_ring_bytes(config.size), 2, false);
  layout.used_ = memory.locate(config.used_ring, used_ring_bytes(config.size), 4, true);
  if (layout.descriptors_ == nullptr || layout.available_ == nullptr || layout.used_ == nullptr) {
    return std::nullopt;
  }
  return layout;
}

Descriptor SplitLayout::load_descriptor(std::uint16_t index) const {
  std::byte* const at = descriptors_ + sizeof(Descriptor) * index;
  return {GuestField<std::uint64_t>(at + offsetof(Descriptor, address)).load(),
          GuestField<std::uint32_t>(at + offsetof(Descriptor, length)).load(),
          GuestField<std::uint16_t>(at + offsetof(Descriptor, flags)).load(),
          GuestField<std::uint16_t>(at + offsetof(Descriptor, next)).load()};
}

void SplitLayout::store_descriptor(std::uint16_t index, const Descriptor& descriptor) const {
  std::byte* const at = descriptors_ + sizeof(Descriptor) * index;
  GuestField<std::uint64_t>(at + offsetof(Descriptor, address)).store(descriptor.address);
  GuestField<std::uint32_t>(at + offsetof(Descriptor, length)).store(descriptor.length);
  GuestField<std::uint16_t>(at + offsetof(Descriptor, flags)).store(descriptor.flags);
  GuestField<std::uint16_t>(at + offsetof(Descriptor, next)).store(descriptor.next);
}

UsedElement SplitLayout::load_used(std::uint16_t index) const {
  std::byte* const at = used_ + 4 + sizeof(UsedElement) * slot(index);
  return {GuestField<std::uint32_t>(at + offsetof(UsedElement, id)).load(),
          GuestField<std::uint32_t>(at + offsetof(UsedElement, length)).load()};
}

void SplitLayout::store_used(std::uint16_t index, UsedElement element) const {
  std::byte* const at = used_ + 4 + sizeof(UsedElement) * slot(index);
  GuestField<std::uint32_t>(at + offsetof(UsedElement, id)).store(element.id);
  GuestField<std::uint32_t>(at + offsetof(UsedElement, length)).store(element.length);
}

}  // namespace vballoon
