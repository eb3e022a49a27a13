// SPDX-License-Identifier: MIT
// A real system does things in its own time: to wait for what must come, with a limit.
#ifndef VBALLOON_TESTS_REAL_LINUX_SOON_H_
#define VBALLOON_TESTS_REAL_LINUX_SOON_H_

#include <gmock/gmock.h>

#include <chrono>
#include <string_view>
#include <thread>

namespace vballoon::testing {

// Far more than anything here takes; a test that runs into it fails.
inline constexpr std::chrono::seconds kSoon{60};

// Asks until the answer is true; false when it still is not after that time.
template <class Condition>
bool soon(Condition condition, std::chrono::milliseconds limit = kSoon,
          std::chrono::milliseconds pause = std::chrono::milliseconds(10)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(pause);
  }
  return true;
}

// Expects that a value becomes what the matcher wants; fails with the last one.
template <class Get, class Matcher>
void expect_soon(std::string_view what, Get get, const Matcher& matcher,
                 std::chrono::milliseconds limit = kSoon) {
  auto value = get();
  soon([&] { return ::testing::Value(value = get(), matcher); }, limit);
  EXPECT_THAT(value, matcher) << what;
}

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_REAL_LINUX_SOON_H_
