// SPDX-License-Identifier: MIT
#include "prometheus.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <iterator>
#include <string_view>

#include "balloon_events.h"
#include "balloon_numbers.h"

namespace vballoon::tool {
namespace {

struct Counter {
  std::string_view name;
  std::string_view help;
  std::uint64_t BalloonMetrics::*value;
};

constexpr std::array kCounters{
    Counter{"inflated_bytes", "Pages named in inflate messages", &BalloonMetrics::inflated_bytes},
    Counter{"deflated_bytes", "Pages that left the balloon", &BalloonMetrics::deflated_bytes},
    Counter{"freed_bytes", "Of what was inflated, what the kernel took",
            &BalloonMetrics::freed_bytes},
    Counter{"forgone_bytes", "Of what was inflated, what can no longer be given back",
            &BalloonMetrics::forgone_bytes},
    Counter{"cancelled_bytes", "Deflated or inflated again before it was given back",
            &BalloonMetrics::cancelled_bytes},
    Counter{"reported_bytes", "Pages named in free page reports", &BalloonMetrics::reported_bytes},
    Counter{"reported_freed_bytes", "Of what was reported, what the kernel took",
            &BalloonMetrics::reported_freed_bytes},
    Counter{"hinted_bytes", "Pages named in free page hints", &BalloonMetrics::hinted_bytes},
    Counter{"collapsed_bytes", "Huge pages made whole after a deflate",
            &BalloonMetrics::collapsed_bytes},
    Counter{"queue_bytes", "Read from queues", &BalloonMetrics::queue_bytes},
    Counter{"discard_calls", "Calls to the kernel that give memory back",
            &BalloonMetrics::discard_calls},
    Counter{"discard_failures", "Pieces that the kernel refused",
            &BalloonMetrics::discard_failures},
    Counter{"notifications", "Interrupts sent for queues", &BalloonMetrics::notifications}};

constexpr std::array kMessages{Counter{"inflate", "", &BalloonMetrics::inflate_messages},
                               Counter{"deflate", "", &BalloonMetrics::deflate_messages},
                               Counter{"stats", "", &BalloonMetrics::stats_messages},
                               Counter{"hint", "", &BalloonMetrics::hint_messages},
                               Counter{"report", "", &BalloonMetrics::report_messages}};

class Text {
 public:
  void head(std::string_view name, std::string_view type, std::string_view help) {
    fmt::format_to(std::back_inserter(text_), "# HELP vballoon_{0} {1}\n# TYPE vballoon_{0} {2}\n",
                   name, help, type);
  }
  template <typename Value>
  void sample(std::string_view name, const Value& value) {
    fmt::format_to(std::back_inserter(text_), "vballoon_{} {}\n", name, value);
  }
  template <typename Value>
  void gauge(std::string_view name, std::string_view help, const Value& value) {
    head(name, "gauge", help);
    sample(name, value);
  }
  void counter(std::string_view name, std::string_view help, std::uint64_t value) {
    const std::string total = fmt::format("{}_total", name);
    head(total, "counter", help);
    sample(total, value);
  }
  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

void write_sizes(Text& text, const BalloonDevice& device) {
  text.gauge("driver_running", "Whether a guest's driver runs", has_driver(device) ? 1 : 0);
  text.gauge("ram_bytes", "Memory of the guest, with what is in the balloon",
             device.memory_bytes());
  text.gauge("target_balloon_bytes", "How large the balloon should be", target_bytes(device));
  text.gauge("actual_balloon_bytes", "How large the guest says that the balloon is",
             actual_bytes(device));
  text.gauge("ballooned_bytes", "What the device has booked as being in the balloon",
             device.ballooned_pages() * kPageSize);
}

void write_stages(Text& text, const StageTimes& stages) {
  const auto sample = [&text](std::string_view stage, std::chrono::nanoseconds time) {
    text.sample(fmt::format("stage_seconds_total{{stage=\"{}\"}}", stage),
                std::chrono::duration<double>(time).count());
  };
  text.head("stage_seconds_total", "counter", "Time in the stages of serving queues");
  sample("decode", stages.decode);
  sample("translate", stages.translate);
  sample("discard", stages.discard);
}

void write_errors(Text& text, const BalloonMetrics& metrics) {
  text.head("guest_errors_total", "counter", "What the guest did wrong, by reason");
  for (std::size_t i = 0; i <= static_cast<std::size_t>(Errc::kBadStatus); ++i) {
    const auto code = static_cast<Errc>(i);
    text.sample(fmt::format("guest_errors_total{{reason=\"{}\"}}", reason_word(code)),
                metrics.count(code));
  }
}

// Named as the guest counts them: those that only grow are counters.
void write_guest_stats(Text& text, const StatsReport& report) {
  if (!report.latest) return;
  text.gauge("guest_stats_age_seconds", "Since the guest sent the statistics below",
             std::chrono::duration<double>(report.age).count());
  for (std::size_t i = 0; i < kStatCount; ++i) {
    const auto tag = static_cast<StatTag>(i);
    const auto value = report.latest->value(tag);
    if (!value) continue;
    std::string name = fmt::format("guest_{}", to_string(tag));
    std::ranges::replace(name, '-', '_');
    const bool bytes = unit_of(tag) == StatUnit::kBytes;
    const bool now = tag >= StatTag::kFreeMemory && tag <= StatTag::kDiskCaches;
    if (bytes) name += "_bytes";
    constexpr std::string_view kHelp = "As the guest says in its statistics";
    if (now) {
      text.gauge(name, kHelp, *value);
    } else {
      text.counter(name, kHelp, *value);
    }
  }
}

}  // namespace

std::string prometheus_text(const BalloonDevice& device) {
  const BalloonMetrics metrics = device.metrics();
  Text text;
  write_sizes(text, device);
  text.gauge("owed_bytes", "In the balloon and not yet given back", metrics.owed_bytes);
  for (const Counter& counter : kCounters) {
    text.counter(counter.name, counter.help, metrics.*counter.value);
  }
  text.head("messages_total", "counter", "Messages of the guest, by queue");
  for (const Counter& counter : kMessages) {
    text.sample(fmt::format("messages_total{{queue=\"{}\"}}", counter.name),
                metrics.*counter.value);
  }
  write_stages(text, metrics.stages);
  write_errors(text, metrics);
  write_guest_stats(text, device.stats());
  return text.take();
}

}  // namespace vballoon::tool
