// SPDX-License-Identifier: MIT
// What a front end has said about one ring.
#ifndef VBALLOON_SRC_TRANSPORT_VHOST_USER_RING_H_
#define VBALLOON_SRC_TRANSPORT_VHOST_USER_RING_H_

#include <cstdint>
#include <optional>

#include "base/unique_fd.h"
#include "transport/vhost_user_protocol.h"
#include "vballoon/device_queue.h"

namespace vballoon::vhost_user {

struct Ring {
  std::uint16_t size = 0;
  std::optional<VringAddr> addresses;  // the front end's own: resolved again when memory changes
  QueuePosition position;              // where it begins, or goes on
  bool base_is_zero = false;           // as the front end said, of a ring that did not run here
  UniqueFd kick;
  UniqueFd call;
  UniqueFd error;
  bool kickable = false;  // a kick has a way to come: by `kick`, or in-band
  bool kicked = false;    // and one came before the ring could be served
  bool enabled = false;
  bool running = false;        // the device has it
  bool ran = false;            // it had, since the device was reset
  bool failure_told = false;   // by `error`, since it began
  bool position_told = false;  // since it ran the front end has asked where it stands

  // It has all that it takes.
  [[nodiscard]] bool complete() const { return addresses && size != 0 && enabled && kickable; }
};

// How a position stands in SET_VRING_BASE and GET_VRING_BASE. Split rings have one index, packed
// ones two with the wrap counter as bit 15 each.
inline std::uint32_t encode_base(const QueuePosition& position, bool packed) {
  if (!packed) return position.next_available;
  const auto half = [](std::uint16_t place, bool wrap) {
    return static_cast<std::uint32_t>(place & 0x7FFF) | (wrap ? 0x8000U : 0U);
  };
  return half(position.next_available, position.available_wrap) |
         half(position.next_used, position.used_wrap) << 16;
}

// All buffers before that place were used: a queue stops in no other way.
inline QueuePosition decode_base(std::uint32_t base, bool packed) {
  if (!packed) {
    const auto index = static_cast<std::uint16_t>(base);
    return {.next_available = index, .next_used = index};
  }
  return {.next_available = static_cast<std::uint16_t>(base & 0x7FFF),
          .next_used = static_cast<std::uint16_t>(base >> 16 & 0x7FFF),
          .available_wrap = (base & 0x8000) != 0,
          .used_wrap = (base >> 31) != 0};
}

}  // namespace vballoon::vhost_user

#endif  // VBALLOON_SRC_TRANSPORT_VHOST_USER_RING_H_
