// SPDX-License-Identifier: MIT
// Any accesses at all to the registers of virtio-mmio and to guest memory, with a device behind
// them that is kicked now and then. Rings and payloads are raw bytes, and the real kernel takes
// away what the device makes of them, rings too.
//
// Input: the options of the device; then accesses and steps. The oracle: what is discarded are host
// pages of guest memory, each once a call; the metrics add up; each call ends (libFuzzer's
// -timeout); and after a reset a driver that keeps the rules finds a device that works.
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "fuzz/fuzz_input.h"
#include "fuzz/guarded_memory.h"
#include "ring/hand_driver.h"
#include "transport/mmio_registers.h"
#include "vballoon/transport/mmio.h"
#include "wire/dialect.h"

extern "C" const char* __asan_default_options() { return "quarantine_size_mb=1"; }

namespace vballoon::fuzz {
namespace {

constexpr std::uint64_t kLowBytes = 16 * kPageSize;
constexpr std::uint64_t kHigh = 24 * kPageSize;
constexpr std::uint64_t kHighBytes = 8 * kPageSize;
constexpr std::uint64_t kEnd = kHigh + kHighBytes;
constexpr std::size_t kMostSteps = 400;
constexpr std::uint16_t kSize = 8;
constexpr std::uint8_t kNegotiated = kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk;

const std::shared_ptr<const GuestMemory>& shared_memory() {
  static const auto memory =
      make_guarded_memory({{0, kLowBytes}, {kHigh, kHighBytes, 4 * kPageSize}});
  return memory;
}

// Passes on to the kernel what it may be asked for.
class CheckingDiscarder final : public Discarder {
 public:
  void discard(std::span<const HostRun> runs, DiscardReport& report) override {
    std::array<bool, kEnd / kPageSize> named{};
    for (const HostRun& run : runs) {
      const MemoryRegion& region = *run.region;
      const auto offset = static_cast<std::uint64_t>(run.address - region.host);
      check(run.length != 0 && offset < region.bytes && run.length <= region.bytes - offset,
            "a run lies in its region");
      check(offset % region.host_page_bytes == 0 && run.length % region.host_page_bytes == 0,
            "a run is made of host pages");
      const std::uint64_t first = (region.guest_address + offset) / kPageSize;
      for (std::uint64_t page = first; page < first + run.length / kPageSize; ++page) {
        check(!std::exchange(named[page], true), "no two runs of a discard overlap");
      }
    }
    kernel_->discard(runs, report);
  }

 private:
  const std::unique_ptr<Discarder> kernel_ = make_kernel_discarder();
};

class Session {
 public:
  explicit Session(FuzzInput& input) : input_(input) {
    for (const MemoryRegion& region : shared_memory()->regions()) {
      std::memset(region.host, 0, region.bytes);
    }
    BalloonOptions options;
    options.dialect = static_cast<Dialect>(input_.take<std::uint8_t>() % all_dialects().size());
    options.dialect_bit = 50;
    options.features = {Feature::kMustTellHost,     Feature::kStatsVq,       Feature::kFreePageHint,
                        Feature::kPagePoison,       Feature::kPageReporting, Feature::kIndirectDesc,
                        Feature::kEventIdx,         Feature::kRingPacked,    Feature::kInOrder,
                        Feature::kNotificationData, Feature::kRingReset};
    const auto more = input_.take<std::uint8_t>();
    options.write_behind = (more & 1) != 0;
    options.numbering = (more & 2) != 0 ? QueueNumbering::kFixed : QueueNumbering::kDense;
    options.require_must_tell_host = (more & 4) != 0;
    if ((more & 8) != 0) options.budget = {1, 1};
    options.on_free_page_hints = [](std::span<const PageRange>) {};
    options.clock = [this] { return std::chrono::nanoseconds(++now_); };
    MmioOptions registers;
    registers.interrupt_line = [this](bool asserted) {
      check(asserted != std::exchange(interrupt_, asserted), "an interrupt line changes");
    };
    registers.queue_notify = [this](std::uint16_t queue) { kicked_ = queue; };
    auto made = MmioTransport::create(shared_memory(), std::make_unique<CheckingDiscarder>(),
                                      std::move(options), std::move(registers));
    check(made.has_value(), "the options make a device");
    transport_ = std::move(*made);
  }

  void run() {
    for (std::size_t i = 0; i < kMostSteps && !input_.done(); ++i) {
      step();
      check_metrics();
    }
    while (inhibited_ != 0) resume();
    start_anew();
  }

 private:
  BalloonDevice& device() { return transport_->device(); }
  void write(MmioRegister which, std::uint32_t value) {
    transport_->write(static_cast<std::uint64_t>(which), 4, value);
  }
  std::uint32_t read(MmioRegister which) {
    return static_cast<std::uint32_t>(transport_->read(static_cast<std::uint64_t>(which), 4));
  }

  void check_metrics() {
    const BalloonMetrics m = device().metrics();
    check(m.inflated_bytes == m.freed_bytes + m.owed_bytes + m.forgone_bytes + m.cancelled_bytes,
          "inflated = freed + owed + forgone + cancelled");
    check(device().ballooned_pages() <= shared_memory()->page_count(),
          "the balloon is no larger than the guest");
  }

  // What a driver does from the reset on; the addresses are those of a ring of kSize entries.
  void set_up(Features accepted) {
    write(MmioRegister::kStatus, 0);
    check(read(MmioRegister::kStatus) == 0, "a reset is done when it returns");
    check(device().ballooned_pages() == 0, "a reset empties the ledger");
    write(MmioRegister::kStatus, kStatusAcknowledge | kStatusDriver);
    for (std::uint32_t half = 0; half < 2; ++half) {
      write(MmioRegister::kDriverFeaturesSel, half);
      write(MmioRegister::kDriverFeatures,
            static_cast<std::uint32_t>(accepted.bits() >> (32 * half)));
    }
    write(MmioRegister::kStatus, kNegotiated);
    for (std::uint16_t queue = 0; queue < kMaxBalloonQueues; ++queue) {
      const QueueConfig config = config_of(queue, accepted);
      write(MmioRegister::kQueueSel, queue);
      write(MmioRegister::kQueueSize, config.size);
      write(MmioRegister::kQueueDescLow, static_cast<std::uint32_t>(config.descriptor_table));
      write(MmioRegister::kQueueDriverLow, static_cast<std::uint32_t>(config.available_ring));
      write(MmioRegister::kQueueDeviceLow, static_cast<std::uint32_t>(config.used_ring));
      write(MmioRegister::kQueueReady, 1);
    }
    write(MmioRegister::kStatus, kNegotiated | kStatusDriverOk);
  }
  static QueueConfig config_of(std::uint16_t queue, Features accepted) {
    const std::uint64_t base = queue * kPageSize;
    return {.size = kSize,
            .descriptor_table = base,
            .available_ring = base + 0x100,
            .used_ring = base + 0x200,
            .packed = accepted.has(Feature::kRingPacked)};
  }

  // Makes a descriptor that stands in memory available, on a split ring where set_up() has it.
  void offer() {
    const std::uint64_t ring = input_.take<std::uint8_t>() % kMaxBalloonQueues * kPageSize + 0x100;
    std::uint16_t index = 0;
    (void)shared_memory()->read(ring + 2, std::as_writable_bytes(std::span(&index, 1)));
    const auto head = static_cast<std::uint16_t>(input_.take<std::uint8_t>() % (kSize + 1));
    (void)shared_memory()->write(ring + 4 + 2 * (index % kSize),
                                 std::as_bytes(std::span(&head, 1)));
    ++index;
    (void)shared_memory()->write(ring + 2, std::as_bytes(std::span(&index, 1)));
  }
  // One number more than there are queues.
  std::uint16_t some_queue() {
    return static_cast<std::uint16_t>(input_.take<std::uint8_t>() % (kMaxBalloonQueues + 1));
  }
  void write_memory() {
    const std::uint64_t address = input_.take<std::uint16_t>() % kEnd;
    (void)shared_memory()->write(address, input_.take_bytes(input_.take<std::uint8_t>() % 65));
  }
  void resume() {
    --inhibited_;
    device().resume_discards();
  }
  void embed() {
    const auto value = input_.take<std::uint8_t>();
    switch (value % 10) {
      case 0:
        (void)device().set_target_pages(value);
        return;
      case 1:
        (void)device().start_hints();
        return;
      case 2:
        return device().stop_hints();
      case 3:
        return device().finish_hints();
      case 4:
        (void)device().run_owed_discards();
        return;
      case 5:
        (void)device().drain();
        return;
      case 6:
        (void)device().request_stats(std::chrono::nanoseconds(value));
        return;
      case 7:
        (void)device().tick();
        return device().set_stats_interval(std::chrono::nanoseconds(value));
      case 8:
        if (inhibited_ == 3) return;
        ++inhibited_;
        return device().inhibit_discards();
      default:
        if (inhibited_ != 0) resume();
        return;
    }
  }

  void step() {
    switch (input_.take<std::uint8_t>() % 12) {
      case 0:
      case 1:  // a register, most likely one that exists
        transport_->write(input_.take<std::uint8_t>() % 64 * 4, 4, input_.take<std::uint32_t>());
        return;
      case 2:
        transport_->write(input_.take<std::uint16_t>() % 0x300, input_.take<std::uint8_t>() % 10,
                          input_.take<std::uint64_t>());
        return;
      case 3:
        (void)transport_->read(input_.take<std::uint16_t>() % 0x300,
                               input_.take<std::uint8_t>() % 10);
        return;
      case 4:
      case 5:
        return write_memory();
      case 6:
        return offer();
      case 7:
      case 8:
        (void)device().process(some_queue());
        return;
      case 9:
        (void)device().poll(some_queue());
        return;
      case 10:  // a driver's own rules, and some of the features
        return set_up(Features(input_.take<std::uint64_t>() & device().offered_features().bits())
                          .with(Feature::kVersion1));
      default:
        if (const auto queue = std::exchange(kicked_, std::nullopt)) (void)device().process(*queue);
        return embed();
    }
  }

  void start_anew() {
    for (const MemoryRegion& region : shared_memory()->regions()) {
      std::memset(region.host, 0, region.bytes);
    }
    const Features accepted{Feature::kVersion1, Feature::kMustTellHost};
    set_up(accepted);
    testing::RawRing ring(shared_memory(), config_of(kInflateQueue, accepted));
    const std::uint64_t payload = 10 * kPageSize;
    const std::uint32_t pfn = 11;
    check(shared_memory()->write(payload, std::as_bytes(std::span(&pfn, 1))), "a payload fits");
    ring.offer(0, {payload, 4, 0, 0});
    while (device().process(kInflateQueue)) {
    }
    check(ring.used_index() == 1, "a message is answered");
    check(device().is_ballooned(pfn) && device().ballooned_pages() == 1, "its page is booked");
    check_metrics();
  }

  FuzzInput& input_;
  std::int64_t now_ = 0;
  bool interrupt_ = false;
  std::optional<std::uint16_t> kicked_;
  int inhibited_ = 0;
  std::unique_ptr<MmioTransport> transport_;
};

}  // namespace
}  // namespace vballoon::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vballoon::fuzz::FuzzInput input(data, size);
  vballoon::fuzz::Session(input).run();
  return 0;
}
