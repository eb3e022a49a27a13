// SPDX-License-Identifier: MIT
// A balloon device with a guest around it: memory with a hole, rings, and register accesses, all
// driven by the test itself. The discarder only writes down what it is asked, unless another one
// is given.
#ifndef VBALLOON_TESTS_DEVICE_DEVICE_FIXTURE_H_
#define VBALLOON_TESTS_DEVICE_DEVICE_FIXTURE_H_

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/page_ranges.h"
#include "device/test_messages.h"
#include "memory/test_discarders.h"
#include "ring/driver_queue.h"
#include "ring/raw_packed_ring.h"
#include "ring/raw_ring.h"
#include "vballoon/balloon_device.h"

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

// Which ring a test has that does not say: ctest runs most of these tests once with each, see
// CMakeLists.txt.
inline bool packed_by_default() { return std::getenv("VBALLOON_TEST_PACKED_RINGS") != nullptr; }

struct Setup {
  BalloonOptions device = {};                       // notify_* and log are the rig's own
  std::optional<Features> accepted = std::nullopt;  // unset: all that is offered
  std::uint16_t queue_size = 64;
  bool packed = packed_by_default();  // offered and accepted, whatever the features above
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

// The name of a parameter in a test's name.
inline std::string dialect_name(const ::testing::TestParamInfo<Dialect>& info) {
  switch (info.param) {
    case Dialect::kStandard:
      return "Standard";
    case Dialect::kPageBitmap:
      return "PageBitmap";
    case Dialect::kScatterGather:
      return "ScatterGather";
  }
  return "Unknown";
}

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
    device_ = BalloonDevice::create(memory_, std::move(discarder), setup_.device).value();
  }

  BalloonDevice& device() { return *device_; }
  const GuestMemory& memory() const { return *memory_; }
  const std::shared_ptr<const GuestMemory>& shared_memory() const { return memory_; }
  // Requires that the device was given no discarder.
  RecordingDiscarder& recorded() { return *recorded_; }
  DriverQueue& queue(std::uint16_t index) { return *queues_.at(index); }
  // The same rings by hand, for a driver that knows no rules.
  RawRing raw_split(std::uint16_t index) const { return {memory_, ring_config(index)}; }
  RawPackedRing raw_packed(std::uint16_t index) const { return {memory_, ring_config(index)}; }

  // ---- registers ------------------------------------------------------------------------------

  // What a driver does up to FEATURES_OK.
  Rig& negotiate() {
    device_->write_status(kStatusAcknowledge);
    device_->write_status(kStatusAcknowledge | kStatusDriver);
    device_->write_features(setup_.accepted.value_or(device_->offered_features()));
    device_->write_status(kNegotiated);
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
      if (!device_->has_queue(index)) continue;
      queues_.at(index) = DriverQueue::create(memory_, ring_config(index)).value();
      if (!device_->set_queue(index, on_bus(ring_config(index)))) {
        throw std::runtime_error("set_queue");
      }
    }
    return *this;
  }
  // All of it, so that queues are served.
  Rig& start() {
    negotiate().set_queues();
    device_->write_status(kRunning);
    return *this;
  }
  void reset() { device_->write_status(0); }

  std::uint32_t config32(std::uint64_t offset) const {
    std::array<std::byte, 4> bytes{};
    device_->read_config(offset, bytes);
    return std::to_integer<std::uint32_t>(bytes[0]) |
           std::to_integer<std::uint32_t>(bytes[1]) << 8 |
           std::to_integer<std::uint32_t>(bytes[2]) << 16 |
           std::to_integer<std::uint32_t>(bytes[3]) << 24;
  }
  void write_config32(std::uint64_t offset, std::uint32_t value) {
    device_->write_config(offset, le32({value}));
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
  void serve(std::uint16_t index) {
    while (device_->process(index)) {
    }
  }
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
    std::vector<std::pair<Errc, std::uint64_t>> all;
    const BalloonMetrics metrics = device_->metrics();
    for (std::size_t i = 0; i < kErrcCount; ++i) {
      if (metrics.errors[i] != 0) all.emplace_back(static_cast<Errc>(i), metrics.errors[i]);
    }
    return all;
  }
  int interrupts(std::uint16_t index) const { return interrupts_.at(index); }
  int config_interrupts() const { return config_interrupts_; }
  // Queues for which the device wanted process() to be called, in that order.
  const std::vector<std::uint16_t>& woken() const { return woken_; }
  const std::vector<std::string>& log() const { return log_; }

  static constexpr std::uint8_t kNegotiated =
      kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk;
  static constexpr std::uint8_t kRunning = kNegotiated | kStatusDriverOk;

  // Called from within the notifications and the log; to be set before start().
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

  Setup setup_;
  std::shared_ptr<const GuestMemory> memory_;
  RecordingDiscarder* recorded_ = nullptr;
  std::array<std::atomic<int>, kMaxBalloonQueues> interrupts_{};
  std::vector<std::uint16_t> woken_;
  std::atomic<int> config_interrupts_{0};
  std::vector<std::string> log_;
  std::unique_ptr<BalloonDevice> device_;
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
