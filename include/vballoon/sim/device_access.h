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
  // Kicks a queue. May serve it before returning.
  virtual void notify(std::uint16_t queue) = 0;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SIM_DEVICE_ACCESS_H_
