// SPDX-License-Identifier: MIT
// The driver's way to a device of the same process: registers by call, without a transport.
#ifndef VBALLOON_SRC_VM_IN_PROCESS_ACCESS_H_
#define VBALLOON_SRC_VM_IN_PROCESS_ACCESS_H_

#include <cstdint>
#include <functional>

#include "vballoon/balloon_device.h"
#include "vballoon/export.h"
#include "vballoon/sim/device_access.h"

namespace vballoon::sim {

class VBALLOON_EXPORT InProcessAccess final : public DeviceAccess {
 public:
  // `device` must outlive it. `kick` has process() called for a queue.
  InProcessAccess(BalloonDevice& device, std::function<void(std::uint16_t queue)> kick);

  Features read_features() override;
  void write_features(Features accepted) override;
  std::uint8_t read_status() override;
  void write_status(std::uint8_t status) override;
  std::uint32_t read_config(std::uint64_t offset) override;
  void write_config(std::uint64_t offset, std::uint32_t value) override;
  Result<void> set_queue(std::uint16_t index, const QueueConfig& config) override;
  Result<void> reset_queue(std::uint16_t index) override;
  void notify(std::uint16_t queue) override;

 private:
  BalloonDevice& device_;
  const std::function<void(std::uint16_t)> kick_;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_VM_IN_PROCESS_ACCESS_H_
