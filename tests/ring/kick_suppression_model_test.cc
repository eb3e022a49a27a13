// SPDX-License-Identifier: MIT
// All interleavings of a driver that publishes with a device that goes to sleep: can a kick be
// lost?
//
// The model holds what the four accesses of the handshake touch and runs them one at a time in
// every order, as a sequentially consistent machine may. In a split ring these are avail idx and
// avail_event. In a packed ring they are the flags of the first descriptor that is published
// together, which is the one at which a device that has taken all others looks, and the device's
// event structure; so both are a place up to which descriptors are there, and one that is waited
// for. The same handshake, with the sides swapped, suppresses interrupts.
// docs/decisions/0003-kick-suppression.md has the argument; this test is the enumeration, with the
// arithmetic of the real code.
#include <gtest/gtest.h>

#include <cstdint>
#include <ostream>
#include <set>
#include <tuple>
#include <vector>

#include "ring/packed_layout.h"
#include "ring/split_layout.h"

namespace vballoon {
namespace {

// The arithmetic of a ring: places in words of 16 bits.
class SplitRing {
 public:
  [[nodiscard]] static std::uint16_t advance(std::uint16_t place, std::uint16_t count) {
    return static_cast<std::uint16_t>(place + count);
  }
  [[nodiscard]] static bool has_room(std::uint16_t, std::uint16_t, std::uint16_t) { return true; }
  [[nodiscard]] static std::uint32_t event_at(std::uint16_t place) { return place; }
  [[nodiscard]] static bool wants_kick(std::uint32_t event, std::uint16_t before,
                                       std::uint16_t now) {
    return passes_event(static_cast<std::uint16_t>(event), now, before);
  }
};

class PackedRing {
 public:
  explicit PackedRing(std::uint16_t size) : size_(size) {}

  [[nodiscard]] std::uint16_t advance(std::uint16_t place, std::uint16_t count) const {
    PackedPlace next = PackedPlace::of_word(place);
    next.advance(count, size_);
    return next.word();
  }
  // A driver does not go over entries that the device has.
  [[nodiscard]] bool has_room(std::uint16_t taken, std::uint16_t avail, std::uint16_t count) const {
    return packed_distance(PackedPlace::of_word(taken), PackedPlace::of_word(avail), size_) +
               count <=
           size_;
  }
  [[nodiscard]] static std::uint32_t event_at(std::uint16_t place) {
    return event_word(kEventSpecific, PackedPlace::of_word(place));
  }
  [[nodiscard]] bool wants_kick(std::uint32_t event, std::uint16_t before,
                                std::uint16_t now) const {
    return wants_packed_event(event, true, PackedPlace::of_word(before), PackedPlace::of_word(now),
                              size_);
  }

 private:
  std::uint16_t size_;
};

// What the sides do; every order but the first of each loses a kick.
enum class DriverOrder { kPublishThenReadEvent, kReadEventThenPublish };
enum class DeviceOrder { kStoreEventThenLook, kLookThenStoreEvent, kStoreEventAndSleep };

enum class DriverAt : std::uint8_t { kFirst, kSecond, kKick };
enum class DeviceAt : std::uint8_t { kTake, kFirst, kSecond, kAsleep };

struct State {
  // Shared.
  std::uint16_t avail_index;
  std::uint32_t avail_event;
  bool kick_pending = false;
  // The driver's own.
  DriverAt driver = DriverAt::kFirst;
  std::uint8_t rounds_left;
  std::uint16_t before = 0;  // where the round began
  bool wants_kick = false;
  // The device's own.
  DeviceAt device = DeviceAt::kTake;
  std::uint16_t taken;
  bool saw_work = false;

  auto key() const {
    return std::tuple(avail_index, avail_event, kick_pending, driver, rounds_left, before,
                      wants_kick, device, taken, saw_work);
  }
  friend bool operator<(const State& a, const State& b) { return a.key() < b.key(); }
};

struct Outcome {
  std::size_t states = 0;
  std::size_t sleeps = 0;      // states in which the device sleeps
  std::size_t suppressed = 0;  // rounds of the driver that needed no kick
  std::size_t lost = 0;        // the device sleeps for ever on work
};

template <typename Ring>
class Model {
 public:
  Model(Ring ring, DriverOrder driver, DeviceOrder device, std::uint16_t batch)
      : ring_(ring), driver_order_(driver), device_order_(device), batch_(batch) {}

  // Visits every state that can be reached from an empty ring at `start`.
  Outcome explore(std::uint16_t start, std::uint8_t rounds) {
    const State initial{.avail_index = start,
                        .avail_event = ring_.event_at(start),
                        .rounds_left = rounds,
                        .taken = start};
    visit(initial);
    while (!open_.empty()) {
      const State state = open_.back();
      open_.pop_back();
      inspect(state);
      step_driver(state);
      step_device(state);
    }
    outcome_.states = seen_.size();
    return outcome_;
  }

 private:
  void visit(const State& state) {
    if (seen_.insert(state).second) open_.push_back(state);
  }

  void inspect(const State& state) {
    if (state.device != DeviceAt::kAsleep) return;
    ++outcome_.sleeps;
    // Between two rounds of the driver nobody is about to send a kick any more.
    const bool driver_is_done = state.driver == DriverAt::kFirst;
    if (driver_is_done && !state.kick_pending && state.avail_index != state.taken) ++outcome_.lost;
  }

  // Each call is one access to shared memory, or the kick.
  void step_driver(State state) {
    const bool publishes_first = driver_order_ == DriverOrder::kPublishThenReadEvent;
    switch (state.driver) {
      case DriverAt::kFirst:
        if (state.rounds_left == 0) return;
        if (!ring_.has_room(state.taken, state.avail_index, batch_)) return;
        state.before = state.avail_index;
        publishes_first ? publish(state) : read_event(state);
        state.driver = DriverAt::kSecond;
        break;
      case DriverAt::kSecond:
        publishes_first ? read_event(state) : publish(state);
        state.driver = DriverAt::kKick;
        break;
      case DriverAt::kKick:
        if (!state.wants_kick) ++outcome_.suppressed;
        state.kick_pending = state.kick_pending || state.wants_kick;
        state.wants_kick = false;
        --state.rounds_left;
        state.driver = DriverAt::kFirst;
        break;
    }
    visit(state);
  }

  void publish(State& state) const { state.avail_index = ring_.advance(state.avail_index, batch_); }
  void read_event(State& state) const {
    state.wants_kick =
        ring_.wants_kick(state.avail_event, state.before, ring_.advance(state.before, batch_));
  }

  void step_device(State state) {
    switch (state.device) {
      case DeviceAt::kTake:
        if (state.taken != state.avail_index) {
          state.taken = ring_.advance(state.taken, 1);
        } else {
          state.device = DeviceAt::kFirst;
        }
        break;
      case DeviceAt::kFirst:
        device_order_ == DeviceOrder::kLookThenStoreEvent ? look(state) : store_event(state);
        state.device = DeviceAt::kSecond;
        break;
      case DeviceAt::kSecond:
        if (device_order_ == DeviceOrder::kLookThenStoreEvent) store_event(state);
        if (device_order_ == DeviceOrder::kStoreEventThenLook) look(state);
        state.device = state.saw_work ? DeviceAt::kTake : DeviceAt::kAsleep;
        state.saw_work = false;
        break;
      case DeviceAt::kAsleep:
        if (!state.kick_pending) return;
        state.kick_pending = false;
        state.device = DeviceAt::kTake;
        break;
    }
    visit(state);
  }

  void store_event(State& state) const { state.avail_event = ring_.event_at(state.taken); }
  static void look(State& state) { state.saw_work = state.avail_index != state.taken; }

  const Ring ring_;
  const DriverOrder driver_order_;
  const DeviceOrder device_order_;
  const std::uint16_t batch_;
  std::set<State> seen_;
  std::vector<State> open_;
  Outcome outcome_;
};

constexpr std::uint8_t kRounds = 6;

// What is explored: a ring, from just before its wrap on, and how much is published at a time.
struct Setting {
  const char* name;
  std::uint16_t packed_size;  // 0: a split ring
  std::uint16_t batch;

  friend std::ostream& operator<<(std::ostream& out, const Setting& s) { return out << s.name; }
};

class KickSuppressionModelTest : public ::testing::TestWithParam<Setting> {
 protected:
  static Outcome explore(DriverOrder driver, DeviceOrder device) {
    const auto [name, size, batch] = GetParam();
    if (size == 0) return Model(SplitRing(), driver, device, batch).explore(65533, kRounds);
    const PackedPlace start{static_cast<std::uint16_t>(size - 1), true};
    return Model(PackedRing(size), driver, device, batch).explore(start.word(), kRounds);
  }
};

INSTANTIATE_TEST_SUITE_P(Settings, KickSuppressionModelTest,
                         ::testing::Values(Setting{"Split", 0, 1}, Setting{"SplitBatches", 0, 3},
                                           Setting{"Packed", 37, 1},
                                           Setting{"PackedBatches", 37, 3},
                                           Setting{"PackedOneEntry", 1, 1},
                                           Setting{"PackedFullBatches", 3, 3}),
                         [](const auto& suite) { return suite.param.name; });

TEST_P(KickSuppressionModelTest, NoKickIsLostAcrossTheWrap) {
  const auto outcome =
      explore(DriverOrder::kPublishThenReadEvent, DeviceOrder::kStoreEventThenLook);

  EXPECT_EQ(outcome.lost, 0u);
}

// The model says something only if the device really sleeps in it and kicks are really left out.
TEST_P(KickSuppressionModelTest, DeviceSleepsAndKicksAreSuppressed) {
  const auto outcome =
      explore(DriverOrder::kPublishThenReadEvent, DeviceOrder::kStoreEventThenLook);

  EXPECT_GT(outcome.sleeps, 0u);
  EXPECT_GT(outcome.suppressed, 0u);
  EXPECT_GT(outcome.states, 100u);
}

TEST_P(KickSuppressionModelTest, DeviceThatLooksBeforeItAsksLosesAKick) {
  const auto outcome =
      explore(DriverOrder::kPublishThenReadEvent, DeviceOrder::kLookThenStoreEvent);

  EXPECT_GT(outcome.lost, 0u);
}

TEST_P(KickSuppressionModelTest, DeviceThatDoesNotLookAgainLosesAKick) {
  const auto outcome =
      explore(DriverOrder::kPublishThenReadEvent, DeviceOrder::kStoreEventAndSleep);

  EXPECT_GT(outcome.lost, 0u);
}

TEST_P(KickSuppressionModelTest, DriverThatReadsTheEventBeforeItPublishesLosesAKick) {
  const auto outcome =
      explore(DriverOrder::kReadEventThenPublish, DeviceOrder::kStoreEventThenLook);

  EXPECT_GT(outcome.lost, 0u);
}

}  // namespace
}  // namespace vballoon
