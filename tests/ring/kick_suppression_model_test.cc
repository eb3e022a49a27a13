// SPDX-License-Identifier: MIT
// All interleavings of a driver that publishes with a device that goes to sleep: can a kick be
// lost?
//
// The model holds what the four accesses of the handshake touch (avail idx and avail_event) and
// runs them one at a time in every order, as a sequentially consistent machine may. The same
// handshake, with the sides swapped, suppresses interrupts. docs/decisions/0003-kick-suppression.md
// has the argument; this test is the enumeration, with the arithmetic of the real code.
#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <tuple>
#include <vector>

#include "ring/split_layout.h"

namespace vballoon {
namespace {

// What the sides do; every order but the first of each loses a kick.
enum class DriverOrder { kPublishThenReadEvent, kReadEventThenPublish };
enum class DeviceOrder { kStoreEventThenLook, kLookThenStoreEvent, kStoreEventAndSleep };

enum class DriverAt : std::uint8_t { kFirst, kSecond, kKick };
enum class DeviceAt : std::uint8_t { kTake, kFirst, kSecond, kAsleep };

struct State {
  // Shared.
  std::uint16_t avail_index;
  std::uint16_t avail_event;
  bool kick_pending = false;
  // The driver's own.
  DriverAt driver = DriverAt::kFirst;
  std::uint8_t rounds_left;
  bool wants_kick = false;
  // The device's own.
  DeviceAt device = DeviceAt::kTake;
  std::uint16_t taken;
  bool saw_work = false;

  auto key() const {
    return std::tuple(avail_index, avail_event, kick_pending, driver, rounds_left, wants_kick,
                      device, taken, saw_work);
  }
  friend bool operator<(const State& a, const State& b) { return a.key() < b.key(); }
};

class Model {
 public:
  Model(DriverOrder driver, DeviceOrder device, std::uint16_t batch)
      : driver_order_(driver), device_order_(device), batch_(batch) {}

  struct Outcome {
    std::size_t states = 0;
    std::size_t sleeps = 0;      // states in which the device sleeps
    std::size_t suppressed = 0;  // rounds of the driver that needed no kick
    std::size_t lost = 0;        // the device sleeps for ever on work
  };

  // Visits every state that can be reached from an empty ring at index `start`.
  Outcome explore(std::uint16_t start, std::uint8_t rounds) {
    State initial{
        .avail_index = start, .avail_event = start, .rounds_left = rounds, .taken = start};
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
        publishes_first ? publish(state) : read_event(state, state.avail_index);
        state.driver = DriverAt::kSecond;
        break;
      case DriverAt::kSecond:
        if (publishes_first) {
          read_event(state, static_cast<std::uint16_t>(state.avail_index - batch_));
        } else {
          publish(state);
        }
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

  void publish(State& state) const {
    state.avail_index = static_cast<std::uint16_t>(state.avail_index + batch_);
  }
  void read_event(State& state, std::uint16_t before) const {
    state.wants_kick =
        passes_event(state.avail_event, static_cast<std::uint16_t>(before + batch_), before);
  }

  void step_device(State state) {
    switch (state.device) {
      case DeviceAt::kTake:
        if (state.taken != state.avail_index) {
          ++state.taken;
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

  static void store_event(State& state) { state.avail_event = state.taken; }
  static void look(State& state) { state.saw_work = state.avail_index != state.taken; }

  const DriverOrder driver_order_;
  const DeviceOrder device_order_;
  const std::uint16_t batch_;
  std::set<State> seen_;
  std::vector<State> open_;
  Outcome outcome_;
};

constexpr std::uint8_t kRounds = 6;
constexpr std::uint16_t kBeforeWrap = 65533;

Model::Outcome explore(DriverOrder driver, DeviceOrder device, std::uint16_t batch = 1) {
  return Model(driver, device, batch).explore(kBeforeWrap, kRounds);
}

TEST(KickSuppressionModelTest, NoKickIsLostAcrossTheWrap) {
  const auto outcome =
      explore(DriverOrder::kPublishThenReadEvent, DeviceOrder::kStoreEventThenLook);

  EXPECT_EQ(outcome.lost, 0u);
}

TEST(KickSuppressionModelTest, NoKickIsLostWithBatches) {
  const auto outcome =
      explore(DriverOrder::kPublishThenReadEvent, DeviceOrder::kStoreEventThenLook, 3);

  EXPECT_EQ(outcome.lost, 0u);
}

// The model says something only if the device really sleeps in it and kicks are really left out.
TEST(KickSuppressionModelTest, DeviceSleepsAndKicksAreSuppressed) {
  const auto outcome =
      explore(DriverOrder::kPublishThenReadEvent, DeviceOrder::kStoreEventThenLook);

  EXPECT_GT(outcome.sleeps, 0u);
  EXPECT_GT(outcome.suppressed, 0u);
  EXPECT_GT(outcome.states, 100u);
}

TEST(KickSuppressionModelTest, DeviceThatLooksBeforeItAsksLosesAKick) {
  const auto outcome =
      explore(DriverOrder::kPublishThenReadEvent, DeviceOrder::kLookThenStoreEvent);

  EXPECT_GT(outcome.lost, 0u);
}

TEST(KickSuppressionModelTest, DeviceThatDoesNotLookAgainLosesAKick) {
  const auto outcome =
      explore(DriverOrder::kPublishThenReadEvent, DeviceOrder::kStoreEventAndSleep);

  EXPECT_GT(outcome.lost, 0u);
}

TEST(KickSuppressionModelTest, DriverThatReadsTheEventBeforeItPublishesLosesAKick) {
  const auto outcome =
      explore(DriverOrder::kReadEventThenPublish, DeviceOrder::kStoreEventThenLook);

  EXPECT_GT(outcome.lost, 0u);
}

}  // namespace
}  // namespace vballoon
