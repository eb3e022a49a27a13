// SPDX-License-Identifier: MIT
#include "ring/device_memory.h"

#include <algorithm>
#include <cassert>

namespace vballoon {

std::optional<TranslatedPiece> DeviceMemory::translate(std::uint64_t address, std::uint64_t length,
                                                       bool write) const {
  assert(translates() && length != 0);
  auto piece = (*translator_)(address, length, write);
  // A piece without bytes would be asked for again for ever.
  if (!piece || piece->length == 0) return std::nullopt;
  piece->length = std::min(piece->length, length);
  return piece;
}

std::byte* DeviceMemory::locate(std::uint64_t address, std::uint64_t bytes, std::uint64_t alignment,
                                bool write) const {
  if (address % alignment != 0) return nullptr;
  if (!translates()) return memory_.host(address, bytes);
  const auto piece = translate(address, bytes, write);
  // Regions begin on page bounds, so what is aligned in the guest is aligned here.
  if (!piece || piece->length < bytes || piece->guest_address % alignment != 0) return nullptr;
  return memory_.host(piece->guest_address, bytes);
}

bool DeviceMemory::read_translated(std::uint64_t address, std::span<std::byte> out) const {
  while (!out.empty()) {
    const auto piece = translate(address, out.size(), false);
    if (!piece) return false;
    const auto part = out.first(static_cast<std::size_t>(piece->length));
    if (!memory_.read(piece->guest_address, part)) return false;
    address += part.size();
    out = out.subspan(part.size());
  }
  return true;
}

}  // namespace vballoon
