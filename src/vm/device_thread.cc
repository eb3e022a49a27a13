// SPDX-License-Identifier: MIT
#include "vm/device_thread.h"

#include <pthread.h>
#include <sys/resource.h>

#include <csignal>
#include <utility>

namespace vballoon::sim {
namespace {

constexpr std::uint32_t kStop = 1U << 31;
constexpr std::uint32_t kSample = 1U << 30;

}  // namespace

std::chrono::nanoseconds thread_system_time() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return std::chrono::seconds(usage.ru_stime.tv_sec) +
         std::chrono::microseconds(usage.ru_stime.tv_usec);
}

DeviceThread::DeviceThread(BalloonDevice& device, EventFd kick)
    : device_(device), kick_(std::move(kick)), thread_([this] { run(); }) {}

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
  // Signals belong to the guest's thread, which can stop at any step.
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
  for (;;) {
    kick_.wait();
    const std::uint32_t kicked = kicked_.exchange(0);
    if ((kicked & kStop) != 0) return;
    for (std::uint16_t queue = 0; queue < device_.queue_count(); ++queue) {
      if ((kicked >> queue & 1) == 0) continue;
      while (device_.process(queue)) {
      }
    }
    if ((kicked & kSample) == 0) continue;
    system_time_ = thread_system_time();
    sampled_.store(true);
    sampled_.notify_one();
  }
}

}  // namespace vballoon::sim
