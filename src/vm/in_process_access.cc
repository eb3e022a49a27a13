// SPDX-License-Identifier: MIT
#include "vm/in_process_access.h"

#include <array>
#include <cstddef>
#include <utility>

namespace vballoon::sim {

InProcessAccess::InProcessAccess(BalloonDevice& device, std::function<void(std::uint16_t)> kick)
    : device_(device), kick_(std::move(kick)) {}

Features InProcessAccess::read_features() { return device_.offered_features(); }

void InProcessAccess::write_features(Features accepted) { device_.write_features(accepted); }

std::uint8_t InProcessAccess::read_status() { return device_.read_status(); }

void InProcessAccess::write_status(std::uint8_t status) { device_.write_status(status); }

std::uint32_t InProcessAccess::read_config(std::uint64_t offset) {
  std::array<std::byte, 4> bytes{};
  device_.read_config(offset, bytes);
  std::uint32_t value = 0;
  for (unsigned i = 0; i < 4; ++i) value |= std::to_integer<std::uint32_t>(bytes[i]) << (8 * i);
  return value;
}

void InProcessAccess::write_config(std::uint64_t offset, std::uint32_t value) {
  std::array<std::byte, 4> bytes{};
  for (unsigned i = 0; i < 4; ++i) bytes[i] = static_cast<std::byte>(value >> (8 * i));
  device_.write_config(offset, bytes);
}

Result<void> InProcessAccess::set_queue(std::uint16_t index, const QueueConfig& config) {
  return device_.set_queue(index, config);
}

Result<void> InProcessAccess::reset_queue(std::uint16_t index) {
  device_.reset_queue(index);
  return {};
}

void InProcessAccess::notify(std::uint16_t queue) { kick_(queue); }

}  // namespace vballoon::sim
