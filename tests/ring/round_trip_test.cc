// SPDX-License-Identifier: MIT
// Both sides of a ring on two threads that sleep whenever the ring is empty: no notification is
// lost.
//
// A side is woken only when publish() of the other asked for it, so one lost kick or interrupt
// stops the test for good; the watchdog in Bell::wait() turns that into a failure.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <iostream>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ring/driver_queue.h"
#include "test_memory.h"
#include "vballoon/device_queue.h"
#include "vballoon/guest_memory.h"

namespace vballoon {
namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kManyTrips = 100'000;
constexpr std::uint64_t kRacyTrips = 10'000;
#else
constexpr std::uint64_t kManyTrips = 10'000'000;
constexpr std::uint64_t kRacyTrips = 100'000;
#endif

// An eventfd: what a kick or an interrupt is when both sides are threads.
class Bell {
 public:
  Bell() : fd_(::eventfd(0, EFD_CLOEXEC)) {
    if (fd_ < 0) throw std::runtime_error("eventfd");
  }
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;
  ~Bell() { ::close(fd_); }

  void ring() {
    ++rings_;
    if (::eventfd_write(fd_, 1) != 0) throw std::runtime_error("eventfd_write");
  }
  // Sleeps until it rings. False when it does not: nobody else in this test takes that long.
  [[nodiscard]] bool wait() const {
    constexpr int kWatchdogMs = 60'000;
    pollfd poll{.fd = fd_, .events = POLLIN, .revents = 0};
    eventfd_t count = 0;
    return ::poll(&poll, 1, kWatchdogMs) == 1 && ::eventfd_read(fd_, &count) == 0;
  }
  [[nodiscard]] std::uint64_t rings() const { return rings_; }

 private:
  int fd_;
  std::uint64_t rings_ = 0;  // of the thread that rings
};

// Two sides that both sleep hardly ever race: the one has long fallen asleep when the other wakes
// up. A side that polls answers within nanoseconds, just when the other goes to sleep.
enum class Sleepers { kBoth, kDevice, kDriver };

// A ring as it was negotiated, and what goes on on it.
struct Case {
  std::string name;
  bool packed = false;
  bool event_index = true;
  bool in_order = false;
  std::uint16_t size = 64;
  Sleepers sleepers = Sleepers::kBoth;
  std::uint64_t trips = kManyTrips / 10;

  [[nodiscard]] QueueConfig config() const {
    QueueConfig config = lay_out_ring(size, 0, packed).config;
    config.event_index = event_index;
    config.in_order = in_order;
    return config;
  }
  friend std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }
};

struct Outcome {
  std::uint64_t trips = 0;       // buffers that came back
  std::uint64_t mismatches = 0;  // of these, how many did not carry what was sent
  std::uint64_t kicks = 0;
  std::uint64_t interrupts = 0;
  bool lost = false;  // somebody slept for ever
};

class RoundTrip {
 public:
  explicit RoundTrip(const Case& ring)
      : config_(ring.config()), sleepers_(ring.sleepers), trips_(ring.trips) {
    driver_ = DriverQueue::create(memory_, config_).value();
    if (!device_.start(memory_, config_)) throw std::runtime_error("queue does not start");
  }

  Outcome run() {
    std::thread device([this] { run_device(); });
    run_driver();
    device.join();
    outcome_.kicks = kick_.rings();
    outcome_.interrupts = interrupt_.rings();
    outcome_.lost = lost_;
    std::cout << trips_ << " round trips with " << outcome_.kicks << " kicks and "
              << outcome_.interrupts << " interrupts\n";
    return outcome_;
  }

 private:
  static constexpr std::uint64_t kPayloads = 0x20000;
  static constexpr std::uint64_t kStop = ~std::uint64_t{0};

  // One buffer for each descriptor: a token's bytes are not touched before it came back.
  [[nodiscard]] GuestBuffer buffer_of(std::uint64_t token) const {
    return {kPayloads + token % config_.size * 8, 8};
  }

  bool send(std::uint64_t token, std::uint64_t payload) {
    if (driver_->free_descriptors() == 0) return false;
    const GuestBuffer buffer = buffer_of(token);
    return memory_->write(buffer.address, std::as_bytes(std::span(&payload, 1))) &&
           driver_->add(std::array{buffer}, {}, token);
  }

  void run_driver() {
    std::uint64_t sent = 0;
    driver_->disable_interrupts();
    while (outcome_.trips < trips_ && !lost_) {
      while (sent < trips_ && send(sent, sent)) ++sent;
      if (driver_->publish()) kick_.ring();
      if (!take_all_used()) wait_for_interrupt();
    }
    (void)send(sent, kStop);
    if (driver_->publish() || lost_) kick_.ring();
  }

  void wait_for_interrupt() {
    if (sleepers_ == Sleepers::kDevice) return pause(driver_pauses_);
    if (sleepers_ == Sleepers::kDriver) linger(driver_pauses_);
    if (!driver_->enable_interrupts() && !interrupt_.wait()) lost_ = true;
    driver_->disable_interrupts();
  }

  bool take_all_used() {
    bool any = false;
    while (const auto used = driver_->take_used()) {
      any = true;
      const bool matches =
          used->token == outcome_.trips && used->written == static_cast<std::uint32_t>(used->token);
      outcome_.mismatches += matches ? 0 : 1;
      ++outcome_.trips;
    }
    return any;
  }

  void run_device() {
    bool stop = false;
    device_.disable_kicks();
    while (!stop && !lost_) {
      while (const auto payload = serve_one()) stop = *payload == kStop;
      if (device_.publish()) interrupt_.ring();
      if (!stop) wait_for_kick();
    }
  }

  void wait_for_kick() {
    if (sleepers_ == Sleepers::kDriver) return pause(device_pauses_);
    if (sleepers_ == Sleepers::kDevice) linger(device_pauses_);
    if (!device_.enable_kicks() && !kick_.wait()) lost_ = true;
    device_.disable_kicks();
  }

  // A different while each time, about as long as the side that polls takes to answer: so the
  // answer comes before, while and after the other falls asleep.
  static void linger(std::uint64_t& sleeps) {
    std::atomic<std::uint64_t> turns{++sleeps % 256};
    while (turns.load(std::memory_order_relaxed) != 0) {
      turns.store(turns.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
    }
  }

  // Polls, but does not starve the other side where there is one processor.
  static void pause(std::uint64_t& pauses) {
    if (++pauses % 1024 == 0) std::this_thread::yield();
  }

  // Takes a chain and answers with the low half of what it carries.
  std::optional<std::uint64_t> serve_one() {
    auto popped = device_.pop();
    if (!popped) throw std::runtime_error(popped.error().message());
    if (!*popped) return std::nullopt;
    std::uint64_t payload = 0;
    if (!(*popped)->read(0, std::as_writable_bytes(std::span(&payload, 1)))) {
      throw std::runtime_error("payload cannot be read");
    }
    (*popped)->complete(static_cast<std::uint32_t>(payload));
    return payload;
  }

  std::shared_ptr<const GuestMemory> memory_ = testing::memory_of(1 << 20);
  QueueConfig config_;
  const Sleepers sleepers_;
  const std::uint64_t trips_;
  std::unique_ptr<DriverQueue> driver_;
  DeviceQueue device_;
  Bell kick_;
  Bell interrupt_;
  std::uint64_t driver_pauses_ = 0;
  std::uint64_t device_pauses_ = 0;
  std::atomic<bool> lost_{false};
  Outcome outcome_;
};

std::vector<Case> all_cases() {
  std::vector<Case> cases{
      {.name = "Split", .trips = kManyTrips},
      {.name = "Packed", .packed = true, .trips = kManyTrips},
      {.name = "SplitFlags", .event_index = false},
      {.name = "PackedFlags", .packed = true, .event_index = false},
      {.name = "SplitInOrder", .in_order = true},
      {.name = "PackedInOrder", .packed = true, .in_order = true},
      // A packed ring may have any size.
      {.name = "PackedOddSize", .packed = true, .size = 37},
  };
  // On a ring of one entry the side that sleeps is about to do so in every trip.
  for (const bool packed : {false, true}) {
    for (const bool event_index : {false, true}) {
      const std::string ring =
          std::string(packed ? "Packed" : "Split") + (event_index ? "OneEntry" : "OneEntryFlags");
      for (const auto& [name, sleepers] : {std::pair{"DeviceSleeps", Sleepers::kDevice},
                                           std::pair{"DriverSleeps", Sleepers::kDriver},
                                           std::pair{"BothSleep", Sleepers::kBoth}}) {
        cases.push_back({.name = ring + name,
                         .packed = packed,
                         .event_index = event_index,
                         .size = 1,
                         .sleepers = sleepers,
                         .trips = kRacyTrips});
      }
    }
  }
  return cases;
}

class RoundTripThreadsTest : public ::testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(Rings, RoundTripThreadsTest, ::testing::ValuesIn(all_cases()),
                         [](const auto& suite) { return suite.param.name; });

TEST_P(RoundTripThreadsTest, SideThatGoesToSleepIsWoken) {
  const Outcome outcome = RoundTrip(GetParam()).run();

  EXPECT_FALSE(outcome.lost);
  EXPECT_EQ(outcome.trips, GetParam().trips);
  EXPECT_EQ(outcome.mismatches, 0u);
}

TEST(RoundTripKicksThreadsTest, EventIndexOfASplitRingLeavesKicksOut) {
  const Case ring{.name = "Split"};

  EXPECT_LT(RoundTrip(ring).run().kicks, ring.trips);
}

TEST(RoundTripKicksThreadsTest, EventIndexOfAPackedRingLeavesKicksOut) {
  const Case ring{.name = "Packed", .packed = true};

  EXPECT_LT(RoundTrip(ring).run().kicks, ring.trips);
}

}  // namespace
}  // namespace vballoon
