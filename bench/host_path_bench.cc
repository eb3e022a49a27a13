// SPDX-License-Identifier: MIT
// What does the device cost for each page, without the kernel? From the kick to the answer: taking
// the chain, decoding, sorting, checking, booking, translating and returning it. The discarder
// here says that it freed everything and does nothing.
#include <benchmark/benchmark.h>

#include <array>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "ring/driver_queue.h"
#include "vballoon/balloon_device.h"
#include "wire/chunk.h"
#include "wire/page_bitmap.h"
#include "wire/pfn_array.h"

namespace vballoon {
namespace {

constexpr std::uint64_t kGuestBytes = std::uint64_t{4} << 30;
constexpr std::uint64_t kInflateRing = 0x1000;
constexpr std::uint64_t kDeflateRing = 0x20000;
constexpr std::uint64_t kPayload = 0x100000;
constexpr Pfn kFirstPage = 0x40000;  // pages named: 1 GiB and up

class NoDiscarder final : public Discarder {
 public:
  void discard(std::span<const HostRun> runs, DiscardReport& report) override {
    for (const HostRun& run : runs) report.freed_bytes += run.length;
    ++report.calls;
  }
};

// A device and the driver's side of its inflate queue.
class Host {
 public:
  explicit Host(Dialect dialect, Clock clock = steady_clock()) {
    const std::array layout{RegionLayout{0, kGuestBytes / 2},
                            RegionLayout{kGuestBytes, kGuestBytes / 2}};
    memory_ = *GuestMemory::allocate(layout);
    device_ = *BalloonDevice::create(memory_, std::make_unique<NoDiscarder>(),
                                     {.dialect = dialect, .clock = std::move(clock)});
    const Features features = device_->offered_features();
    device_->write_features(features);
    const std::uint8_t ready = kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk;
    device_->write_status(ready);
    for (std::uint16_t i = 0; i < 2; ++i) {
      QueueConfig config = lay_out_ring(256, i == 0 ? kInflateRing : kDeflateRing).config;
      config.event_index = true;
      config.indirect = true;
      queues_[i] = *DriverQueue::create(memory_, config);
      static_cast<void>(device_->set_queue(i, config));
    }
    device_->write_status(ready | kStatusDriverOk);
  }

  std::byte* payload() { return memory_->host(kPayload, 1 << 20); }

  // One message, there and back.
  void send(std::uint16_t queue, std::span<const GuestBuffer> message) {
    static_cast<void>(queues_[queue]->add(message, {}, 0));
    static_cast<void>(queues_[queue]->publish());
    while (device_->process(queue)) {
    }
    benchmark::DoNotOptimize(queues_[queue]->take_used());
  }
  // Named chunks, each a message of its own in one drain.
  void send_chunks(std::uint16_t queue, std::span<const GuestBuffer> chunks) {
    for (const GuestBuffer& chunk : chunks) {
      static_cast<void>(queues_[queue]->add({}, std::span(&chunk, 1), 0));
    }
    static_cast<void>(queues_[queue]->publish());
    while (device_->process(queue)) {
    }
    while (queues_[queue]->take_used()) {
    }
  }

  StageTimes stages() const { return device_->metrics().stages; }

 private:
  std::shared_ptr<const GuestMemory> memory_;
  std::unique_ptr<BalloonDevice> device_;
  std::array<std::unique_ptr<DriverQueue>, 2> queues_;
};

// The device's own account of its time, without the driver's side of the ring.
void report(benchmark::State& state, const Host& host, const char* name, std::uint64_t things) {
  const StageTimes stages = host.stages();
  const auto total = static_cast<double>((stages.decode + stages.translate).count());
  const double count = static_cast<double>(things) * static_cast<double>(state.iterations());
  state.counters[name] = total / count;
  state.counters["translate_part"] = static_cast<double>(stages.translate.count()) / count;
}

// Half of the messages deflate, so that every inflation finds its pages outside the balloon.
void inflate_and_deflate(benchmark::State& state, Host& host, std::uint64_t bytes) {
  const std::array message{GuestBuffer{kPayload, static_cast<std::uint32_t>(bytes)}};
  std::uint16_t queue = 0;
  for (auto _ : state) {
    host.send(queue, message);
    queue ^= 1;
  }
}

// Writes an array of that many neighbours; returns its bytes.
std::uint64_t write_pfns(Host& host, std::uint64_t count, bool descending) {
  PfnArrayEncoder encoder({host.payload(), 1 << 20});
  for (std::uint64_t i = 0; i < count; ++i) {
    static_cast<void>(encoder.append(kFirstPage + (descending ? count - 1 - i : i)));
  }
  return encoder.bytes();
}

void HostPathPfn(benchmark::State& state) {
  Host host(Dialect::kStandard);
  const auto count = static_cast<std::uint64_t>(state.range(0));
  inflate_and_deflate(state, host, write_pfns(host, count, state.range(1) != 0));
  report(state, host, "ns_per_page", count);
}
BENCHMARK(HostPathPfn)->ArgNames({"pfns", "descending"})->ArgsProduct({{1, 256, 16384}, {0, 1}});

// What does the measuring cost? The same message with a clock that stands still: the difference
// is what the device's five readings take.
void HostPathClock(benchmark::State& state) {
  const Clock stopped = [] { return std::chrono::nanoseconds(0); };
  Host host(Dialect::kStandard, state.range(0) != 0 ? steady_clock() : stopped);
  inflate_and_deflate(state, host, write_pfns(host, kLinuxPfnsPerMessage, false));
}
BENCHMARK(HostPathClock)->ArgName("running")->Arg(0)->Arg(1);

// A bitmap whose words have every other bit.
void HostPathBitmapAlternate(benchmark::State& state) {
  Host host(Dialect::kPageBitmap);
  const auto words = static_cast<std::size_t>(state.range(0));
  const std::vector<std::uint64_t> bitmap(words, 0x5555555555555555U);
  PageBitmapEncoder encoder(bitmap, kFirstPage);
  const auto bytes = static_cast<std::uint32_t>(
      encoder.encode({host.payload() + kBitmapHeaderBytes, kBitmapDataBytes}));
  write_bitmap_header(std::span<std::byte, kBitmapHeaderBytes>(host.payload(), kBitmapHeaderBytes),
                      BitmapCommand::kRecords, bytes);
  inflate_and_deflate(state, host, kBitmapHeaderBytes + bytes);
  report(state, host, "ns_per_page", bytes / 16 * 32);
}
BENCHMARK(HostPathBitmapAlternate)->ArgName("words")->Arg(64)->Arg(1024)->Arg(2016);

// Chunks of 4 MiB with a hole between each two, one descriptor each.
void HostPathChunk(benchmark::State& state) {
  Host host(Dialect::kScatterGather);
  std::vector<GuestBuffer> chunks;
  constexpr std::uint32_t kChunkBytes = 4 << 20;
  for (std::int64_t i = 0; i < state.range(0); ++i) {
    chunks.push_back({kGuestBytes + static_cast<std::uint64_t>(i) * 2 * kChunkBytes, kChunkBytes});
  }
  std::uint16_t queue = 0;
  for (auto _ : state) {
    host.send_chunks(queue, chunks);
    queue ^= 1;
  }
  report(state, host, "ns_per_chunk", chunks.size());
}
BENCHMARK(HostPathChunk)->ArgName("chunks")->Arg(1)->Arg(64)->Arg(256);

}  // namespace
}  // namespace vballoon
