// SPDX-License-Identifier: MIT
#include "ring/packed_layout.h"

namespace vballoon {

std::optional<PackedLayout> PackedLayout::locate(const DeviceMemory& memory,
                                                 const QueueConfig& config) {
  if (config.size == 0 || config.size > kMaxQueueSize) return std::nullopt;
  PackedLayout layout;
  layout.size_ = config.size;
  layout.descriptors_ =
      memory.locate(config.descriptor_table, packed_ring_bytes(config.size), 16, true);
  layout.driver_event_ = memory.locate(config.available_ring, kPackedEventBytes, 4, false);
  layout.device_event_ = memory.locate(config.used_ring, kPackedEventBytes, 4, true);
  if (layout.descriptors_ == nullptr || layout.driver_event_ == nullptr ||
      layout.device_event_ == nullptr) {
    return std::nullopt;
  }
  return layout;
}

PackedDescriptor PackedLayout::load_descriptor(std::uint16_t index, std::uint16_t flags) const {
  std::byte* const at = descriptors_ + sizeof(PackedDescriptor) * index;
  return {GuestField<std::uint64_t>(at + offsetof(PackedDescriptor, address)).load(),
          GuestField<std::uint32_t>(at + offsetof(PackedDescriptor, length)).load(),
          GuestField<std::uint16_t>(at + offsetof(PackedDescriptor, id)).load(), flags};
}

void PackedLayout::store_descriptor(std::uint16_t index, const PackedDescriptor& descriptor) const {
  std::byte* const at = descriptors_ + sizeof(PackedDescriptor) * index;
  GuestField<std::uint64_t>(at + offsetof(PackedDescriptor, address)).store(descriptor.address);
  store_used(index, descriptor.id, descriptor.length);
}

void PackedLayout::store_used(std::uint16_t index, std::uint16_t id, std::uint32_t length) const {
  std::byte* const at = descriptors_ + sizeof(PackedDescriptor) * index;
  GuestField<std::uint32_t>(at + offsetof(PackedDescriptor, length)).store(length);
  GuestField<std::uint16_t>(at + offsetof(PackedDescriptor, id)).store(id);
}

}  // namespace vballoon
