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

}  // namespace vballoon
