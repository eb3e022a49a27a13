// SPDX-License-Identifier: MIT
// What a trace is told (include/vballoon/trace.h).
#include "vballoon/trace.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "device/device_fixture.h"

namespace vballoon {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using testing::le32;
using testing::pfn_message;
using testing::Rig;

// A line for each call.
class Lines final : public Trace {
 public:
  void memory(const GuestMemory& memory) override {
    say("memory of {} pages", memory.page_count());
  }
  void reset() override { say("reset"); }
  void features(Features negotiated) override { say("features {:#x}", negotiated.bits()); }
  void queue(std::uint16_t index, const QueueConfig& config) override {
    say("queue {} of {}", index, config.size);
  }
  void kick(std::uint16_t queue) override { say("kick {}", queue); }
  void message(std::uint16_t queue, std::span<const GuestBuffer> readable,
               std::span<const GuestBuffer> writable, std::span<const std::byte> payload) override {
    say("message {}: {} readable, {} writable, {} bytes", queue, readable.size(), writable.size(),
        payload.size());
    payloads.emplace_back(payload.begin(), payload.end());
  }
  void config_write(std::uint64_t offset, std::span<const std::byte> bytes) override {
    say("write of {} at {}", bytes.size(), offset);
  }
  void target(std::uint32_t pages) override { say("target {}", pages); }
  void hint_command(std::uint32_t id) override { say("hint command {}", id); }

  std::vector<std::string> take() { return std::exchange(lines_, {}); }
  std::vector<std::vector<std::byte>> payloads;

 private:
  template <typename... Values>
  void say(fmt::format_string<Values...> text, Values&&... values) {
    lines_.push_back(fmt::format(text, std::forward<Values>(values)...));
  }
  std::vector<std::string> lines_;
};

class TraceTest : public ::testing::Test {
 protected:
  static testing::Setup recorded(Trace& trace) {
    return {.device = {.features = Features{Feature::kMustTellHost, Feature::kFreePageHint},
                       .on_free_page_hints = [](std::span<const PageRange>) {},
                       .trace = &trace},
            .packed = false,
            .mmio = false};
  }
  Lines trace_;
  Rig rig_{recorded(trace_)};
};

TEST_F(TraceTest, DeviceThatIsMadeTellsItsMemory) {
  EXPECT_THAT(trace_.take(), ElementsAre("memory of 2048 pages"));
}

TEST_F(TraceTest, SetUpIsFeaturesAndQueues) {
  trace_.take();

  rig_.start();

  EXPECT_THAT(trace_.take(), ElementsAre("features 0x100000009", "queue 0 of 64", "queue 1 of 64",
                                         "queue 2 of 64"));
}

TEST_F(TraceTest, MessageIsToldWithItsBuffersAndItsPayload) {
  rig_.start();
  trace_.take();

  rig_.inflate({5, 6});

  EXPECT_THAT(trace_.take(), ElementsAre("message 0: 1 readable, 0 writable, 8 bytes"));
  EXPECT_THAT(trace_.payloads, ElementsAre(le32({5, 6})));
}

TEST_F(TraceTest, MessagesAreToldInTheOrderInWhichTheyAreTaken) {
  rig_.start();
  rig_.send(kInflateQueue, pfn_message({1}));
  rig_.send(kInflateQueue, pfn_message({2}));

  rig_.serve(kInflateQueue);

  EXPECT_THAT(trace_.payloads, ElementsAre(le32({1}), le32({2})));
}

TEST_F(TraceTest, PayloadOutsideMemoryIsToldAsNothing) {
  rig_.start();
  rig_.offer(kInflateQueue, {{testing::kPayloadsEnd, 4}});

  rig_.serve(kInflateQueue);

  EXPECT_THAT(trace_.payloads, ElementsAre(IsEmpty()));
}

TEST_F(TraceTest, PayloadIsToldUpToItsLimit) {
  rig_.start();
  const GuestBuffer much{testing::kPayloads, kMaxTracedBytes + 4};
  rig_.offer(kInflateQueue, {much});

  rig_.serve(kInflateQueue);

  ASSERT_EQ(trace_.payloads.size(), 1u);
  EXPECT_EQ(trace_.payloads[0].size(), kMaxTracedBytes);
}

TEST_F(TraceTest, WritesOfTheConfigurationAreTold) {
  rig_.start();
  trace_.take();

  rig_.write_config32(kActualOffset, 7);

  EXPECT_THAT(trace_.take(), ElementsAre("write of 4 at 4"));
}

TEST_F(TraceTest, WhatTheHostChangesIsTold) {
  rig_.start();
  trace_.take();

  ASSERT_TRUE(rig_.device().set_target_pages(3));
  ASSERT_TRUE(rig_.device().start_hints());
  rig_.device().stop_hints();
  rig_.device().finish_hints();

  EXPECT_THAT(trace_.take(),
              ElementsAre("target 3", "hint command 2", "hint command 0", "hint command 1"));
}

TEST_F(TraceTest, TargetThatStaysIsNoEvent) {
  rig_.start();
  trace_.take();

  ASSERT_TRUE(rig_.device().set_target_pages(0));

  EXPECT_THAT(trace_.take(), IsEmpty());
}

TEST_F(TraceTest, ResetAndAnotherMemoryAreTold) {
  rig_.start();
  trace_.take();

  rig_.reset();
  ASSERT_TRUE(rig_.device().set_memory(testing::part_of(rig_.shared_memory(), {{0, 16}})));

  EXPECT_THAT(trace_.take(), ElementsAre("reset", "memory of 16 pages"));
}

TEST(TraceOfMmioTest, KicksAreToldByTheTransport) {
  Lines trace;
  Rig rig{{.device = {.trace = &trace}, .packed = false, .mmio = true}};
  rig.start();
  trace.take();

  rig.inflate({5});

  EXPECT_THAT(trace.take(), ElementsAre("kick 0", "message 0: 1 readable, 0 writable, 4 bytes"));
}

}  // namespace
}  // namespace vballoon
