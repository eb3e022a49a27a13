// SPDX-License-Identifier: MIT
#include "vm/discard_thread.h"

#include <utility>

#include "vm/own_thread.h"

namespace vballoon::sim {

DiscardThread::DiscardThread(BalloonDevice& device, EventFd owed)
    : device_(device), owed_(std::move(owed)), thread_([this] { run(); }) {}

DiscardThread::~DiscardThread() {
  stop_ = true;
  owed_.signal();
  thread_.join();
}

void DiscardThread::run() {
  block_signals();
  while (!stop_) {
    owed_.wait();
    while (!stop_ && device_.run_owed_discards()) system_time_ = thread_system_time();
  }
}

}  // namespace vballoon::sim
