// SPDX-License-Identifier: MIT
// Whether the simulated driver does what a real Linux did (docs/fidelity.md): traces of Debian's
// Linux 6.1, which inflated to 16 MiB, deflated to 4 MiB and was switched off.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "replay.h"
#include "trace_file.h"
#include "vm/guest_fixture.h"

namespace vballoon::tool {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAreArray;
using ::testing::SizeIs;

constexpr std::uint32_t kLarge = 4096;  // pages of 4 KiB
constexpr std::uint32_t kSmall = 1024;
constexpr std::uint16_t kStatsQueue = 2;

std::uint32_t number_in(std::span<const std::byte> bytes) {
  std::uint32_t number = 0;
  std::memcpy(&number, bytes.data(), std::min(sizeof(number), bytes.size()));
  return number;
}

std::vector<std::uint32_t> pfns_of(const TracedMessage& message) {
  std::vector<std::uint32_t> pfns(message.payload.size() / 4);
  std::memcpy(pfns.data(), message.payload.data(), 4 * pfns.size());
  return pfns;
}

// What a host can tell of a driver beside where its memory lies and when it set up its rings.
struct Behaviour {
  std::string operator()(const TracedKick& kick) const {
    return fmt::format("kick {}", kick.queue);
  }
  std::string operator()(const TracedMessage& message) const {
    std::string text = fmt::format("message {}:", message.queue);
    for (const GuestBuffer& buffer : message.readable) text += fmt::format(" {}", buffer.length);
    for (const GuestBuffer& buffer : message.writable) text += fmt::format(" +{}", buffer.length);
    return text;
  }
  std::string operator()(const TracedConfigWrite& write) const {
    return fmt::format("{} at {}", number_in(write.bytes), write.offset);
  }
  std::string operator()(const TracedTarget& target) const {
    return fmt::format("target {}", target.pages);
  }
  template <typename Other>
  std::string operator()(const Other&) const {
    return {};
  }
};

// Of one purpose: Linux has more statistics to tell than the standard has tags, by its version.
bool is_about_pages(const TraceEvent& event) {
  const auto* const kick = std::get_if<TracedKick>(&event);
  const auto* const message = std::get_if<TracedMessage>(&event);
  return (kick == nullptr || kick->queue != kStatsQueue) &&
         (message == nullptr || message->queue != kStatsQueue);
}

std::vector<std::string> behaviour(const std::vector<TraceEvent>& trace) {
  std::vector<std::string> lines;
  for (const TraceEvent& event : trace) {
    std::string line = std::visit(Behaviour(), event);
    if (is_about_pages(event) && !line.empty()) lines.push_back(std::move(line));
  }
  return lines;
}

std::vector<std::vector<std::uint32_t>> messages_on(std::uint16_t queue,
                                                    const std::vector<TraceEvent>& trace) {
  std::vector<std::vector<std::uint32_t>> messages;
  for (const TraceEvent& event : trace) {
    const auto* const message = std::get_if<TracedMessage>(&event);
    if (message != nullptr && message->queue == queue) messages.push_back(pfns_of(*message));
  }
  return messages;
}

// Steps from one page frame number to the next that go down, or up, by one page.
std::ptrdiff_t steps(const std::vector<std::uint32_t>& pfns, std::int64_t by) {
  std::ptrdiff_t count = 0;
  for (std::size_t i = 1; i < pfns.size(); ++i) {
    count += std::int64_t{pfns[i]} - std::int64_t{pfns[i - 1]} == by ? 1 : 0;
  }
  return count;
}
MATCHER_P(MostlyStepsBy, by, "") { return steps(arg, by) * 10 >= std::ssize(arg) * 9; }

class FidelityTest : public vballoon::testing::GuestFixture,
                     public ::testing::WithParamInterface<const char*> {
 protected:
  // The simulated driver goes through what Linux went through when it was recorded.
  FidelityTest() {
    trace_ = &recorder_;
    boot(negotiated(), {.kernel = &kernel_});
    go_to(kLarge);
    go_to(kSmall);
    driver_->remove();
    run();
  }

  // All that was accepted, the device offers here too.
  Features negotiated() const {
    const auto features = std::ranges::find_if(
        linux_, [](const TraceEvent& event) { return event.index() == kFeatures; });
    return std::get<TracedFeatures>(*features).negotiated.without(Feature::kVersion1);
  }
  void go_to(std::uint32_t pages) {
    if (!device().set_target_pages(pages)) throw std::runtime_error("target");
    run();
  }

  static constexpr std::size_t kFeatures = TraceEvent(TracedFeatures{}).index();
  const std::vector<TraceEvent> linux_ =
      read_trace(std::string(VBALLOON_TRACES "/") + GetParam() + ".jsonl").value();
  std::vector<TraceEvent> simulated_;
  TraceRecorder recorder_{[this](const TraceEvent& event) { simulated_.push_back(event); }};
};

TEST_P(FidelityTest, SameMessagesKicksAndWritesOfActualInTheSameOrder) {
  EXPECT_THAT(behaviour(simulated_), ElementsAreArray(behaviour(linux_)));
}

TEST_P(FidelityTest, BothAcceptTheSameFeatures) {
  const auto accepted = [](const std::vector<TraceEvent>& trace) {
    const auto found = std::ranges::find_if(
        trace, [](const TraceEvent& event) { return event.index() == kFeatures; });
    return std::get<TracedFeatures>(*found).negotiated.bits();
  };

  EXPECT_EQ(accepted(simulated_), accepted(linux_));
}

TEST_P(FidelityTest, BothInflateFromTheTopOfABlockDown) {
  EXPECT_THAT(messages_on(kInflateQueue, linux_), AllOf(SizeIs(16), Each(MostlyStepsBy(-1))));
  EXPECT_THAT(messages_on(kInflateQueue, simulated_), AllOf(SizeIs(16), Each(MostlyStepsBy(-1))));
}

TEST_P(FidelityTest, BothDeflateFromTheBottomUp) {
  EXPECT_THAT(messages_on(kDeflateQueue, linux_), AllOf(SizeIs(16), Each(MostlyStepsBy(1))));
  EXPECT_THAT(messages_on(kDeflateQueue, simulated_), AllOf(SizeIs(16), Each(MostlyStepsBy(1))));
}

TEST_P(FidelityTest, DeviceFindsNothingWrongWithWhatLinuxDid) {
  const ReplayReport report = replay(linux_).value();

  EXPECT_TRUE(report.clean());
  EXPECT_EQ(report.device.inflated_bytes, kLarge * kPageSize);
  EXPECT_EQ(report.device.freed_bytes, kLarge * kPageSize);
  EXPECT_EQ(report.device.deflated_bytes, kLarge * kPageSize);
}

INSTANTIATE_TEST_SUITE_P(Linux, FidelityTest,
                         ::testing::Values("linux_6.1_split", "linux_6.1_packed"),
                         [](const auto& of) {
                           return std::string(of.param).ends_with("packed") ? "Packed" : "Split";
                         });

}  // namespace
}  // namespace vballoon::tool
