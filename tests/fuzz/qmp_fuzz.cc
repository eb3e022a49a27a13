// SPDX-License-Identifier: MIT
// Any bytes from two QMP clients, in any pieces, while the guest changes what it says and time
// passes.
//
// What a client reads are lines of ASCII with CRLF, each a JSON object of QMP's; the target stays
// within guest memory; no more comes back than was asked for; and a client that starts over (0xFF)
// is understood whatever it sent before, unless it waits.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "balloon_control.h"
#include "fuzz/fuzz_input.h"
#include "qmp_session.h"
#include "vballoon/balloon_device.h"

namespace vballoon::fuzz {
namespace {

using tool::BalloonControl;
using tool::QmpSession;

constexpr std::uint64_t kRamBytes = std::uint64_t{1} << 20;
constexpr std::size_t kMostOperations = 256;

class NoDiscarder final : public Discarder {
 public:
  void discard(std::span<const HostRun>, DiscardReport&) override {}
};

std::shared_ptr<const GuestMemory> guest_memory() {
  static const auto memory = GuestMemory::allocate(std::array{RegionLayout{0, kRamBytes}}).value();
  return memory;
}

class Talk {
 public:
  explicit Talk(FuzzInput& input)
      : input_(input), device_(make_device()), control_(*device_, timed()) {
    start_driver();
    for (auto& client : clients_) {
      client = std::make_unique<QmpSession>("0.1.0", control_.commands());
    }
  }

  void run() {
    for (std::size_t i = 0; i < kMostOperations && !input_.done(); ++i) operate();
    settle();
    for (auto& client : clients_) start_over(*client);
  }

 private:
  std::unique_ptr<BalloonDevice> make_device() {
    BalloonOptions options;
    options.features = {Feature::kMustTellHost, Feature::kStatsVq, Feature::kFreePageHint};
    options.on_free_page_hints = [](std::span<const PageRange>) {};
    options.clock = [this] { return now_; };
    return BalloonDevice::create(guest_memory(), std::make_unique<NoDiscarder>(),
                                 std::move(options))
        .value();
  }
  tool::ControlOptions timed() {
    return {.version = "0.1.0",
            .clock = [this] { return now_; },
            .wall_clock = [this] { return now_; }};
  }
  void start_driver() {
    constexpr std::uint8_t kNegotiated = kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk;
    device_->write_status(kStatusAcknowledge | kStatusDriver);
    device_->write_features(device_->offered_features());
    device_->write_status(kNegotiated);
    device_->write_status(kNegotiated | kStatusDriverOk);
  }

  void operate() {
    switch (input_.take<std::uint8_t>() % 16) {
      case 0:
        now_ += std::chrono::milliseconds(input_.take<std::uint16_t>());
        return;
      case 1:
        say_actual(input_.take<std::uint32_t>());
        return;
      case 2:
        say_actual(static_cast<std::uint32_t>(device_->target_pages()));
        return;
      case 3:
        device_->write_status(0);
        return;
      case 4:
        if (device_->read_status() == 0) start_driver();
        return;
      case 5:
        settle();
        return;
      default:
        say();
    }
  }

  void say_actual(std::uint32_t pages) {
    std::array<std::byte, 4> bytes{};
    for (unsigned i = 0; i < 4; ++i) bytes[i] = static_cast<std::byte>(pages >> (8 * i));
    device_->write_config(kActualOffset, bytes);
  }

  void say() {
    const auto which = input_.take<std::uint8_t>();
    QmpSession& client = *clients_[which & 1];
    // Most begin where capabilities have been negotiated.
    if ((which & 2) != 0) client.receive("{\"execute\":\"qmp_capabilities\"}\n");
    const auto bytes = input_.take_bytes(which >> 2);
    client.receive({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    if ((which & 2) != 0) settle();
  }

  void settle() {
    look();
    for (bool stepped = true; stepped;) {
      stepped = false;
      for (auto& client : clients_) {
        const bool busy = client->waiting();
        const bool took = client->step();
        check(!busy || !took, "a client that waits is not served");
        stepped = stepped || took;
      }
      if (stepped) look();
      for (auto& client : clients_) read(*client);
    }
    check(device_->target_pages() * kPageSize <= kRamBytes, "the target is within guest memory");
  }

  void look() {
    control_.look([this](std::string_view line) {
      for (auto& client : clients_) client->send_event(line);
    });
  }

  // Takes what has come; true when the last line is an answer that has `id`.
  bool read(QmpSession& client, std::string_view id = "") {
    const std::string output = std::exchange(client.output(), {});
    bool found = false;
    for (std::string_view rest = output; !rest.empty();) {
      const auto end = rest.find("\r\n");
      check(end != std::string_view::npos, "a line ends with CRLF");
      const std::string_view line = rest.substr(0, end);
      rest.remove_prefix(end + 2);
      check(std::ranges::all_of(line, [](char c) { return c >= 0x20 && c < 0x7F; }),
            "a line is ASCII");
      const auto message = nlohmann::json::parse(line, nullptr, false);
      check(message.is_object(), "a line is a JSON object");
      check(message.contains("return") + message.contains("error") + message.contains("event") +
                    message.contains("QMP") ==
                1,
            "a message is one of the four kinds");
      found = message.contains("id") && message["id"] == id;
    }
    return found;
  }

  void start_over(QmpSession& client) {
    client.receive("\n\xFF\n{\"execute\":\"query-version\",\"id\":\"again\"}");
    while (client.step()) {
    }
    if (!client.waiting()) check(read(client, "again"), "a client that starts over is understood");
  }

  FuzzInput& input_;
  std::chrono::nanoseconds now_ = std::chrono::seconds(1000);
  std::unique_ptr<BalloonDevice> device_;
  BalloonControl control_;
  std::array<std::unique_ptr<QmpSession>, 2> clients_;
};

}  // namespace
}  // namespace vballoon::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vballoon::fuzz::FuzzInput input(data, size);
  vballoon::fuzz::Talk(input).run();
  return 0;
}
