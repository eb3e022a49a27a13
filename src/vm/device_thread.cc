// SPDX-License-Identifier: MIT
#include "vm/device_thread.h"

#include <utility>

#include "vm/own_thread.h"

namespace vballoon::sim {
namespace {

constexpr std::uint32_t kStop = 1U << 31;
constexpr std::uint32_t kSample = 1U << 30;

}  // namespace

DeviceThread::DeviceThread(BalloonDevice& device, EventFd kick, std::chrono::nanoseconds watch)
    : device_(device), kick_(std::move(kick)), watch_(watch), thread_([this] { run(); }) {}

DeviceThread::~DeviceThread() {
  kicked_.fetch_or(kStop);
  kick_.signal();
  thread_.join();
}

void DeviceThread::kick(std::uint16_t queue) {
  kicked_.fetch_or(1U << queue);
  kick_.signal();
}

std::chrono::nanoseconds DeviceThread::system_time() {
  sampled_.store(false);
  kicked_.fetch_or(kSample);
  kick_.signal();
  sampled_.wait(false);
  return system_time_;
}

void DeviceThread::run() {
  block_signals();
  for (;;) {
    kick_.wait();
    const std::uint32_t kicked = kicked_.exchange(0);
    if ((kicked & kStop) != 0) return;
    serve(kicked);
    if ((kicked & kSample) != 0) {
      system_time_ = thread_system_time();
      sampled_.store(true);
      sampled_.notify_one();
    }
    if (watch_.count() != 0) watch();
  }
}

void DeviceThread::serve(std::uint32_t queues) {
  for (std::uint16_t queue = 0; queue < kMaxBalloonQueues; ++queue) {
    if ((queues >> queue & 1) == 0) continue;
    while (device_.process(queue)) {
    }
  }
}

// Until there was nothing to do for as long as it watches, or until it is wanted for something
// else. Kicks are asked for again at the end, and what came just before that is served.
void DeviceThread::watch() {
  using clock = std::chrono::steady_clock;
  for (auto idle_since = clock::now(); clock::now() - idle_since < watch_ && kicked_ == 0;) {
    bool found = false;
    for (std::uint16_t queue = 0; queue < kMaxBalloonQueues; ++queue) {
      found = device_.poll(queue) || found;
    }
    if (found) idle_since = clock::now();
  }
  serve(~std::uint32_t{0});
}

}  // namespace vballoon::sim
