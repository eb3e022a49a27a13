// SPDX-License-Identifier: MIT
#include "ring/split_walk.h"

#include <cassert>

namespace vballoon {
namespace {

class SplitWalk {
 public:
  SplitWalk(const DeviceMemory& memory, const SplitLayout& layout, bool indirect_negotiated,
            std::span<GuestBuffer> buffers, WalkedChain& chain)
      : memory_(memory),
        layout_(layout),
        indirect_negotiated_(indirect_negotiated),
        buffers_(memory, buffers.first(layout.size()), chain) {}

  std::optional<Errc> walk_table(std::uint16_t head) {
    std::uint16_t index = head;
    // Ends: every turn but the last takes one of the queue's size of buffers.
    while (true) {
      const Descriptor descriptor = layout_.load_descriptor(index);
      if ((descriptor.flags & kDescriptorIndirect) != 0) return walk_indirect(descriptor);
      if (const auto error = take(descriptor)) return error;
      if ((descriptor.flags & kDescriptorNext) == 0) return std::nullopt;
      index = descriptor.next;
      if (index >= layout_.size()) return Errc::kDescriptorIndexOutOfRange;
    }
  }

 private:
  // The flag WRITE has no meaning in the descriptor that names a table (2.7.5.3.2).
  std::optional<Errc> walk_indirect(const Descriptor& table) {
    if (!indirect_negotiated_) return Errc::kIndirectNotNegotiated;
    if ((table.flags & kDescriptorNext) != 0) return Errc::kBadIndirectTable;
    const IndirectTable measured = measure_table(table.address, table.length);
    if (measured.error) return measured.error;
    std::uint32_t index = 0;
    while (true) {
      Descriptor descriptor;
      if (!memory_.read(table.address + sizeof(Descriptor) * index,
                        std::as_writable_bytes(std::span(&descriptor, 1)))) {
        return Errc::kAddressOutOfRange;
      }
      if ((descriptor.flags & kDescriptorIndirect) != 0) return Errc::kBadIndirectTable;
      if (const auto error = take(descriptor)) return error;
      if ((descriptor.flags & kDescriptorNext) == 0) return std::nullopt;
      index = descriptor.next;
      if (index >= measured.entries) return Errc::kDescriptorIndexOutOfRange;
    }
  }

  std::optional<Errc> take(const Descriptor& descriptor) {
    return buffers_.take({descriptor.address, descriptor.length},
                         (descriptor.flags & kDescriptorWrite) != 0);
  }

  const DeviceMemory& memory_;
  const SplitLayout& layout_;
  const bool indirect_negotiated_;
  ChainBuffers buffers_;
};

}  // namespace

std::optional<Errc> walk_chain(const DeviceMemory& memory, const SplitLayout& layout,
                               bool indirect_negotiated, std::uint16_t head,
                               std::span<GuestBuffer> buffers, WalkedChain& chain) {
  assert(head < layout.size() && buffers.size() >= layout.size());
  return SplitWalk(memory, layout, indirect_negotiated, buffers, chain).walk_table(head);
}

}  // namespace vballoon
