// SPDX-License-Identifier: MIT
// The driver's way to a device through the registers of virtio-mmio (virtio 1.3, section 4.2), and
// nothing else.
#ifndef VBALLOON_SRC_VM_MMIO_ACCESS_H_
#define VBALLOON_SRC_VM_MMIO_ACCESS_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "transport/mmio_registers.h"
#include "vballoon/export.h"
#include "vballoon/result.h"
#include "vballoon/sim/device_access.h"
#include "vballoon/transport/mmio.h"

namespace vballoon::sim {

// Accesses to a device's registers, as a virtual processor's exits hand them over.
struct MmioWindow {
  std::function<std::uint64_t(std::uint64_t offset, unsigned size)> read;
  std::function<void(std::uint64_t offset, unsigned size, std::uint64_t value)> write;
};

// Those of a transport in this process, which must outlive it.
[[nodiscard]] VBALLOON_EXPORT MmioWindow window_of(MmioTransport& transport);

class VBALLOON_EXPORT MmioAccess final : public DeviceAccess {
 public:
  // Finds out what is there (4.2.3.1.1). Fails with kNotSupported when it is no device of virtio
  // 1, or no balloon; nullptr where a place is kept for a device and there is none, which is no
  // error.
  [[nodiscard]] static Result<std::unique_ptr<MmioAccess>> probe(MmioWindow window);

  Features read_features() override;
  void write_features(Features accepted) override;
  std::uint8_t read_status() override;
  void write_status(std::uint8_t status) override;
  std::uint32_t read_config(std::uint64_t offset) override;
  void write_config(std::uint64_t offset, std::uint32_t value) override;
  Result<void> set_queue(std::uint16_t index, const QueueConfig& config) override;
  Result<void> reset_queue(std::uint16_t index) override;
  Result<void> stop_queue(std::uint16_t index) override;
  void notify(std::uint16_t queue) override;
  void notify_with_data(std::uint16_t queue, std::uint16_t next) override;

  // After an interrupt: what it was for (kMmioUsedBuffer, kMmioConfigChange), acknowledged. Other
  // bits have no meaning and are left alone.
  std::uint32_t take_interrupt();

 private:
  explicit MmioAccess(MmioWindow window) : window_(std::move(window)) {}

  [[nodiscard]] std::uint32_t get(MmioRegister which) const;
  void set(MmioRegister which, std::uint32_t value);
  [[nodiscard]] bool becomes_zero(MmioRegister which) const;

  const MmioWindow window_;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SRC_VM_MMIO_ACCESS_H_
