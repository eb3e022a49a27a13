// SPDX-License-Identifier: MIT
#include "vballoon/transport/mmio.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <mutex>
#include <utility>

#include "device/saved_state.h"
#include "transport/mmio_registers.h"
#include "vballoon/balloon_registers.h"

namespace vballoon {
namespace {

constexpr std::uint32_t kNoSharedMemory = 0xFFFFFFFF;
static_assert(kMmioQueueNotify == static_cast<std::uint64_t>(MmioRegister::kQueueNotify));

std::uint32_t low(std::uint64_t value) { return static_cast<std::uint32_t>(value); }
std::uint32_t high(std::uint64_t value) { return static_cast<std::uint32_t>(value >> 32); }
void set_low(std::uint64_t& to, std::uint32_t value) { to = (to >> 32 << 32) | value; }
void set_high(std::uint64_t& to, std::uint32_t value) { to = low(to) | std::uint64_t{value} << 32; }

}  // namespace

// `lock` orders the registers of the transport and is not held over a call that may wait for a
// discard: other virtual processors go on reading. `interrupt_lock` orders the
// interrupt line, which the device raises while registers are written.
struct MmioTransport::Impl {
  Impl(MmioOptions options_in, Trace* trace_in) : options(std::move(options_in)), trace(trace_in) {}

  // What the driver wrote for a queue, before and after it was ready.
  struct Queue {
    QueueConfig config;
    bool ready = false;
    bool resetting = false;
  };

  [[nodiscard]] std::uint32_t read_register(MmioRegister which) const;
  void write_register(MmioRegister which, std::uint32_t value);
  void set_ready(std::uint32_t value);
  void reset_queue();
  void write_status(std::uint8_t value);

  [[nodiscard]] StateWriter state() const;
  [[nodiscard]] Result<void> restore(StateReader in);

  void raise(std::uint32_t bit);
  void acknowledge(std::uint32_t bits);

  [[nodiscard]] Queue* selected() {
    return queue_sel < queues.size() ? &queues[queue_sel] : nullptr;
  }
  [[nodiscard]] const Queue* selected() const {
    return queue_sel < queues.size() ? &queues[queue_sel] : nullptr;
  }
  // The selected queue while its fields may be written.
  [[nodiscard]] Queue* writable() {
    Queue* const queue = selected();
    return queue == nullptr || queue->ready || queue->resetting ? nullptr : queue;
  }

  const MmioOptions options;
  Trace* const trace;
  std::unique_ptr<BalloonDevice> device;

  mutable std::mutex lock;
  std::uint32_t device_features_sel = 0;
  std::uint32_t driver_features_sel = 0;
  std::uint64_t driver_features = 0;
  std::uint32_t queue_sel = 0;
  std::array<Queue, kMaxBalloonQueues> queues;
  std::uint64_t resets = 0;  // of the device: what began before one does not end behind it

  mutable std::mutex interrupt_lock;
  std::uint32_t interrupt_status = 0;
};

// ---- interrupts --------------------------------------------------------------------------------

void MmioTransport::Impl::raise(std::uint32_t bit) {
  const std::lock_guard guard(interrupt_lock);
  // One that was on its way while the driver reset the device is for nobody.
  if ((device->read_status() & kStatusDriverOk) == 0) return;
  const bool was_asserted = interrupt_status != 0;
  interrupt_status |= bit;
  if (!was_asserted && options.interrupt_line) options.interrupt_line(true);
}

void MmioTransport::Impl::acknowledge(std::uint32_t bits) {
  const std::lock_guard guard(interrupt_lock);
  const bool was_asserted = interrupt_status != 0;
  interrupt_status &= ~bits;
  if (was_asserted && interrupt_status == 0 && options.interrupt_line) {
    options.interrupt_line(false);
  }
}

// ---- registers ---------------------------------------------------------------------------------

std::uint32_t MmioTransport::Impl::read_register(MmioRegister which) const {
  switch (which) {
    case MmioRegister::kMagicValue:
      return kMmioMagic;
    case MmioRegister::kVersion:
      return kMmioVersion;
    case MmioRegister::kDeviceId:
      return kBalloonDeviceId;
    case MmioRegister::kVendorId:
      return options.vendor_id;
    case MmioRegister::kStatus:
      return device->read_status();
    case MmioRegister::kConfigGeneration:
      return device->config_generation();
    case MmioRegister::kInterruptStatus: {
      const std::lock_guard guard(interrupt_lock);
      return interrupt_status;
    }
    case MmioRegister::kShmLenLow:
    case MmioRegister::kShmLenHigh:
    case MmioRegister::kShmBaseLow:
    case MmioRegister::kShmBaseHigh:
      return kNoSharedMemory;
    default:
      break;
  }
  const std::lock_guard guard(lock);
  switch (which) {
    case MmioRegister::kDeviceFeatures: {
      const std::uint64_t bits = device->offered_features().bits();
      if (device_features_sel > 1) return 0;
      return device_features_sel == 0 ? low(bits) : high(bits);
    }
    case MmioRegister::kQueueSizeMax:
      return selected() != nullptr && device->has_queue(static_cast<std::uint16_t>(queue_sel))
                 ? kBalloonMaxQueueSize
                 : 0;
    case MmioRegister::kQueueReady:
      return selected() != nullptr && selected()->ready ? 1 : 0;
    case MmioRegister::kQueueReset:
      return selected() != nullptr && selected()->resetting ? 1 : 0;
    default:
      return 0;  // write-only, or none
  }
}

void MmioTransport::Impl::write_register(MmioRegister which, std::uint32_t value) {
  switch (which) {
    case MmioRegister::kQueueNotify:
      // With NOTIFICATION_DATA the upper half says how far the driver is; the rings say so too.
      if (const auto queue = static_cast<std::uint16_t>(value); queue < kMaxBalloonQueues) {
        if (trace != nullptr) trace->kick(queue);
        if (options.queue_notify) options.queue_notify(queue);
      }
      return;
    case MmioRegister::kInterruptAck:
      return acknowledge(value);
    case MmioRegister::kStatus:
      return write_status(static_cast<std::uint8_t>(value));
    case MmioRegister::kQueueReady:
      return set_ready(value);
    case MmioRegister::kQueueReset:
      if (value == 1) reset_queue();
      return;
    default:
      break;
  }
  const std::lock_guard guard(lock);
  switch (which) {
    case MmioRegister::kDeviceFeaturesSel:
      device_features_sel = value;
      return;
    case MmioRegister::kDriverFeaturesSel:
      driver_features_sel = value;
      return;
    case MmioRegister::kDriverFeatures:
      if (driver_features_sel == 0) set_low(driver_features, value);
      if (driver_features_sel == 1) set_high(driver_features, value);
      return device->write_features(Features(driver_features));
    case MmioRegister::kQueueSel:
      queue_sel = value;
      return;
    default:
      break;
  }
  Queue* const queue = writable();
  if (queue == nullptr) return;
  QueueConfig& config = queue->config;
  switch (which) {
    case MmioRegister::kQueueSize:
      // A size that does not fit 16 bits is none that the device would take.
      config.size = value <= kMaxQueueSize ? static_cast<std::uint16_t>(value) : std::uint16_t{0};
      return;
    case MmioRegister::kQueueDescLow:
      return set_low(config.descriptor_table, value);
    case MmioRegister::kQueueDescHigh:
      return set_high(config.descriptor_table, value);
    case MmioRegister::kQueueDriverLow:
      return set_low(config.available_ring, value);
    case MmioRegister::kQueueDriverHigh:
      return set_high(config.available_ring, value);
    case MmioRegister::kQueueDeviceLow:
      return set_low(config.used_ring, value);
    case MmioRegister::kQueueDeviceHigh:
      return set_high(config.used_ring, value);
    default:
      return;  // read-only, or none
  }
}

void MmioTransport::Impl::set_ready(std::uint32_t value) {
  if (value == 0) return reset_queue();
  std::uint16_t index = 0;
  std::uint64_t resets_before = 0;
  QueueConfig config;
  {
    const std::lock_guard guard(lock);
    const Queue* const queue = writable();
    if (value != 1 || queue == nullptr) return;
    index = static_cast<std::uint16_t>(queue_sel);
    config = queue->config;
    resets_before = resets;
  }
  // A queue that the device does not take reads as not ready.
  const bool taken = device->set_queue(index, config).has_value();
  const std::lock_guard guard(lock);
  if (resets == resets_before) queues[index].ready = taken;
}

void MmioTransport::Impl::reset_queue() {
  std::uint16_t index = 0;
  std::uint64_t resets_before = 0;
  {
    const std::lock_guard guard(lock);
    Queue* const queue = selected();
    if (queue == nullptr || !queue->ready || queue->resetting) return;
    index = static_cast<std::uint16_t>(queue_sel);
    queue->resetting = true;
    resets_before = resets;
  }
  device->reset_queue(index);
  const std::lock_guard guard(lock);
  if (resets == resets_before) queues[index] = {};
}

void MmioTransport::Impl::write_status(std::uint8_t value) {
  device->write_status(value);
  if (value != 0) return;
  {
    const std::lock_guard guard(lock);
    queues = {};
    driver_features = 0;
    ++resets;
  }
  acknowledge(~std::uint32_t{0});
}

// ---- saving ------------------------------------------------------------------------------------

StateWriter MmioTransport::Impl::state() const {
  StateWriter out;
  {
    const std::lock_guard guard(lock);
    out.put(device_features_sel);
    out.put(driver_features_sel);
    out.put(driver_features);
    out.put(queue_sel);
    for (const Queue& queue : queues) {
      out.put(queue.config.size);
      out.put(queue.config.descriptor_table);
      out.put(queue.config.available_ring);
      out.put(queue.config.used_ring);
      out.put(static_cast<std::uint8_t>(queue.ready ? 1 : 0));
    }
  }
  const std::lock_guard guard(interrupt_lock);
  out.put(interrupt_status);
  return out;
}

// The device goes last: it is the one that can refuse what the registers cannot tell.
Result<void> MmioTransport::Impl::restore(StateReader in) {
  const auto device_sel = in.get<std::uint32_t>();
  const auto driver_sel = in.get<std::uint32_t>();
  const auto features = in.get<std::uint64_t>();
  const auto sel = in.get<std::uint32_t>();
  std::array<Queue, kMaxBalloonQueues> restored;
  for (Queue& queue : restored) {
    queue.config.size = in.get<std::uint16_t>();
    queue.config.descriptor_table = in.get<std::uint64_t>();
    queue.config.available_ring = in.get<std::uint64_t>();
    queue.config.used_ring = in.get<std::uint64_t>();
    const auto ready = in.get<std::uint8_t>();
    queue.ready = ready == 1;
    if (ready > 1 || queue.config.size > kMaxQueueSize) in.refuse();
  }
  const auto status = in.get<std::uint32_t>();
  if ((status & ~(kMmioUsedBuffer | kMmioConfigChange)) != 0) in.refuse();
  if (!in.ok()) {
    return fail(Errc::kBadSavedState, "its registers are none that a driver can have written");
  }
  if (auto done = device->restore(in.rest()); !done) return done;
  {
    const std::lock_guard guard(lock);
    device_features_sel = device_sel;
    driver_features_sel = driver_sel;
    driver_features = features;
    queue_sel = sel;
    queues = restored;
  }
  const std::lock_guard guard(interrupt_lock);
  const bool was_asserted = interrupt_status != 0;
  interrupt_status |= status;
  if (!was_asserted && interrupt_status != 0 && options.interrupt_line) {
    options.interrupt_line(true);
  }
  return {};
}

// ---- public ------------------------------------------------------------------------------------

MmioTransport::MmioTransport(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
MmioTransport::~MmioTransport() = default;

Result<std::unique_ptr<MmioTransport>> MmioTransport::create(
    std::shared_ptr<const GuestMemory> memory, std::unique_ptr<Discarder> discarder,
    BalloonOptions device, MmioOptions options) {
  auto impl = std::make_unique<Impl>(std::move(options), device.trace);
  device.notify_queue = [m = impl.get()](std::uint16_t) { m->raise(kMmioUsedBuffer); };
  device.notify_config = [m = impl.get()] { m->raise(kMmioConfigChange); };
  auto made = BalloonDevice::create(std::move(memory), std::move(discarder), std::move(device));
  if (!made) return tl::unexpected(made.error());
  impl->device = std::move(*made);
  return std::unique_ptr<MmioTransport>(new MmioTransport(std::move(impl)));
}

std::uint64_t MmioTransport::read(std::uint64_t offset, unsigned size) const {
  if (offset >= kMmioConfig) {
    std::array<std::byte, 8> bytes{};
    if (size > bytes.size()) return 0;
    impl_->device->read_config(offset - kMmioConfig, std::span(bytes).first(size));
    std::uint64_t value = 0;
    for (unsigned i = 0; i < size; ++i) {
      value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
    }
    return value;
  }
  if (size != 4 || offset % 4 != 0) return 0;
  return impl_->read_register(static_cast<MmioRegister>(offset));
}

void MmioTransport::write(std::uint64_t offset, unsigned size, std::uint64_t value) {
  if (offset >= kMmioConfig) {
    std::array<std::byte, 8> bytes{};
    if (size > bytes.size()) return;
    for (unsigned i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(value >> (8 * i));
    impl_->device->write_config(offset - kMmioConfig, std::span(bytes).first(size));
    return;
  }
  if (size != 4 || offset % 4 != 0) return;
  impl_->write_register(static_cast<MmioRegister>(offset), low(value));
}

BalloonDevice& MmioTransport::device() { return *impl_->device; }

std::vector<std::byte> MmioTransport::save() {
  StateWriter out = impl_->state();
  out.put(impl_->device->save());
  return seal(StateKind::kMmioTransport, std::move(out));
}

Result<void> MmioTransport::restore(std::span<const std::byte> state) {
  const auto content = unseal(StateKind::kMmioTransport, state);
  if (!content) return tl::unexpected(content.error());
  return impl_->restore(StateReader(*content));
}

}  // namespace vballoon
