// SPDX-License-Identifier: MIT
// Threads that do something over and over until a test has seen enough.
#ifndef VBALLOON_TESTS_BUSY_THREADS_H_
#define VBALLOON_TESTS_BUSY_THREADS_H_

#include <atomic>
#include <thread>
#include <vector>

namespace vballoon::testing {

// Whoever has some must call finish() before what they use goes.
class BusyThreads {
 public:
  ~BusyThreads() { finish(); }

  template <typename Action>
  void keep_doing(Action action) {
    threads_.emplace_back([this, action]() mutable {
      while (!stop_) {
        action();
        std::this_thread::yield();  // there may be fewer processors than threads
      }
    });
  }
  void finish() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_BUSY_THREADS_H_
