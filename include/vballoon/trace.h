// SPDX-License-Identifier: MIT
// What passes between a driver and a device, for whoever records it.              room: device
#ifndef VBALLOON_TRACE_H_
#define VBALLOON_TRACE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "vballoon/device_queue.h"
#include "vballoon/export.h"
#include "vballoon/features.h"
#include "vballoon/guest_buffer.h"
#include "vballoon/guest_memory.h"

namespace vballoon {

// How much of a message's payload a trace is shown.
inline constexpr std::size_t kMaxTracedBytes = std::size_t{64} << 10;

// Told by a device, and by the transport in front of it, in the order in which things happen to
// each queue. Called on the threads that bring them, some at the same time, with locks of the
// device held: must not call the device, and the faster it is the less it changes what it looks at.
class VBALLOON_EXPORT Trace {
 public:
  virtual ~Trace() = default;

  // The device has this memory from now on.
  virtual void memory(const GuestMemory& memory) = 0;
  virtual void reset() = 0;
  // The driver has set FEATURES_OK.
  virtual void features(Features negotiated) = 0;
  // Rings were taken into use.
  virtual void queue(std::uint16_t index, const QueueConfig& config) = 0;
  // The driver kicked a queue; told by transports that see it.
  virtual void kick(std::uint16_t queue) = 0;
  // The device has taken a chain: its buffers, and what stood in the readable ones, up to
  // kMaxTracedBytes of it. A driver may have changed that when the device reads it.
  virtual void message(std::uint16_t queue, std::span<const GuestBuffer> readable,
                       std::span<const GuestBuffer> writable,
                       std::span<const std::byte> payload) = 0;
  // The driver wrote to the configuration space, allowed or not.
  virtual void config_write(std::uint64_t offset, std::span<const std::byte> bytes) = 0;
  // The host changed what stands there.
  virtual void target(std::uint32_t pages) = 0;
  virtual void hint_command(std::uint32_t id) = 0;
};

}  // namespace vballoon

#endif  // VBALLOON_TRACE_H_
