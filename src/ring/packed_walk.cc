// SPDX-License-Identifier: MIT
#include "ring/packed_walk.h"

#include <cassert>

namespace vballoon {
namespace {

class ListWalk {
 public:
  ListWalk(const DeviceMemory& memory, const PackedLayout& layout, bool indirect_negotiated,
           std::span<GuestBuffer> buffers, WalkedChain& chain)
      : memory_(memory),
        indirect_negotiated_(indirect_negotiated),
        buffers_(memory, buffers.first(layout.size()), chain) {}

  // `alone`: neither behind another descriptor nor in front of one.
  std::optional<Errc> take(const PackedDescriptor& descriptor, bool alone) {
    if ((descriptor.flags & kDescriptorIndirect) == 0) {
      return buffers_.take({descriptor.address, descriptor.length},
                           (descriptor.flags & kDescriptorWrite) != 0);
    }
    if (!indirect_negotiated_) return Errc::kIndirectNotNegotiated;
    return alone ? walk_indirect(descriptor) : Errc::kBadIndirectTable;
  }

 private:
  // The flag WRITE has no meaning in the descriptor that names a table, and is the only one that
  // has a meaning inside; the entries follow one another without NEXT (2.8.7). Ends: every turn
  // takes one of the queue's size of buffers.
  std::optional<Errc> walk_indirect(const PackedDescriptor& table) {
    const IndirectTable measured = measure_table(table.address, table.length);
    if (measured.error) return measured.error;
    for (std::uint32_t i = 0; i < measured.entries; ++i) {
      PackedDescriptor descriptor;
      if (!memory_.read(table.address + sizeof(PackedDescriptor) * i,
                        std::as_writable_bytes(std::span(&descriptor, 1)))) {
        return Errc::kAddressOutOfRange;
      }
      const bool writable = (descriptor.flags & kDescriptorWrite) != 0;
      if (const auto error = buffers_.take({descriptor.address, descriptor.length}, writable)) {
        return error;
      }
    }
    return std::nullopt;
  }

  const DeviceMemory& memory_;
  const bool indirect_negotiated_;
  ChainBuffers buffers_;
};

}  // namespace

// A list that is malformed is followed to its end: the id that returns it stands there.
std::optional<Errc> walk_list(const DeviceMemory& memory, const PackedLayout& layout,
                              bool indirect_negotiated, PackedPlace place, std::uint16_t room,
                              std::span<GuestBuffer> buffers, PackedList& list,
                              WalkedChain& chain) {
  assert(room != 0 && room <= layout.size() && buffers.size() >= layout.size());
  std::uint16_t flags = layout.flags(place.index()).load(std::memory_order_acquire);
  if (!is_available(flags, place.wrap())) return std::nullopt;

  ListWalk walk(memory, layout, indirect_negotiated, buffers, chain);
  std::uint16_t entries = 0;
  std::optional<Errc> error;
  while (true) {
    const PackedDescriptor descriptor = layout.load_descriptor(place.index(), flags);
    const bool last = (flags & kDescriptorNext) == 0;
    if (!error) error = walk.take(descriptor, last && entries == 0);
    list = {descriptor.id, ++entries};
    if (last) return error;
    if (entries == room) return error.value_or(Errc::kDescriptorLoop);
    place.advance(1, layout.size());
    flags = layout.flags(place.index()).load(std::memory_order_acquire);
    if (!is_available(flags, place.wrap())) {
      return error.value_or(Errc::kDescriptorIndexOutOfRange);
    }
  }
}

}  // namespace vballoon
