// SPDX-License-Identifier: MIT
// What a driver sees of a device: registers, queue set-up and kicks.              room: guest
//
// The simulated driver reaches a device only through this, as a guest does through a transport.
#ifndef VBALLOON_SIM_DEVICE_ACCESS_H_
#define VBALLOON_SIM_DEVICE_ACCESS_H_

#include <cstdint>

#include "vballoon/device_queue.h"
#include "vballoon/export.h"
#include "vballoon/features.h"
#include "vballoon/result.h"

namespace vballoon::sim {

class VBALLOON_EXPORT DeviceAccess {
 public:
  virtual ~DeviceAccess() = default;

  [[nodiscard]] virtual Features read_features() = 0;
  virtual void write_features(Features accepted) = 0;
  [[nodiscard]] virtual std::uint8_t read_status() = 0;
  virtual void write_status(std::uint8_t status) = 0;
  // le32 fields of the configuration space, in the byte order of this machine.
  [[nodiscard]] virtual std::uint32_t read_config(std::uint64_t offset) = 0;
  virtual void write_config(std::uint64_t offset, std::uint32_t value) = 0;
  [[nodiscard]] virtual Result<void> set_queue(std::uint16_t index, const QueueConfig& config) = 0;
  // With RING_RESET: resets one queue, after which it may be set up again (2.6.1). Fails with
  // kNotSupported when the reset does not end.
  [[nodiscard]] virtual Result<void> reset_queue(std::uint16_t index) = 0;
  // After a reset of the device: gives a queue up. Fails with kNotSupported when it does not stop;
  // there is nothing to do where the reset has stopped all of them.
  [[nodiscard]] virtual Result<void> stop_queue(std::uint16_t /*index*/) { return {}; }
  // Kicks a queue. May serve it before returning.
  virtual void notify(std::uint16_t queue) = 0;
  // The same with NOTIFICATION_DATA (2.9): `next` says where the next buffer will become available,
  // which a device that looks at the ring need not be told.
  virtual void notify_with_data(std::uint16_t queue, std::uint16_t /*next*/) { notify(queue); }
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SIM_DEVICE_ACCESS_H_
