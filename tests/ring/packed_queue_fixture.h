// SPDX-License-Identifier: MIT
// A packed device queue of eight entries in 1 MiB of guest memory, driven by hand.
#ifndef VBALLOON_TESTS_RING_PACKED_QUEUE_FIXTURE_H_
#define VBALLOON_TESTS_RING_PACKED_QUEUE_FIXTURE_H_

#include <cstdint>

#include "ring/queue_fixture.h"
#include "ring/raw_packed_ring.h"

namespace vballoon::testing {

class PackedQueueFixture : public RingFixture<RawPackedRing> {
 protected:
  PackedQueueFixture() : RingFixture(raw_packed_config(kSize)) {}

  void offer(std::uint16_t id) { ring_.append({kPayload, 16, id, 0}); }
  // Takes and returns the next chain, without showing it to the driver.
  void answer(std::uint32_t written = 0) { pop_chain().complete(written); }
  // Offers, takes and returns `count` buffers, one after the other.
  void turn(std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      offer(0);
      answer();
      (void)queue_.publish();
    }
  }
  [[nodiscard]] bool is_used(std::uint16_t index, bool wrap) const {
    return is_used_at({index, wrap}, ring_.read(index));
  }
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_RING_PACKED_QUEUE_FIXTURE_H_
