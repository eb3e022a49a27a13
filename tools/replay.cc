// SPDX-License-Identifier: MIT
#include "replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>

#include "ring/driver_queue.h"
#include "vballoon/discarder.h"
#include "vballoon/guest_memory.h"
#include "wire/dialect.h"

namespace vballoon::tool {
namespace {

// Rings and payloads lie in a region of their own above guest memory, as messages may name any page
// of that. Each queue has a part of it.
constexpr std::uint64_t kAlignment = std::uint64_t{2} << 20;
constexpr std::uint64_t kRingBytes = std::uint64_t{128} << 10;
// Of queues whose buffers are held as many payloads are there at a time as the device holds, and
// the one that comes.
constexpr std::uint64_t kSlots = 16;
constexpr std::uint64_t kQueueBytes = kRingBytes + kSlots * kMaxTracedBytes;
constexpr std::uint64_t kExtraBytes =
    (kMaxBalloonQueues * kQueueBytes + kAlignment - 1) / kAlignment * kAlignment;

std::string name_of(const QueueRow& row) {
  switch (row.role) {
    case QueueRole::kInflate:
      return "inflate";
    case QueueRole::kDeflate:
      return "deflate";
    case QueueRole::kStats:
      return "statistics";
    case QueueRole::kFreePageHint:
      return "free page hints";
    default:
      return "reporting";
  }
}

class Replay {
 public:
  explicit Replay(std::span<const TraceEvent> trace) : trace_(trace) {}

  Result<ReplayReport> run() {
    if (auto made = make(); !made) return tl::unexpected(made.error());
    for (const TraceEvent& event : trace_) {
      auto done = std::visit([this](const auto& what) { return play(what); }, event);
      if (!done) return tl::unexpected(done.error());
    }
    end_driver();
    report_.device = device_->metrics();
    return report_;
  }

 private:
  struct Queue {
    std::unique_ptr<DriverQueue> ring;
    std::uint64_t slot = 0;         // of the next payload
    std::uint64_t outstanding = 0;  // buffers that have not come back
  };

  // The features of all drivers, and memory for the first: there is one device, as there was.
  Result<void> make() {
    Features offered;
    for (const TraceEvent& event : trace_) {
      if (const auto* memory = std::get_if<TracedMemory>(&event);
          memory != nullptr && layout_.empty()) {
        layout_ = memory->regions;
      }
      if (const auto* features = std::get_if<TracedFeatures>(&event)) {
        offered = Features(offered.bits() | features->negotiated.bits());
      }
    }
    if (layout_.empty()) return fail(Errc::kInvalidArgument, "the trace has no guest memory");
    auto regions = layout_;
    std::uint64_t end = 0;
    for (const RegionLayout& region : regions) {
      end = std::max(end, region.guest_address + region.bytes);
    }
    extra_ = (end + kAlignment - 1) / kAlignment * kAlignment;
    regions.push_back({extra_, kExtraBytes});
    auto memory = GuestMemory::allocate(regions);
    if (!memory) return tl::unexpected(memory.error());
    memory_ = std::move(*memory);
    BalloonOptions options{.features = offered, .poison_while_running = true};
    options.on_free_page_hints = [](std::span<const PageRange>) {};
    auto device = BalloonDevice::create(memory_, make_kernel_discarder(), std::move(options));
    if (!device) return tl::unexpected(device.error());
    device_ = std::move(*device);
    return {};
  }

  // Memory that goes, and the same that comes again, is the end of a driver and another one.
  Result<void> play(const TracedMemory& memory) const {
    const bool same = std::ranges::equal(
        memory.regions, layout_, [](const RegionLayout& a, const RegionLayout& b) {
          return a.guest_address == b.guest_address && a.bytes == b.bytes;
        });
    if (same || memory.regions.empty()) return {};
    return fail(Errc::kNotSupported, "guest memory changes in the middle of the trace");
  }
  Result<void> play(const TracedReset&) {
    end_driver();
    device_->write_status(0);
    return {};
  }
  Result<void> play(const TracedFeatures& features) {
    device_->write_status(kStatusAcknowledge | kStatusDriver);
    device_->write_features(features.negotiated);
    device_->write_status(kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk);
    ++report_.drivers;
    return {};
  }
  Result<void> play(const TracedQueue& queue) {
    if (queue.index >= queues_.size()) return no_queue(queue.index);
    const bool packed = device_->negotiated_features().has(Feature::kRingPacked);
    QueueConfig config = lay_out_ring(queue.size, part_of(queue.index), packed).config;
    const Features features = device_->negotiated_features();
    const QueueMap map =
        number_queues(dialect_row(Dialect::kStandard), features, QueueNumbering::kDense);
    if (map[queue.index] == nullptr) return no_queue(queue.index);
    report_.queues[queue.index].role = name_of(*map[queue.index]);
    config.event_index = features.has(Feature::kEventIdx);
    config.indirect = features.has(Feature::kIndirectDesc);
    config.packed = packed;
    config.in_order = features.has(Feature::kInOrder);
    auto ring = DriverQueue::create(memory_, config);
    if (!ring) return tl::unexpected(ring.error());
    queues_[queue.index] = {.ring = std::move(*ring)};
    static_cast<void>(device_->suspend_queue(queue.index));
    return device_->resume_queue(queue.index, config);
  }
  Result<void> play(const TracedKick& kick) {
    if (kick.queue >= queues_.size()) return no_queue(kick.queue);
    ++report_.queues[kick.queue].kicks;
    return {};
  }
  Result<void> play(const TracedMessage& message);
  Result<void> play(const TracedConfigWrite& write) {
    device_->write_config(write.offset, write.bytes);
    std::uint32_t actual = 0;
    if (write.offset == kActualOffset && write.bytes.size() == sizeof(actual)) {
      std::memcpy(&actual, write.bytes.data(), sizeof(actual));
      report_.actual.push_back(actual);
    }
    return {};
  }
  Result<void> play(const TracedTarget& target) { return device_->set_target_pages(target.pages); }
  Result<void> play(const TracedHintCommand& command) {
    if (command.id == kHintStop) device_->stop_hints();
    if (command.id == kHintDone) device_->finish_hints();
    if (command.id > kHintDone) {
      if (auto begun = device_->start_hints(); !begun) return tl::unexpected(begun.error());
    }
    return {};
  }

  static tl::unexpected<Error> no_queue(std::uint16_t index) {
    return fail(Errc::kInvalidArgument, fmt::format("queue {} of the trace is none", index));
  }
  std::uint64_t part_of(std::uint16_t queue) const { return extra_ + queue * kQueueBytes; }

  // A driver that goes takes its unanswered buffers along.
  void end_driver() {
    if (device_->ballooned_pages() != 0) report_.ballooned_pages = device_->ballooned_pages();
    for (std::size_t index = 0; index < queues_.size(); ++index) {
      if (!may_be_held(static_cast<std::uint16_t>(index))) {
        report_.queues[index].unanswered += queues_[index].outstanding;
      }
      queues_[index] = {};
    }
  }
  // The buffer for statistics comes back when the device wants others.
  bool may_be_held(std::uint16_t index) const {
    return index == kDeflateQueue + 1 && device_->negotiated_features().has(Feature::kStatsVq);
  }
  void take_back(std::uint16_t index) {
    while (queues_[index].ring->take_used()) --queues_[index].outstanding;
  }

  const std::span<const TraceEvent> trace_;
  std::vector<RegionLayout> layout_;
  std::uint64_t extra_ = 0;  // where the region of rings and payloads begins
  std::shared_ptr<const GuestMemory> memory_;
  std::unique_ptr<BalloonDevice> device_;
  std::array<Queue, kMaxBalloonQueues> queues_;
  ReplayReport report_;
};

Result<void> Replay::play(const TracedMessage& message) {
  if (message.queue >= queues_.size() || !queues_[message.queue].ring) {
    return no_queue(message.queue);
  }
  Queue& queue = queues_[message.queue];
  if (message.payload.size() != message.readable_bytes()) {
    return fail(Errc::kNotSupported, fmt::format("a message of {} bytes was recorded only in part",
                                                 message.readable_bytes()));
  }
  // The driver had its last buffer back when it sent this one.
  if (may_be_held(message.queue) && queue.outstanding != 0) {
    if (auto asked = device_->request_stats(std::chrono::seconds(1)); !asked) return asked;
    static_cast<void>(device_->process(message.queue));
    take_back(message.queue);
  }
  std::uint64_t address =
      part_of(message.queue) + kRingBytes + (queue.slot++ % kSlots) * kMaxTracedBytes;
  if (!memory_->write(address, message.payload)) return no_queue(message.queue);
  std::vector<GuestBuffer> readable = message.readable;
  for (GuestBuffer& buffer : readable) {
    buffer.address = address;
    address += buffer.length;
  }
  if (!queue.ring->add(readable, message.writable, 0)) {
    return fail(Errc::kInvalidArgument, "a message that its ring has no room for");
  }
  static_cast<void>(queue.ring->publish());
  ++queue.outstanding;
  if ((device_->read_status() & kStatusDriverOk) == 0) {
    device_->write_status(device_->read_status() | kStatusDriverOk);
  }
  while (device_->process(message.queue)) {
  }
  take_back(message.queue);
  ReplayReport::Queue& counted = report_.queues[message.queue];
  ++counted.messages;
  counted.payload_bytes += message.payload.size();
  return {};
}

}  // namespace

bool ReplayReport::clean() const {
  const auto errors = std::accumulate(device.errors.begin(), device.errors.end(), std::uint64_t{0});
  return errors == 0 &&
         std::ranges::all_of(queues, [](const Queue& queue) { return queue.unanswered == 0; });
}

Result<ReplayReport> replay(std::span<const TraceEvent> trace) { return Replay(trace).run(); }

}  // namespace vballoon::tool
