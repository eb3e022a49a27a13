// SPDX-License-Identifier: MIT
// A device with a guest of 8 MiB, its control, and clients that talk to it without a socket. Time
// stands still until the test moves it.
#ifndef VBALLOON_TESTS_TOOLS_CONTROLLED_DEVICE_H_
#define VBALLOON_TESTS_TOOLS_CONTROLLED_DEVICE_H_

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "balloon_control.h"
#include "device/device_fixture.h"
#include "qmp_session.h"

namespace vballoon::tool::testing {

using vballoon::testing::kLowPages;
using vballoon::testing::Rig;

inline constexpr std::uint64_t kRamBytes = 2 * kLowPages * kPageSize;
inline constexpr std::uint16_t kStatsQueue = 2;
inline constexpr std::uint16_t kHintQueue = 3;

inline BalloonOptions with_all_queues() {
  BalloonOptions options;
  options.features = Features{Feature::kMustTellHost, Feature::kStatsVq, Feature::kFreePageHint};
  options.on_free_page_hints = [](std::span<const PageRange>) {};
  return options;
}

class ControlledDevice {
 public:
  explicit ControlledDevice(BalloonOptions options = with_all_queues())
      : rig_({.device = with_clock(std::move(options))}), control_(rig_.device(), timed()) {}

  Rig& rig() { return rig_; }
  BalloonDevice& device() { return rig_.device(); }
  BalloonControl& control() { return control_; }

  // What the guest's driver does.
  void say_actual(std::uint32_t pages) { rig_.write_config32(kActualOffset, pages); }
  void send_stats(std::initializer_list<std::pair<int, std::uint64_t>> entries) {
    rig_.send(kStatsQueue, {{vballoon::testing::stats_entries(entries)}});
    rig_.serve(kStatsQueue);
  }

  // Commands, the guest and the time have their effects.
  void settle() {
    look();
    for (bool stepped = true; stepped;) {
      stepped = false;
      for (auto& client : clients_) stepped = client->step() || stepped;
      if (stepped) look();
    }
  }
  void wait(std::chrono::milliseconds time) {
    now += time;
    settle();
  }

  QmpSession& connect() {
    clients_.push_back(std::make_unique<QmpSession>("1.2.3", control_.commands()));
    return *clients_.back();
  }
  // One that has negotiated, and has read all that came until now.
  QmpSession& connect_ready() {
    QmpSession& client = connect();
    say(client, R"({"execute": "qmp_capabilities"})");
    return client;
  }
  void disconnect(const QmpSession& client) {
    std::erase_if(clients_, [&client](const auto& one) { return one.get() == &client; });
  }
  // What comes of it.
  std::string say(QmpSession& client, std::string_view text) {
    client.receive(text);
    settle();
    return read(client);
  }
  static std::string read(QmpSession& client) { return std::exchange(client.output(), {}); }

  std::chrono::nanoseconds now = std::chrono::seconds(100);
  static constexpr std::chrono::nanoseconds kWallTime =
      std::chrono::microseconds(1'358'529'861'000'042);

 private:
  BalloonOptions with_clock(BalloonOptions options) {
    options.clock = [this] { return now; };
    return options;
  }
  ControlOptions timed() {
    return {.version = "1.2.3",
            .clock = [this] { return now; },
            .wall_clock = [] { return kWallTime; }};
  }
  void look() {
    control_.look([this](std::string_view line) {
      for (auto& client : clients_) client->send_event(line);
    });
  }

  Rig rig_;
  BalloonControl control_;
  std::vector<std::unique_ptr<QmpSession>> clients_;
};

}  // namespace vballoon::tool::testing

#endif  // VBALLOON_TESTS_TOOLS_CONTROLLED_DEVICE_H_
