// SPDX-License-Identifier: MIT
// A device that is saved and restored into another one on the same memory.
#ifndef VBALLOON_TESTS_DEVICE_SAVED_STATE_FIXTURE_H_
#define VBALLOON_TESTS_DEVICE_SAVED_STATE_FIXTURE_H_

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "device/device_fixture.h"
#include "device/device_state.h"

namespace vballoon::testing {

class SavedStateFixture : public ::testing::Test {
 protected:
  explicit SavedStateFixture(bool packed = packed_by_default())
      : rig_({.device = options(), .packed = packed}) {}

  static constexpr std::uint16_t kStatsQueue = 2;
  static constexpr std::uint16_t kHintQueue = 3;
  static constexpr std::uint16_t kReportQueue = 4;
  static constexpr std::chrono::nanoseconds kSecond = std::chrono::seconds(1);

  BalloonOptions options() {
    return {
        .features = Features{Feature::kMustTellHost, Feature::kStatsVq, Feature::kFreePageHint,
                             Feature::kPageReporting, Feature::kPagePoison, Feature::kRingReset},
        .budget = {.pages = 100},
        .on_free_page_hints =
            [this](std::span<const PageRange> pages) {
              hinted_.insert(hinted_.end(), pages.begin(), pages.end());
            },
        .clock = [this] { return now_; }};
  }

  // What the device was restored with; nothing but this is known to the new one.
  std::vector<std::byte> move_to_another_device() {
    auto state = rig_.save();
    rig_.replace_device();
    const auto restored = rig_.restore(state);
    if (!restored) throw std::runtime_error(restored.error().message());
    return state;
  }

  static Message stats(std::uint16_t tag, std::uint64_t value) {
    return {{stats_entries({{tag, value}})}};
  }
  static Message pages_to_hint(std::initializer_list<PageRange> ranges) {
    return message_of(Dialect::kScatterGather, ranges);
  }
  void hint_command(std::uint32_t id) {
    rig_.send(kHintQueue, {{le32({id})}});
    rig_.serve(kHintQueue);
  }

  // The state of the device with something changed in it, and a checksum that is right.
  template <typename Change>
  std::vector<std::byte> changed_state(Change change) {
    const DeviceMake make{.offered = rig_.device().offered_features(),
                          .regions = rig_.memory().regions()};
    DeviceState state = decode(rig_.device().save(), make).value();
    change(state);
    return encode(state, make);
  }

  std::chrono::nanoseconds now_ = std::chrono::hours(1);
  PageRanges hinted_;
  Rig rig_;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_DEVICE_SAVED_STATE_FIXTURE_H_
