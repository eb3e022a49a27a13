// SPDX-License-Identifier: MIT
// The buffers of one descriptor chain, checked as they are taken, for both layouts.
#ifndef VBALLOON_SRC_RING_CHAIN_BUFFERS_H_
#define VBALLOON_SRC_RING_CHAIN_BUFFERS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "ring/device_memory.h"
#include "ring/ring_field.h"
#include "vballoon/error.h"
#include "vballoon/guest_buffer.h"

namespace vballoon {

// What a walk found: the readable buffers stand in front of the writable ones.
struct WalkedChain {
  std::uint32_t readable = 0;
  std::uint32_t writable = 0;
  std::uint64_t readable_bytes = 0;
};

class ChainBuffers {
 public:
  // At most as many as `buffers` has room for.
  ChainBuffers(const DeviceMemory& memory, std::span<GuestBuffer> buffers, WalkedChain& chain)
      : memory_(memory), buffers_(buffers), chain_(chain) {}

  // Takes the buffer of the next descriptor, in pieces where it is translated; says what is wrong
  // with it, if something is. Without translation its address is not checked.
  [[nodiscard]] std::optional<Errc> take(GuestBuffer buffer, bool writable) {
    bytes_ += buffer.length;
    if (bytes_ > kMaxChainBytes) return Errc::kChainTooLarge;
    if (!writable && chain_.writable != 0) return Errc::kReadableAfterWritable;
    return memory_.translates() ? put_translated(memory_, buffer, writable, buffers_, chain_)
                                : put(buffer, writable, buffers_, chain_);
  }

 private:
  // Not members, so that what a walk keeps on the way can stay in registers.
  [[nodiscard]] static std::optional<Errc> put(GuestBuffer buffer, bool writable,
                                               std::span<GuestBuffer> buffers, WalkedChain& chain) {
    const std::size_t count = chain.readable + chain.writable;
    if (count == buffers.size()) return Errc::kDescriptorLoop;
    if (writable) {
      ++chain.writable;
    } else {
      ++chain.readable;
      chain.readable_bytes += buffer.length;
    }
    buffers[count] = buffer;
    return std::nullopt;
  }
  [[nodiscard]] static std::optional<Errc> put_translated(const DeviceMemory& memory,
                                                          GuestBuffer buffer, bool writable,
                                                          std::span<GuestBuffer> buffers,
                                                          WalkedChain& chain);

  const DeviceMemory& memory_;
  const std::span<GuestBuffer> buffers_;
  WalkedChain& chain_;
  std::uint64_t bytes_ = 0;
};

// How many descriptors the indirect table of `bytes` bytes at `address` has, or what is wrong with
// it.
struct IndirectTable {
  std::uint32_t entries = 0;
  std::optional<Errc> error = std::nullopt;
};
[[nodiscard]] IndirectTable measure_table(std::uint64_t address, std::uint32_t bytes);

}  // namespace vballoon

#endif  // VBALLOON_SRC_RING_CHAIN_BUFFERS_H_
