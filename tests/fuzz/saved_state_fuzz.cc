// SPDX-License-Identifier: MIT
// States that a device saved, changed where the input says and sealed again, so that the checksum
// is right and what is behind it is looked at; or bytes that never were a state.
//
// Input: the options; messages for the device that is saved, which works in small steps; then
// places and values. The oracle: an unchanged state is restored; a refused one leaves the device as
// it was; one that was taken over can be saved and restored once more, its device is served in a
// bounded number of turns, and its metrics add up. A device whose state was not changed discards
// only what messages name; one that goes on with a changed state may take anything in guest memory
// for a message.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/page_set.h"
#include "device/saved_state.h"
#include "fuzz/fuzz_input.h"
#include "fuzz/guarded_memory.h"
#include "fuzz/naive_decoder.h"
#include "ring/driver_queue.h"
#include "ring/hand_driver.h"
#include "vballoon/balloon_device.h"
#include "vballoon/balloon_registers.h"
#include "wire/dialect.h"

extern "C" const char* __asan_default_options() { return "quarantine_size_mb=1"; }

namespace vballoon::fuzz {
namespace {

constexpr std::uint64_t kLowBytes = 16 * kPageSize;
constexpr std::uint64_t kHigh = 24 * kPageSize;
constexpr std::uint64_t kHighBytes = 8 * kPageSize;
constexpr std::uint16_t kSize = 8;
constexpr std::uint8_t kNegotiated = kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk;
constexpr std::size_t kMostMessages = 32;
// Each chain of each queue, a page at a time, and some to spare.
constexpr int kMostTurns = 10'000;

const std::shared_ptr<const GuestMemory>& shared_memory() {
  static const auto memory = make_guarded_memory({{0, kLowBytes}, {kHigh, kHighBytes}});
  return memory;
}

// Takes pages that may go, and keeps those of rings and payloads as they are, so that what was sent
// is what is read.
class CheckingDiscarder final : public Discarder {
 public:
  // Unset: any page of guest memory may go.
  explicit CheckingDiscarder(const std::optional<PageSet>& allowed) : allowed_(allowed) {}

  void discard(std::span<const HostRun> runs, DiscardReport& report) override {
    for (const HostRun& run : runs) {
      const auto offset = static_cast<std::uint64_t>(run.address - run.region->host);
      check(
          run.length != 0 && offset < run.region->bytes && run.length <= run.region->bytes - offset,
          "a run lies in its region");
      const Pfn first = run.region->pages().first + (offset >> kPageShift);
      for (Pfn pfn = first; pfn < first + (run.length >> kPageShift); ++pfn) {
        check(!allowed_ || allowed_->contains(pfn), "only a page that was named is discarded");
      }
    }
    const auto kept = [](const HostRun& run) { return run.region->pages().first == 0; };
    std::vector<HostRun> gone;
    std::ranges::remove_copy_if(runs, std::back_inserter(gone), kept);
    kernel_->discard(gone, report);
    for (const HostRun& run : runs) report.freed_bytes += kept(run) ? run.length : 0;
  }

 private:
  const std::optional<PageSet>& allowed_;
  const std::unique_ptr<Discarder> kernel_ = make_kernel_discarder();
};

class Session {
 public:
  explicit Session(FuzzInput& input) : input_(input) {
    for (const MemoryRegion& region : shared_memory()->regions()) {
      std::memset(region.host, 0, region.bytes);
    }
    const auto bits = input.take<std::uint8_t>();
    packed_ = (bits & 1) != 0;
    in_order_ = (bits & 2) != 0;
    write_behind_ = (bits & 4) != 0;
    tells_first_ = (bits & 8) != 0;
    dialect_ = static_cast<Dialect>((bits >> 4) % all_dialects().size());
  }

  void run() {
    if (input_.take_bool()) return restore_anything();
    auto device = make_device();
    start(*device);
    const std::size_t messages = input_.take<std::uint8_t>() % kMostMessages;
    for (std::size_t i = 0; i < messages; ++i) act(*device);
    const auto state = device->save();

    auto other = make_device();
    if (input_.done()) {
      check(other->restore(state).has_value(), "a state that was saved is restored");
      return go_on(*other);
    }
    const auto named = std::exchange(named_, std::nullopt);
    if (!other->restore(changed(state))) {
      named_ = named;
      check(other->read_status() == 0 && other->ballooned_pages() == 0,
            "a refused state leaves a device as it was");
      check(other->restore(state).has_value(), "a refused state is in the way of no other");
      return;
    }
    const auto again = other->save();
    check(make_device()->restore(again).has_value(), "a restored device can be saved and restored");
    go_on(*other);
  }

 private:
  std::unique_ptr<BalloonDevice> make_device() {
    BalloonOptions options;
    options.dialect = dialect_;
    options.dialect_bit = 50;
    options.features = {Feature::kMustTellHost, Feature::kStatsVq,       Feature::kFreePageHint,
                        Feature::kPagePoison,   Feature::kPageReporting, Feature::kRingPacked,
                        Feature::kInOrder,      Feature::kRingReset};
    options.write_behind = write_behind_;
    options.budget = {1, 1};
    options.on_free_page_hints = [](std::span<const PageRange>) {};
    options.clock = [this] { return std::chrono::nanoseconds(++now_); };
    auto made = BalloonDevice::create(shared_memory(), std::make_unique<CheckingDiscarder>(named_),
                                      std::move(options));
    check(made.has_value(), "the options make a device");
    return std::move(*made);
  }

  // A page for each ring, so that none stands in another's way.
  QueueConfig config_of(std::uint16_t queue) const {
    return lay_out_ring(kSize, queue * kPageSize, packed_).config;
  }
  void start(BalloonDevice& device) {
    Features accepted = device.offered_features();
    if (!packed_) accepted = accepted.without(Feature::kRingPacked);
    if (!in_order_) accepted = accepted.without(Feature::kInOrder);
    if (!tells_first_) accepted = accepted.without(Feature::kMustTellHost);
    device.write_status(kStatusAcknowledge | kStatusDriver);
    device.write_features(accepted);
    device.write_status(kNegotiated);
    rows_ = number_queues(dialect_row(dialect_), accepted, QueueNumbering::kDense);
    for (std::uint16_t queue = 0; queue < kMaxBalloonQueues; ++queue) {
      if (!device.set_queue(queue, config_of(queue))) continue;
      drivers_.at(queue) = testing::make_hand_driver(shared_memory(), config_of(queue));
    }
    device.write_status(kNegotiated | kStatusDriverOk);
  }

  // What happens to a device: a message, a turn, or something that its embedder wants.
  void act(BalloonDevice& device) {
    const auto what = input_.take<std::uint8_t>();
    const auto queue = static_cast<std::uint16_t>(what / 8 % kMaxBalloonQueues);
    switch (what % 8) {
      case 0:
      case 1:
      case 2:
        return send(queue);
      case 3:
        (void)device.set_target_pages(what % 20);
        return device.set_stats_interval(std::chrono::nanoseconds(what));
      case 4:
        (void)device.start_hints();
        return;
      case 5:
        (void)device.request_stats(std::chrono::nanoseconds(what));
        return;
      default:
        (void)device.process(queue);
        return;
    }
  }
  void send(std::uint16_t queue) {
    if (drivers_.at(queue) == nullptr || sent_.at(queue) == kSize) return;
    const std::uint64_t payload = (8 + queue) * kPageSize + sent_.at(queue) * 256u;
    const auto bytes = input_.take_bytes(input_.take<std::uint8_t>());
    check(shared_memory()->write(payload, bytes), "payloads lie in guest memory");
    const bool chunk = (input_.take<std::uint8_t>() & 1) != 0;
    const std::uint64_t page = input_.take<std::uint8_t>() % 32 * kPageSize;
    testing::HandPieces pieces{{payload, static_cast<std::uint32_t>(bytes.size()), false}};
    if (chunk) pieces = {{page, 2 * kPageSize, true}};
    drivers_.at(queue)->offer(sent_.at(queue)++, pieces);
    note(queue, bytes, pieces);
  }
  // What the message names may be discarded from now on.
  void note(std::uint16_t queue, std::span<const std::byte> bytes,
            const testing::HandPieces& pieces) {
    const QueueRow& row = *rows_.at(queue);
    if (row.role != QueueRole::kInflate && row.role != QueueRole::kReporting) return;
    const bool chunk = pieces.front().writable;
    const bool wide = !tells_first_ && row.codec == Codec::kPfnArray;
    const auto message =
        chunk
            ? decode_naively(*row.codec, {},
                             std::array{GuestBuffer{pieces.front().address, pieces.front().length}})
            : decode_naively(wide ? Codec::kWidePfnArray : *row.codec, bytes, {});
    for (const PageRange& range : message.pages) {
      for (Pfn pfn = range.first; pfn < std::min(range.end(), named_->size()); ++pfn) {
        named_->add(pfn);
      }
    }
  }

  std::vector<std::byte> changed(const std::vector<std::byte>& state) {
    const auto content = unseal(StateKind::kBalloonDevice, state);
    check(content.has_value(), "what was sealed can be unsealed");
    std::vector<std::byte> bytes(content->begin(), content->end());
    while (!input_.done()) {
      const std::size_t place = input_.take<std::uint16_t>() % bytes.size();
      bytes[place] = static_cast<std::byte>(input_.take<std::uint8_t>());
    }
    StateWriter writer;
    writer.put(std::span<const std::byte>(bytes));
    return seal(StateKind::kBalloonDevice, std::move(writer));
  }
  void restore_anything() {
    named_.reset();
    StateWriter writer;
    const bool sealed = input_.take_bool();
    writer.put(input_.take_bytes(SIZE_MAX));
    const auto device = make_device();
    const auto state =
        sealed ? seal(StateKind::kBalloonDevice, std::move(writer)) : std::move(writer.bytes());
    if (device->restore(state)) go_on(*device);
  }

  static void go_on(BalloonDevice& device) {
    (void)device.tick();
    for (std::uint16_t queue = 0; queue < kMaxBalloonQueues; ++queue) {
      int turns = 0;
      while (device.process(queue)) check(++turns < kMostTurns, "the work of a queue ends");
    }
    (void)device.drain();
    const BalloonMetrics m = device.metrics();
    check(m.inflated_bytes == m.freed_bytes + m.owed_bytes + m.forgone_bytes + m.cancelled_bytes,
          "inflated = freed + owed + forgone + cancelled");
    device.write_status(0);
    check(device.ballooned_pages() == 0, "a reset empties the ledger");
  }

  FuzzInput& input_;
  std::int64_t now_ = 0;
  bool packed_ = false;
  bool in_order_ = false;
  bool write_behind_ = false;
  bool tells_first_ = false;
  Dialect dialect_ = Dialect::kStandard;
  std::optional<PageSet> named_{PageSet((kHigh + kHighBytes) / kPageSize)};
  QueueMap rows_{};
  std::array<std::unique_ptr<testing::HandDriver>, kMaxBalloonQueues> drivers_;
  std::array<std::uint16_t, kMaxBalloonQueues> sent_{};
};

}  // namespace
}  // namespace vballoon::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vballoon::fuzz::FuzzInput input(data, size);
  vballoon::fuzz::Session(input).run();
  return 0;
}
