// SPDX-License-Identifier: MIT
// Eventfds (src/vm/event_fd.cc).
#include "vm/event_fd.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <utility>

namespace vballoon {
namespace {

using sim::EventFd;

TEST(EventFdThreadsTest, SignalWakesTheThreadThatWaits) {
  const EventFd event = EventFd::create().value();
  bool woken = false;
  std::thread waiter([&] { woken = event.wait(); });

  event.signal();
  waiter.join();

  EXPECT_TRUE(woken);
}

TEST(EventFdTest, SignalsBeforeTheWaitAreNotLost) {
  const EventFd event = EventFd::create().value();
  event.signal();
  event.signal();

  EXPECT_TRUE(event.wait());
}

TEST(EventFdThreadsTest, SignalEndsAWaitThatWatches) {
  const EventFd event = EventFd::create().value();
  bool woken = false;
  std::thread waiter([&] { woken = event.wait(std::chrono::hours(1)); });

  event.signal();
  waiter.join();

  EXPECT_TRUE(woken);
}

TEST(EventFdThreadsTest, WatchThatWasTooShortIsFollowedByAWait) {
  const EventFd event = EventFd::create().value();
  bool woken = false;
  std::thread waiter([&] { woken = event.wait(std::chrono::nanoseconds(1)); });

  event.signal();
  waiter.join();

  EXPECT_TRUE(woken);
}

TEST(EventFdTest, MovedItIsTheSameEvent) {
  EventFd first = EventFd::create().value();
  first.signal();

  const EventFd second = std::move(first);

  EXPECT_TRUE(second.wait());
}

}  // namespace
}  // namespace vballoon
