// SPDX-License-Identifier: MIT
// A long run, once undisturbed and once with the device saved, destroyed and restored into another
// one after every step: whatever can be seen from outside is the same (src/device/save_restore.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "device/device_fixture.h"
#include "device/two_mib_pages.h"
#include "memory/residency.h"

namespace vballoon {
namespace {

using testing::kHigh;
using testing::kLowPages;
using testing::kTwoMib;
using testing::Message;
using testing::message_of;
using testing::Rig;

constexpr std::uint16_t kStatsQueue = 2;
constexpr std::uint16_t kHintQueue = 3;
constexpr std::uint16_t kReportQueue = 4;
constexpr std::uint16_t kQueues = 5;
constexpr std::uint16_t kQueueSize = 16;
constexpr int kSteps = 400;  // beside those to boot and for hints
// Pages that messages name: all in front of the rings.
constexpr std::uint64_t kUsablePages = kLowPages + 0x200;

Pfn usable(std::uint64_t number) {
  return number < kLowPages ? number : kHigh + (number - kLowPages);
}

// ---- the script --------------------------------------------------------------------------------

enum class Op : std::uint8_t {
  kInflate,
  kInflateMany,  // a message that takes several turns to read
  kDeflate,
  kServe,
  kTakeBack,  // the driver looks at what was returned
  kTouch,     // the guest writes to pages that are not in the balloon
  kStats,
  kRequestStats,
  kInterval,
  kTick,
  kStartHints,
  kStopHints,
  kFinishHints,
  kHintCommand,
  kHint,
  kReport,
  kTarget,
  kActual,
  kInhibit,
  kRunOwed,
  kBadMessage,
  kResetQueues,
  kReset,
  kNegotiate,
  kSetQueues,
  kPoison,  // what free pages are filled with
  kDriverOk,
};

struct Step {
  Op op = Op::kServe;
  std::uint64_t a = 0;
  std::uint64_t b = 0;
};

std::vector<Step> boot() {
  return {{Op::kReset}, {Op::kNegotiate}, {Op::kSetQueues},
          {Op::kServe}, {Op::kPoison},    {Op::kDriverOk}};
}

// Steps at random seldom make one.
std::vector<Step> round_of_hints() {
  return {{Op::kServe, kHintQueue}, {Op::kTakeBack, kHintQueue}, {Op::kStartHints},
          {Op::kHintCommand, 1},    {Op::kServe, kHintQueue},    {Op::kHint, 513, 77},
          {Op::kServe, kHintQueue}, {Op::kTakeBack, kHintQueue}, {Op::kHint, 257, 900},
          {Op::kServe, kHintQueue}};
}

std::vector<Step> make_script() {
  const std::vector<std::pair<Op, int>> weights{
      {Op::kInflate, 14},    {Op::kInflateMany, 3}, {Op::kDeflate, 8},    {Op::kServe, 50},
      {Op::kTakeBack, 10},   {Op::kTouch, 4},       {Op::kStats, 4},      {Op::kRequestStats, 4},
      {Op::kInterval, 1},    {Op::kTick, 4},        {Op::kStartHints, 2}, {Op::kStopHints, 1},
      {Op::kFinishHints, 1}, {Op::kHintCommand, 4}, {Op::kHint, 4},       {Op::kReport, 4},
      {Op::kTarget, 2},      {Op::kActual, 2},      {Op::kInhibit, 5},    {Op::kRunOwed, 2},
      {Op::kBadMessage, 3},  {Op::kResetQueues, 1}};
  std::vector<Op> bag;
  for (const auto& [op, times] : weights)
    bag.insert(bag.end(), static_cast<std::size_t>(times), op);
  std::mt19937 random(20);
  std::vector<Step> script = boot();
  for (int i = 0; i < kSteps; ++i) {
    if (i == kSteps / 2) {
      for (const Step& step : boot()) script.push_back(step);
    }
    if (i % 60 == 30) {
      for (const Step& step : round_of_hints()) script.push_back(step);
    }
    script.push_back({bag[random() % bag.size()], random(), random()});
  }
  return script;
}

// ---- one run -----------------------------------------------------------------------------------

using MakeMemory = std::shared_ptr<const GuestMemory> (*)();

// Transparent huge pages would be resident as a whole.
std::shared_ptr<const GuestMemory> small_pages() {
  return GuestMemory::allocate(std::vector<RegionLayout>{{0, kLowPages * kPageSize},
                                                         {kHigh * kPageSize, 0x400 * kPageSize}},
                               {.thp = ThpMode::kOff})
      .value();
}

// The lower region, of 4 MiB, is said to go back in pages of 2 MiB only.
std::shared_ptr<const GuestMemory> huge_pages() {
  const auto whole =
      GuestMemory::allocate(
          std::vector<RegionLayout>{{0, 3 * kTwoMib}, {kHigh * kPageSize, 2 * kTwoMib}},
          {.thp = ThpMode::kOff})
          .value();
  const auto low = reinterpret_cast<std::uintptr_t>(whole->host(0, 3 * kTwoMib));
  const std::uint64_t skipped = (kTwoMib - low % kTwoMib) % kTwoMib;
  const std::vector<BorrowedRegion> regions{{.guest_address = 0,
                                             .bytes = 2 * kTwoMib,
                                             .host = whole->host(skipped, 2 * kTwoMib),
                                             .host_page_bytes = kTwoMib},
                                            {.guest_address = kHigh * kPageSize,
                                             .bytes = 2 * kTwoMib,
                                             .host = whole->host(kHigh * kPageSize, 2 * kTwoMib)}};
  const auto kept = std::make_shared<
      std::pair<std::shared_ptr<const GuestMemory>, std::shared_ptr<const GuestMemory>>>(
      whole, GuestMemory::borrow(regions).value());
  return {kept, kept->second.get()};
}

struct Variant {
  std::string name;
  BalloonOptions options;
  MakeMemory memory = small_pages;
};

void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }

class GuestRun {
 public:
  GuestRun(const Variant& variant, const std::chrono::nanoseconds& now)
      : rig_({.device = with_hooks(variant.options, now),
              .queue_size = kQueueSize,
              .memory = variant.memory(),
              .discarder = make_kernel_discarder()}),
        dialect_(variant.options.dialect) {
    for (std::uint64_t i = 0; i < kUsablePages; ++i) *rig_.host(usable(i)) = std::byte{1};
  }

  Rig& rig() { return rig_; }

  // Into a device that knows nothing.
  void move_to_another_device() {
    const auto state = rig_.save();
    add(earlier_, rig_.device().metrics());
    rig_.replace_device(make_kernel_discarder());
    if (inhibited_) rig_.device().inhibit_discards();
    const auto restored = rig_.restore(state);
    ASSERT_TRUE(restored) << restored.error().message();
    carried_over_ += rig_.device().metrics().inflated_bytes;
  }

  void apply(const Step& step) {
    BalloonDevice& device = rig_.device();
    const auto index = static_cast<std::uint16_t>(step.a % kQueues);
    switch (step.op) {
      case Op::kInflate:
        return send(kInflateQueue, message_of(dialect_, some_ranges(step, 40)));
      case Op::kInflateMany:
        // Every page is named again and again, so that there is more than one window.
        if (rig_.queue(kInflateQueue).free_descriptors() != kQueueSize) return;
        return send(kInflateQueue, many_pages());
      case Op::kDeflate:
        return send(kDeflateQueue, message_of(dialect_, some_ranges(step, 60)));
      case Op::kServe:
        more_.push_back(device.process(index));
        return;
      case Op::kTakeBack:
        for (const auto written : rig_.completed(index)) returned_.push_back(written);
        return;
      case Op::kTouch:
        for (std::uint64_t i = step.a % kUsablePages; i < kUsablePages; i += 7) {
          if (!device.is_ballooned(usable(i))) *rig_.host(usable(i)) = std::byte{2};
        }
        return;
      case Op::kStats:
        return send(kStatsQueue, stats_message(step));
      case Op::kRequestStats:
        (void)device.request_stats(std::chrono::milliseconds(step.a % 100));
        return;
      case Op::kInterval:
        return device.set_stats_interval(std::chrono::milliseconds(step.a % 50));
      case Op::kTick:
        (void)device.tick();
        return;
      case Op::kStartHints:
        (void)device.start_hints();
        return;
      case Op::kStopHints:
        return device.stop_hints();
      case Op::kFinishHints:
        return device.finish_hints();
      case Op::kHintCommand: {
        const std::uint32_t id = step.a % 4 == 0 ? kHintStop : device.hint_status().command_id;
        return send(kHintQueue, {{testing::le32({id})}});
      }
      case Op::kHint:
        return send(kHintQueue, message_of(Dialect::kScatterGather, some_ranges(step, 30)));
      case Op::kReport:
        return send(kReportQueue, message_of(Dialect::kScatterGather, some_ranges(step, 30)));
      case Op::kTarget:
        (void)device.set_target_pages(step.a % kUsablePages);
        return;
      case Op::kActual:
        return rig_.write_config32(kActualOffset, static_cast<std::uint32_t>(step.a));
      case Op::kInhibit:
        inhibited_ = !inhibited_;
        return inhibited_ ? device.inhibit_discards() : device.resume_discards();
      case Op::kRunOwed:
        (void)device.run_owed_discards();
        return;
      case Op::kBadMessage:
        return send(step.a % 2 == 0 ? kInflateQueue : kStatsQueue, {{testing::Bytes(7)}});
      case Op::kResetQueues:
        for (std::uint16_t i = 0; i < kQueues; ++i) rig_.reset_queue(i);
        rig_.set_queues();
        return;
      case Op::kReset:
        return rig_.reset();
      case Op::kNegotiate:
        rig_.negotiate();
        return;
      case Op::kSetQueues:
        rig_.set_queues();
        return;
      case Op::kPoison:
        return rig_.write_config32(kPoisonValueOffset, 0xAAAAAAAA);
      case Op::kDriverOk:
        return rig_.write_status(Rig::kRunning);
    }
  }

  // ---- what can be seen of it ------------------------------------------------------------------

  std::vector<std::uint64_t> registers() {
    BalloonDevice& device = rig_.device();
    std::vector<std::uint64_t> all{device.read_status(), device.config_generation()};
    for (std::uint64_t offset = 0; offset < 16; offset += 4) all.push_back(rig_.config32(offset));
    const HintStatus hints = device.hint_status();
    all.push_back(static_cast<std::uint64_t>(hints.state));
    all.push_back(hints.command_id);
    return all;
  }
  std::vector<std::uint64_t> statistics() {
    const StatsReport report = rig_.device().stats();
    std::vector<std::uint64_t> all{report.requested, report.timed_out,
                                   static_cast<std::uint64_t>(report.age.count())};
    if (report.latest) {
      for (const auto& value : report.latest->values) all.push_back(value.value_or(0));
      for (const auto& unknown : report.latest->unknown) all.push_back(unknown.value);
    }
    return all;
  }
  std::vector<bool> ballooned() {
    std::vector<bool> all;
    for (std::uint64_t i = 0; i < kUsablePages; ++i) {
      all.push_back(rig_.device().is_ballooned(usable(i)));
    }
    return all;
  }
  std::vector<bool> resident() {
    std::vector<bool> all;
    for (std::uint64_t i = 0; i < kUsablePages; ++i) {
      all.push_back(testing::resident_bytes(rig_.host(usable(i)), kPageSize) != 0);
    }
    return all;
  }
  // What the device writes, but for when it wants the next kick.
  std::vector<std::byte> rings() {
    std::vector<std::byte> all;
    for (std::uint16_t index = 0; index < kQueues; ++index) {
      const bool packed = rig_.ring_config(index).packed;
      std::vector<std::byte> ring(packed ? 16 * kQueueSize : 4 + 8 * kQueueSize);
      EXPECT_TRUE(rig_.memory().read(rig_.used_address(index), ring));
      all.insert(all.end(), ring.begin(), ring.end());
    }
    return all;
  }
  std::vector<int> interrupts() {
    std::vector<int> all{rig_.config_interrupts()};
    for (std::uint16_t i = 0; i < kQueues; ++i) all.push_back(rig_.interrupts(i));
    return all;
  }
  // Of all devices that took part.
  std::vector<std::uint64_t> totals() {
    std::vector<std::uint64_t> all = earlier_;
    add(all, rig_.device().metrics());
    all.front() -= carried_over_;
    return all;
  }
  const std::vector<std::uint32_t>& returned() const { return returned_; }
  const std::vector<bool>& more() const { return more_; }
  const PageRanges& hinted() const { return hinted_; }

 private:
  BalloonOptions with_hooks(BalloonOptions options, const std::chrono::nanoseconds& now) {
    options.clock = [&now] { return now; };
    options.on_free_page_hints = [this](std::span<const PageRange> pages) {
      hinted_.insert(hinted_.end(), pages.begin(), pages.end());
    };
    return options;
  }
  void send(std::uint16_t queue, const Message& message) {
    const std::size_t pieces = message.pieces.size() + message.writable.size();
    if (rig_.queue(queue).free_descriptors() >= pieces) rig_.send(queue, message);
  }
  static PageRanges some_ranges(const Step& step, std::uint64_t most) {
    PageRanges ranges;
    const std::uint64_t count = 1 + step.a % 3;
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t first = (step.b + i * 331) % (kUsablePages - most);
      // Some reach into the hole, where there is no memory.
      ranges.push_back({usable(first), 1 + (step.a >> 8) % most});
    }
    return ranges;
  }
  Message many_pages() const {
    PageRanges ranges;
    for (std::uint64_t i = 0; i < 36'000; ++i) {
      ranges.push_back({usable(i * 7 % kUsablePages), 1});
    }
    if (dialect_ == Dialect::kPageBitmap) ranges.resize(9000);  // an entry is 16 bytes
    return message_of(dialect_, ranges);
  }
  static Message stats_message(const Step& step) {
    testing::Bytes bytes;
    for (const std::uint64_t tag : {step.a % 16, step.b % 16, std::uint64_t{99}}) {
      testing::append_le(bytes, static_cast<std::uint16_t>(tag));
      testing::append_le(bytes, step.a + tag);
    }
    return {{bytes}};
  }
  static void add(std::vector<std::uint64_t>& to, const BalloonMetrics& m) {
    std::vector<std::uint64_t> all{m.inflated_bytes,   m.deflated_bytes,   m.freed_bytes,
                                   m.forgone_bytes,    m.reported_bytes,   m.hinted_bytes,
                                   m.cancelled_bytes,  m.inflate_messages, m.hint_messages,
                                   m.deflate_messages, m.stats_messages,   m.report_messages,
                                   m.queue_bytes,      m.notifications,    m.reported_freed_bytes};
    all.insert(all.end(), m.errors.begin(), m.errors.end());
    to.resize(all.size());
    std::ranges::transform(to, all, to.begin(), std::plus());
  }

  PageRanges hinted_;
  std::vector<std::uint32_t> returned_;
  std::vector<bool> more_;
  bool inhibited_ = false;
  std::vector<std::uint64_t> earlier_;
  std::uint64_t carried_over_ = 0;  // owed pages that count as inflated in each device
  Rig rig_;
  Dialect dialect_;
};

// ---- the test ----------------------------------------------------------------------------------

BalloonOptions options_with(Features more) {
  return {
      .features = Features(more.bits() | Features{Feature::kMustTellHost, Feature::kStatsVq,
                                                  Feature::kFreePageHint, Feature::kPageReporting,
                                                  Feature::kIndirectDesc, Feature::kRingReset}
                                             .bits()),
      .budget = {.pages = 50, .bytes = 1}};
}

std::vector<Variant> variants() {
  std::vector<Variant> all{
      {"Split", options_with({})},
      {"SplitEventIdx", options_with({Feature::kEventIdx})},
      {"SplitInOrder", options_with({Feature::kInOrder})},
      {"Packed", options_with({Feature::kRingPacked})},
      {"PackedEventIdxInOrder",
       options_with({Feature::kRingPacked, Feature::kEventIdx, Feature::kInOrder})},
      {"Bitmap", options_with({})},
      {"Chunk", options_with({Feature::kRingPacked})},
      {"WriteBehind", options_with({})},
      {"WithoutMustTellHost", options_with({})},
      {"PagePoison", options_with({Feature::kPagePoison})},
      {"HugePages", options_with({}), huge_pages},
      {"HugePagesWriteBehind", options_with({}), huge_pages},
  };
  all[5].options.dialect = Dialect::kPageBitmap;
  all[5].options.dialect_bit = 20;
  all[6].options.dialect = Dialect::kScatterGather;
  all[6].options.dialect_bit = 20;
  for (const std::size_t behind : {std::size_t{7}, std::size_t{11}}) {
    all[behind].options.write_behind = true;
    all[behind].options.discards_owed = [] {};
  }
  all[8].options.features = all[8].options.features.without(Feature::kMustTellHost);
  return all;
}

class SavedStateScriptTest : public ::testing::TestWithParam<Variant> {};

INSTANTIATE_TEST_SUITE_P(Variants, SavedStateScriptTest, ::testing::ValuesIn(variants()),
                         [](const auto& suite) { return suite.param.name; });

TEST_P(SavedStateScriptTest, RunThatIsSavedAndRestoredAtEveryStepHasTheSameOutcome) {
  std::chrono::nanoseconds now{0};
  GuestRun undisturbed(GetParam(), now);
  GuestRun disturbed(GetParam(), now);
  const std::vector<Step> script = make_script();
  for (std::size_t i = 0; i < script.size(); ++i) {
    SCOPED_TRACE("step " + std::to_string(i) + ", op " +
                 std::to_string(static_cast<int>(script[i].op)));
    now += std::chrono::milliseconds(1);
    undisturbed.apply(script[i]);
    disturbed.apply(script[i]);

    disturbed.move_to_another_device();

    ASSERT_EQ(disturbed.registers(), undisturbed.registers());
    ASSERT_EQ(disturbed.statistics(), undisturbed.statistics());
    ASSERT_EQ(disturbed.ballooned(), undisturbed.ballooned());
    if (i % 16 == 0) {  // it is a system call for each page
      ASSERT_EQ(disturbed.resident(), undisturbed.resident());
    }
    ASSERT_EQ(disturbed.rings(), undisturbed.rings());
    ASSERT_EQ(disturbed.interrupts(), undisturbed.interrupts());
    ASSERT_EQ(disturbed.more(), undisturbed.more());
    ASSERT_EQ(disturbed.totals(), undisturbed.totals());
    ASSERT_TRUE(testing::balanced(disturbed.rig().device().metrics()));
  }
  EXPECT_EQ(disturbed.resident(), undisturbed.resident());
  EXPECT_EQ(disturbed.returned(), undisturbed.returned());
  EXPECT_EQ(disturbed.hinted(), undisturbed.hinted());
  // The script is worth something.
  EXPECT_GE(undisturbed.returned().size(), 30u);
  EXPECT_FALSE(undisturbed.hinted().empty());
  EXPECT_NE(undisturbed.rig().device().ballooned_pages(), 0u);
  EXPECT_GE(std::ranges::count(undisturbed.more(), true), 15);
}

}  // namespace
}  // namespace vballoon
