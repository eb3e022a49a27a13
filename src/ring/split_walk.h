// SPDX-License-Identifier: MIT
// Follows one descriptor chain of an untrusted driver in a split ring (virtio 1.3, sections 2.7.4
// and 2.7.5).
#ifndef VBALLOON_SRC_RING_SPLIT_WALK_H_
#define VBALLOON_SRC_RING_SPLIT_WALK_H_

#include <cstdint>
#include <optional>
#include <span>

#include "ring/chain_buffers.h"
#include "ring/device_memory.h"
#include "ring/split_layout.h"
#include "vballoon/error.h"
#include "vballoon/guest_buffer.h"

namespace vballoon {

// Copies the buffers of the chain at `head` to `buffers`, which has room for a queue's size of
// them; each descriptor is read once. Returns why the chain is malformed, if it is. Requires head <
// layout.size().
[[nodiscard]] std::optional<Errc> walk_chain(const DeviceMemory& memory, const SplitLayout& layout,
                                             bool indirect_negotiated, std::uint16_t head,
                                             std::span<GuestBuffer> buffers, WalkedChain& chain);

}  // namespace vballoon

#endif  // VBALLOON_SRC_RING_SPLIT_WALK_H_
