// SPDX-License-Identifier: MIT
// A device queue of eight entries in 1 MiB of guest memory, driven by hand.
#ifndef VBALLOON_TESTS_RING_DEVICE_QUEUE_FIXTURE_H_
#define VBALLOON_TESTS_RING_DEVICE_QUEUE_FIXTURE_H_

#include <cstdint>
#include <vector>

#include "ring/queue_fixture.h"
#include "ring/raw_ring.h"

namespace vballoon::testing {

class DeviceQueueFixture : public RingFixture<RawRing> {
 protected:
  DeviceQueueFixture() : RingFixture(raw_config(kSize)) {}

  // Offers, takes and returns `count` chains, one after the other.
  void turn(std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      ring_.offer(0, {kPayload, 16, 0, 0});
      pop_chain().complete();
      (void)queue_.publish();
    }
  }
  // What the driver sees returned since `from`.
  std::vector<RawUsed> returned(std::uint16_t from = 0) const {
    std::vector<RawUsed> all;
    for (std::uint16_t i = from; i != ring_.used_index(); ++i) all.push_back(ring_.used(i));
    return all;
  }
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_RING_DEVICE_QUEUE_FIXTURE_H_
