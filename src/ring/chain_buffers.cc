// SPDX-License-Identifier: MIT
#include "ring/chain_buffers.h"

#include <limits>

namespace vballoon {
namespace {

constexpr std::uint32_t kDescriptorBytes = 16;  // in both layouts

}  // namespace

// Ends: each turn takes one of the queue's size of buffers. A buffer of length 0 has no address
// that could be reached, and stays as it is.
std::optional<Errc> ChainBuffers::put_translated(const DeviceMemory& memory, GuestBuffer buffer,
                                                 bool writable, std::span<GuestBuffer> buffers,
                                                 WalkedChain& chain) {
  if (buffer.length == 0) return put(buffer, writable, buffers, chain);
  if (buffer.address > std::numeric_limits<std::uint64_t>::max() - buffer.length) {
    return Errc::kAddressOutOfRange;
  }
  while (buffer.length != 0) {
    const auto piece = memory.translate(buffer.address, buffer.length, writable);
    if (!piece) return Errc::kAddressOutOfRange;
    const auto length = static_cast<std::uint32_t>(piece->length);
    if (const auto error = put({piece->guest_address, length}, writable, buffers, chain)) {
      return error;
    }
    buffer.address += length;
    buffer.length -= length;
  }
  return std::nullopt;
}

IndirectTable measure_table(std::uint64_t address, std::uint32_t bytes) {
  if (bytes == 0 || bytes % kDescriptorBytes != 0) return {.error = Errc::kBadIndirectTable};
  if (address > std::numeric_limits<std::uint64_t>::max() - bytes) {
    return {.error = Errc::kAddressOutOfRange};
  }
  return {.entries = bytes / kDescriptorBytes};
}

}  // namespace vballoon
