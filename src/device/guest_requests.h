// SPDX-License-Identifier: MIT
// What the device says to the guest over the queues for requests, and when (wire/guest_request.h).
//
// Rules only: whoever owns this serves the queues and orders the calls.
#ifndef VBALLOON_SRC_DEVICE_GUEST_REQUESTS_H_
#define VBALLOON_SRC_DEVICE_GUEST_REQUESTS_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "device/hint_round.h"
#include "vballoon/balloon_device.h"
#include "wire/guest_request.h"

namespace vballoon {

// What the device keeps of the buffers that the driver posts for requests. A driver needs one, and
// posts another where it cannot know whether the first is lost (after a migration).
inline constexpr std::size_t kMaxHeldBuffers = 4;

class GuestRequests {
 public:
  void reset() { *this = GuestRequests(); }
  // Goes on with a guest of which it is not known what it does.
  void restored() {
    reset();
    walking_ = true;
  }

  // ---- request queue

  void drop_cache(CacheKinds kinds) { drop_wanted_ = kinds; }
  [[nodiscard]] bool cache_drop_pending() const { return drop_wanted_ || drop_asked_; }
  void cache_dropped(std::uint16_t id) {
    if (drop_asked_ && id == static_cast<std::uint16_t>(*drop_asked_)) drop_asked_.reset();
  }

  // The next request, if there is one; sent() is told when the guest has it.
  [[nodiscard]] std::optional<GuestRequest> next_request(const HintRound& hints) const;
  void sent(const GuestRequest& request, HintRound& hints);

  // ---- control queue

  // The guest begins to look at its memory with START, and at a later one anew. Before another
  // START is sent it must have come to its end: what it names until then is of the round before.
  [[nodiscard]] std::optional<ControlCommand> next_command(const HintRound& hints) const;
  void sent(ControlCommand command, HintRound& hints);
  // The driver has posted a buffer: it has seen what was sent before.
  void buffer_posted();
  // The guest says that it has named all it had. What it named may still lie in its queue.
  void walk_ended();
  [[nodiscard]] bool all_named() const { return all_named_; }

 private:
  std::optional<CacheKinds> drop_wanted_;
  std::optional<CacheKinds> drop_asked_;  // and not answered

  bool walking_ = false;    // the guest may be looking at its memory
  bool told_stop_ = false;  // and is to stop that
  bool all_named_ = false;  // in this round
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_DEVICE_GUEST_REQUESTS_H_
