// SPDX-License-Identifier: MIT
// Follows one list of descriptors of an untrusted driver in a packed ring (virtio 1.3, sections
// 2.8.6 and 2.8.7).
#ifndef VBALLOON_SRC_RING_PACKED_WALK_H_
#define VBALLOON_SRC_RING_PACKED_WALK_H_

#include <cstdint>
#include <optional>
#include <span>

#include "ring/chain_buffers.h"
#include "ring/device_memory.h"
#include "ring/packed_layout.h"
#include "vballoon/error.h"
#include "vballoon/guest_buffer.h"

namespace vballoon {

struct PackedList {
  std::uint16_t id = 0;       // of the buffer, from the last descriptor
  std::uint16_t entries = 0;  // of the ring: both sides skip as many; 0: none is available
};

// Copies the buffers of the list at `place` to `buffers`, which has room for a queue's size of
// them; each descriptor is read once, and not before its flags say that it is available. A list
// ends after `room` entries (at least one), whatever its flags say. Says why the list is malformed,
// if it is; `list` is right all the same.
[[nodiscard]] std::optional<Errc> walk_list(const DeviceMemory& memory, const PackedLayout& layout,
                                            bool indirect_negotiated, PackedPlace place,
                                            std::uint16_t room, std::span<GuestBuffer> buffers,
                                            PackedList& list, WalkedChain& chain);

}  // namespace vballoon

#endif  // VBALLOON_SRC_RING_PACKED_WALK_H_
