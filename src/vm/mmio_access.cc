// SPDX-License-Identifier: MIT
#include "vm/mmio_access.h"

#include <fmt/format.h>

#include <utility>

#include "vballoon/balloon_registers.h"

namespace vballoon::sim {
namespace {

// How often a register is read before what it should say is given up.
constexpr int kReads = 1000;

}  // namespace

MmioWindow window_of(MmioTransport& transport) {
  return {.read = [&transport](std::uint64_t offset,
                               unsigned size) { return transport.read(offset, size); },
          .write = [&transport](std::uint64_t offset, unsigned size,
                                std::uint64_t value) { transport.write(offset, size, value); }};
}

std::uint32_t MmioAccess::get(MmioRegister which) const {
  return static_cast<std::uint32_t>(window_.read(static_cast<std::uint64_t>(which), 4));
}

void MmioAccess::set(MmioRegister which, std::uint32_t value) {
  window_.write(static_cast<std::uint64_t>(which), 4, value);
}

bool MmioAccess::becomes_zero(MmioRegister which) const {
  for (int reads = 0; reads < kReads; ++reads) {
    if (get(which) == 0) return true;
  }
  return false;
}

Result<std::unique_ptr<MmioAccess>> MmioAccess::probe(MmioWindow window) {
  std::unique_ptr<MmioAccess> access(new MmioAccess(std::move(window)));
  const std::uint32_t magic = access->get(MmioRegister::kMagicValue);
  if (magic != kMmioMagic) {
    return fail(Errc::kNotSupported, fmt::format("no virtio-mmio device: magic {:#x}", magic));
  }
  const std::uint32_t version = access->get(MmioRegister::kVersion);
  if (version != kMmioVersion) {
    return fail(Errc::kNotSupported, fmt::format("virtio-mmio version {}, not 2", version));
  }
  const std::uint32_t id = access->get(MmioRegister::kDeviceId);
  if (id == 0) return nullptr;
  if (id != kBalloonDeviceId) {
    return fail(Errc::kNotSupported, fmt::format("virtio device {}, no balloon", id));
  }
  return access;
}

Features MmioAccess::read_features() {
  std::uint64_t bits = 0;
  for (const std::uint32_t half : {0U, 1U}) {
    set(MmioRegister::kDeviceFeaturesSel, half);
    bits |= std::uint64_t{get(MmioRegister::kDeviceFeatures)} << (32 * half);
  }
  return Features(bits);
}

void MmioAccess::write_features(Features accepted) {
  for (const std::uint32_t half : {0U, 1U}) {
    set(MmioRegister::kDriverFeaturesSel, half);
    set(MmioRegister::kDriverFeatures, static_cast<std::uint32_t>(accepted.bits() >> (32 * half)));
  }
}

std::uint8_t MmioAccess::read_status() {
  return static_cast<std::uint8_t>(get(MmioRegister::kStatus));
}

void MmioAccess::write_status(std::uint8_t status) { set(MmioRegister::kStatus, status); }

// Between two equal generations nothing has changed (2.5.1).
std::uint32_t MmioAccess::read_config(std::uint64_t offset) {
  std::uint32_t generation = get(MmioRegister::kConfigGeneration);
  for (;;) {
    const auto value = static_cast<std::uint32_t>(window_.read(kMmioConfig + offset, 4));
    const std::uint32_t before = std::exchange(generation, get(MmioRegister::kConfigGeneration));
    if (generation == before) return value;
  }
}

void MmioAccess::write_config(std::uint64_t offset, std::uint32_t value) {
  window_.write(kMmioConfig + offset, 4, value);
}

Result<void> MmioAccess::set_queue(std::uint16_t index, const QueueConfig& config) {
  set(MmioRegister::kQueueSel, index);
  if (get(MmioRegister::kQueueReady) != 0 || config.size > get(MmioRegister::kQueueSizeMax)) {
    return fail(Errc::kBadQueueConfig, fmt::format("queue {} of the device", index));
  }
  set(MmioRegister::kQueueSize, config.size);
  const auto set_address = [this](MmioRegister low, MmioRegister high, std::uint64_t address) {
    set(low, static_cast<std::uint32_t>(address));
    set(high, static_cast<std::uint32_t>(address >> 32));
  };
  set_address(MmioRegister::kQueueDescLow, MmioRegister::kQueueDescHigh, config.descriptor_table);
  set_address(MmioRegister::kQueueDriverLow, MmioRegister::kQueueDriverHigh, config.available_ring);
  set_address(MmioRegister::kQueueDeviceLow, MmioRegister::kQueueDeviceHigh, config.used_ring);
  set(MmioRegister::kQueueReady, 1);
  if (get(MmioRegister::kQueueReady) != 1) {
    return fail(Errc::kBadQueueConfig, fmt::format("the device does not take queue {}", index));
  }
  return {};
}

// 4.2.2.2: it is over when QueueReset reads 0.
Result<void> MmioAccess::reset_queue(std::uint16_t index) {
  set(MmioRegister::kQueueSel, index);
  set(MmioRegister::kQueueReset, 1);
  if (becomes_zero(MmioRegister::kQueueReset)) return {};
  return fail(Errc::kNotSupported, fmt::format("the reset of queue {} does not end", index));
}

// 4.2.2.2: read back, to see that it has stopped.
Result<void> MmioAccess::stop_queue(std::uint16_t index) {
  set(MmioRegister::kQueueSel, index);
  set(MmioRegister::kQueueReady, 0);
  if (becomes_zero(MmioRegister::kQueueReady)) return {};
  return fail(Errc::kNotSupported, fmt::format("queue {} does not stop", index));
}

void MmioAccess::notify(std::uint16_t queue) { set(MmioRegister::kQueueNotify, queue); }

void MmioAccess::notify_with_data(std::uint16_t queue, std::uint16_t next) {
  set(MmioRegister::kQueueNotify, queue | std::uint32_t{next} << 16);
}

std::uint32_t MmioAccess::take_interrupt() {
  const std::uint32_t status =
      get(MmioRegister::kInterruptStatus) & (kMmioUsedBuffer | kMmioConfigChange);
  if (status != 0) set(MmioRegister::kInterruptAck, status);
  return status;
}

}  // namespace vballoon::sim
