// SPDX-License-Identifier: MIT
// A balloon device with a guest around it: memory with a hole, rings, and register accesses by call
// or through virtio-mmio, all driven by the test itself. The discarder only writes down what it is
// asked, unless another one is given.
#ifndef VBALLOON_TESTS_DEVICE_DEVICE_FIXTURE_H_
#define VBALLOON_TESTS_DEVICE_DEVICE_FIXTURE_H_

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <ostream>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/page_ranges.h"
#include "by_default.h"
#include "device/test_messages.h"
#include "memory/test_discarders.h"
#include "ring/driver_queue.h"
#include "ring/raw_packed_ring.h"
#include "ring/raw_ring.h"
#include "vballoon/balloon_device.h"
#include "vballoon/transport/mmio.h"
#include "vm/in_process_access.h"
#include "vm/mmio_access.h"

namespace vballoon::testing {

// Pages [0, 0x400) and [0x800, 0xC00) exist. The rings and the payloads lie in the upper half of
// the second region.
inline constexpr std::uint64_t kLowPages = 0x400;
inline constexpr Pfn kHole = 0x400;
inline constexpr Pfn kHigh = 0x800;
inline constexpr Pfn kPastEnd = 0xC00;
inline constexpr std::uint64_t kRings = 0xA00 * kPageSize;
inline constexpr std::uint64_t kRingStride = 0x20 * kPageSize;
inline constexpr std::uint64_t kPayloads = 0xB00 * kPageSize;
inline constexpr std::uint64_t kPayloadsEnd = kPastEnd * kPageSize;

inline std::shared_ptr<const GuestMemory> memory_with_hole() {
  return GuestMemory::allocate(std::vector<RegionLayout>{{0, kLowPages * kPageSize},
                                                         {kHigh * kPageSize, 0x400 * kPageSize}})
      .value();
}

// Another view of parts of that memory, which lie where they did in this process, and of new
// regions beside them. Keeps the memory alive.
inline std::shared_ptr<const GuestMemory> part_of(const std::shared_ptr<const GuestMemory>& memory,
                                                  std::initializer_list<PageRange> parts,
                                                  std::initializer_list<PageRange> new_parts = {}) {
  struct Kept {
    std::shared_ptr<const GuestMemory> memory;
    std::shared_ptr<const GuestMemory> added;
    std::shared_ptr<const GuestMemory> view;
  };
  std::vector<RegionLayout> layout;
  for (const PageRange& part : new_parts) {
    layout.push_back({part.first << kPageShift, part.bytes()});
  }
  auto kept = std::make_shared<Kept>();
  kept->memory = memory;
  kept->added = GuestMemory::allocate(layout).value();
  std::vector<BorrowedRegion> regions;
  const auto borrow = [&regions](const GuestMemory& from, const PageRange& part) {
    const std::uint64_t address = part.first << kPageShift;
    regions.push_back({.guest_address = address,
                       .bytes = part.bytes(),
                       .host = from.host(address, part.bytes())});
  };
  for (const PageRange& part : parts) borrow(*kept->memory, part);
  for (const PageRange& part : new_parts) borrow(*kept->added, part);
  kept->view = GuestMemory::borrow(regions).value();
  return {kept, kept->view.get()};
}

struct Setup {
  BalloonOptions device = {};                       // notify_* and log are the rig's own
  std::optional<Features> accepted = std::nullopt;  // unset: all that is offered
  std::uint16_t queue_size = 64;
  bool packed = packed_by_default();  // offered and accepted, whatever the features above
  bool mmio = mmio_by_default();      // the driver has nothing but the registers of virtio-mmio
  std::shared_ptr<const GuestMemory> memory = memory_with_hole();
  std::unique_ptr<Discarder> discarder = nullptr;  // unset: recorded()
  // How much larger the addresses that the driver gives are than guest-physical ones. The rig
  // translates them, and only them, for a device that offers ACCESS_PLATFORM.
  std::uint64_t bus_offset = 0;
};

// What a driver accepts that goes without one feature.
inline Features everything_but(Feature feature) {
  return Features(BalloonOptions{}.features).with(Feature::kVersion1).without(feature);
}
inline BalloonOptions speaking(Dialect dialect) { return {.dialect = dialect}; }

class Rig {
 public:
  explicit Rig(Setup setup = {}) : setup_(std::move(setup)), memory_(setup_.memory) {
    BalloonOptions& options = setup_.device;
    if (setup_.packed) {
      options.features = options.features.with(Feature::kRingPacked);
      if (setup_.accepted) setup_.accepted = setup_.accepted->with(Feature::kRingPacked);
    }
    if (setup_.bus_offset != 0) {
      options.translate_address = [offset = setup_.bus_offset](std::uint64_t address,
                                                               std::uint64_t length, bool) {
        return address < offset ? std::nullopt
                                : std::optional(TranslatedPiece{address - offset, length});
      };
    }
    options.notify_queue = [this](std::uint16_t queue) {
      ++interrupts_.at(queue);
      if (on_interrupt) on_interrupt();
    };
    options.wake = [this](std::uint16_t queue) { woken_.push_back(queue); };
    options.notify_config = [this] {
      ++config_interrupts_;
      if (on_config_interrupt) on_config_interrupt();
    };
    options.log = [this](LogLevel, std::string_view line) {
      log_.emplace_back(line);
      if (on_log) on_log();
    };
    replace_device(std::move(setup_.discarder));
  }

  // Another device, that no driver has touched, takes the place of the one there was; the memory
  // and what the driver knows stay.
  void replace_device(std::unique_ptr<Discarder> discarder = nullptr) {
    recorded_ = nullptr;
    if (discarder == nullptr) {
      auto recording = std::make_unique<RecordingDiscarder>();
      recorded_ = recording.get();
      discarder = std::move(recording);
    }
    const auto kicked = [this](std::uint16_t queue) { serve_to_the_end(queue); };
    if (!setup_.mmio) {
      auto device = BalloonDevice::create(memory_, std::move(discarder), setup_.device).value();
      access_ = std::make_unique<sim::InProcessAccess>(*device, kicked);
      device_ = device.get();
      own_device_ = std::move(device);
      return;
    }
    auto mmio = MmioTransport::create(memory_, std::move(discarder), setup_.device,
                                      {.queue_notify = kicked})
                    .value();
    auto registers = sim::MmioAccess::probe(sim::window_of(*mmio)).value();
    registers_ = registers.get();
    access_ = std::move(registers);
    device_ = &mmio->device();
    mmio_ = std::move(mmio);
  }

  // For what an embedder calls. A processor of the guest takes its interrupts first.
  BalloonDevice& device() {
    take_interrupts();
    return *device_;
  }
  const GuestMemory& memory() const { return *memory_; }
  const std::shared_ptr<const GuestMemory>& shared_memory() const { return memory_; }
  // Requires that the device was given no discarder.
  RecordingDiscarder& recorded() { return *recorded_; }
  DriverQueue& queue(std::uint16_t index) { return *queues_.at(index); }
  // The same rings by hand, for a driver that knows no rules.
  RawRing raw_split(std::uint16_t index) const { return {memory_, ring_config(index)}; }
  RawPackedRing raw_packed(std::uint16_t index) const { return {memory_, ring_config(index)}; }

  // ---- registers, as a driver reaches them ----------------------------------------------------

  Features offered_features() { return access_->read_features(); }
  void write_features(Features accepted) { access_->write_features(accepted); }
  std::uint8_t read_status() { return access_->read_status(); }
  void write_status(std::uint8_t status) { access_->write_status(status); }
  void reset() { write_status(0); }
  std::uint32_t config32(std::uint64_t offset) const { return access_->read_config(offset); }
  void write_config32(std::uint64_t offset, std::uint32_t value) {
    access_->write_config(offset, value);
  }
  bool has_queue(std::uint16_t index) {
    if (!mmio_) return device_->has_queue(index);
    write_register(MmioRegister::kQueueSel, index);
    return mmio_->read(static_cast<std::uint64_t>(MmioRegister::kQueueSizeMax), 4) != 0;
  }
  Result<void> set_queue(std::uint16_t index, const QueueConfig& config) {
    return access_->set_queue(index, config);
  }
  void reset_queue(std::uint16_t index) {
    if (!mmio_) return device_->reset_queue(index);
    write_register(MmioRegister::kQueueSel, index);
    write_register(MmioRegister::kQueueReset, 1);
  }

  // What a driver does up to FEATURES_OK.
  Rig& negotiate() {
    write_status(kStatusAcknowledge);
    write_status(kStatusAcknowledge | kStatusDriver);
    write_features(setup_.accepted.value_or(offered_features()));
    write_status(kNegotiated);
    return *this;
  }
  QueueConfig ring_config(std::uint16_t index) const {
    const Features accepted = setup_.accepted.value_or(device_->offered_features());
    QueueConfig config = lay_out_ring(setup_.queue_size, kRings + index * kRingStride,
                                      accepted.has(Feature::kRingPacked))
                             .config;
    config.in_order = accepted.has(Feature::kInOrder);
    config.event_index = accepted.has(Feature::kEventIdx);
    config.indirect = accepted.has(Feature::kIndirectDesc);
    return config;
  }
  // Where the device writes what it has used.
  std::uint64_t used_address(std::uint16_t index) const {
    const QueueConfig config = ring_config(index);
    return config.packed ? config.descriptor_table : config.used_ring;
  }
  Rig& set_queues() {
    for (std::uint16_t index = 0; index < kMaxBalloonQueues; ++index) {
      if (!has_queue(index)) continue;
      queues_.at(index) = DriverQueue::create(memory_, ring_config(index)).value();
      if (!set_queue(index, on_bus(ring_config(index)))) throw std::runtime_error("set_queue");
    }
    return *this;
  }
  // All of it, so that queues are served.
  Rig& start() {
    negotiate().set_queues();
    write_status(kRunning);
    return *this;
  }

  // The state of the device, with that of its transport.
  std::vector<std::byte> save() {
    take_interrupts();
    return mmio_ ? mmio_->save() : device_->save();
  }
  Result<void> restore(std::span<const std::byte> state) {
    return mmio_ ? mmio_->restore(state) : device_->restore(state);
  }

  // ---- messages -------------------------------------------------------------------------------

  // Puts bytes where the payloads lie; what stands there is overwritten after 1 MiB of others.
  GuestBuffer place(std::span<const std::byte> bytes) {
    if (bytes.size() > kPayloadsEnd - next_payload_) next_payload_ = kPayloads;
    if (bytes.size() > kPayloadsEnd - next_payload_) throw std::length_error("payload");
    const GuestBuffer buffer{next_payload_, static_cast<std::uint32_t>(bytes.size())};
    if (!memory_->write(buffer.address, bytes)) throw std::out_of_range("payload");
    next_payload_ += (bytes.size() + 63) / 64 * 64;
    return buffer;
  }
  // Makes one chain available, of buffers wherever the test wants them in guest memory.
  void offer(std::uint16_t index, std::span<const GuestBuffer> readable,
             std::span<const GuestBuffer> writable = {}) {
    if (!queue(index).add(on_bus(readable), on_bus(writable), 0)) {
      throw std::length_error("ring is full");
    }
    (void)queue(index).publish();
  }
  void offer(std::uint16_t index, std::initializer_list<GuestBuffer> readable) {
    offer(index, std::span(readable.begin(), readable.size()));
  }
  void send(std::uint16_t index, const Message& message) {
    std::vector<GuestBuffer> readable;
    for (const auto& piece : message.pieces) readable.push_back(place(piece));
    offer(index, readable, message.writable);
  }
  // Kicks a queue, which is served at once.
  void serve(std::uint16_t index) { access_->notify(index); }
  void inflate(const Message& message) {
    send(kInflateQueue, message);
    serve(kInflateQueue);
  }
  void deflate(const Message& message) {
    send(kDeflateQueue, message);
    serve(kDeflateQueue);
  }
  void inflate(std::initializer_list<std::uint32_t> pfns) { inflate(pfn_message(pfns)); }
  void deflate(std::initializer_list<std::uint32_t> pfns) { deflate(pfn_message(pfns)); }

  // The used lengths of the buffers that came back since the last call.
  std::vector<std::uint32_t> completed(std::uint16_t index) {
    std::vector<std::uint32_t> lengths;
    while (const auto used = queue(index).take_used()) lengths.push_back(used->written);
    return lengths;
  }

  // ---- what came of it ------------------------------------------------------------------------

  PageRanges discarded() { return recorded_->pages(); }
  std::byte* host(Pfn pfn) const { return memory_->host(pfn << kPageShift, kPageSize); }
  std::uint64_t errors(Errc code) const { return device_->metrics().count(code); }
  // The only things that are counted as wrong.
  std::vector<std::pair<Errc, std::uint64_t>> all_errors() const {
    return device_->metrics().counted_errors();
  }
  int interrupts(std::uint16_t index) {
    take_interrupts();
    return interrupts_.at(index);
  }
  int config_interrupts() {
    take_interrupts();
    return config_interrupts_;
  }
  // Queues for which the device wanted process() to be called, in that order.
  const std::vector<std::uint16_t>& woken() const { return woken_; }
  const std::vector<std::string>& log() const { return log_; }

  static constexpr std::uint8_t kNegotiated =
      kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk;
  static constexpr std::uint8_t kRunning = kNegotiated | kStatusDriverOk;

  // Called from within the notifications (with virtio-mmio: when the interrupt is taken) and the
  // log; to be set before start().
  std::function<void()> on_interrupt;
  std::function<void()> on_config_interrupt;
  std::function<void()> on_log;

 private:
  // The addresses that the device is given.
  QueueConfig on_bus(QueueConfig config) const {
    config.descriptor_table += setup_.bus_offset;
    config.available_ring += setup_.bus_offset;
    config.used_ring += setup_.bus_offset;
    return config;
  }
  std::vector<GuestBuffer> on_bus(std::span<const GuestBuffer> buffers) const {
    std::vector<GuestBuffer> all(buffers.begin(), buffers.end());
    for (GuestBuffer& buffer : all) buffer.address += setup_.bus_offset;
    return all;
  }
  void write_register(MmioRegister which, std::uint32_t value) {
    mmio_->write(static_cast<std::uint64_t>(which), 4, value);
  }
  void serve_to_the_end(std::uint16_t index) {
    served_ = index;
    while (device_->process(index)) {
    }
    take_interrupts();
  }
  // With virtio-mmio. It says that some queue has used buffers, not which: counted for the one that
  // was served last.
  void take_interrupts() {
    if (registers_ == nullptr) return;
    std::uint32_t taken = 0;
    {
      const std::lock_guard lock(interrupt_mutex_);
      taken = registers_->take_interrupt();
    }
    if ((taken & kMmioUsedBuffer) != 0) {
      ++interrupts_.at(served_);
      if (on_interrupt) on_interrupt();
    }
    if ((taken & kMmioConfigChange) != 0) {
      ++config_interrupts_;
      if (on_config_interrupt) on_config_interrupt();
    }
  }

  Setup setup_;
  std::shared_ptr<const GuestMemory> memory_;
  RecordingDiscarder* recorded_ = nullptr;
  std::array<std::atomic<int>, kMaxBalloonQueues> interrupts_{};
  std::vector<std::uint16_t> woken_;
  std::atomic<int> config_interrupts_{0};
  std::vector<std::string> log_;
  std::atomic<std::uint16_t> served_{0};
  std::mutex interrupt_mutex_;
  std::unique_ptr<MmioTransport> mmio_;  // has the device, or
  std::unique_ptr<BalloonDevice> own_device_;
  BalloonDevice* device_ = nullptr;
  std::unique_ptr<sim::DeviceAccess> access_;
  sim::MmioAccess* registers_ = nullptr;  // the same, with virtio-mmio
  std::array<std::unique_ptr<DriverQueue>, kMaxBalloonQueues> queues_;
  std::uint64_t next_payload_ = kPayloads;
};

// Whether what came in and what became of it add up.
inline ::testing::AssertionResult balanced(const BalloonMetrics& m) {
  const std::uint64_t sum = m.freed_bytes + m.owed_bytes + m.forgone_bytes + m.cancelled_bytes;
  if (m.inflated_bytes == sum) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << "inflated " << m.inflated_bytes << " but freed " << m.freed_bytes << ", owed "
         << m.owed_bytes << ", forgone " << m.forgone_bytes << ", cancelled " << m.cancelled_bytes;
}

}  // namespace vballoon::testing

namespace vballoon {

// For the messages of failed tests.
inline void PrintTo(const PageRange& range, std::ostream* out) {
  *out << "[" << range.first << ", +" << range.count << ")";
}
inline void PrintTo(Errc code, std::ostream* out) { *out << to_string(code); }

}  // namespace vballoon

#endif  // VBALLOON_TESTS_DEVICE_DEVICE_FIXTURE_H_
