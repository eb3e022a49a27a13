// SPDX-License-Identifier: MIT
#include "vm/own_thread.h"

#include <pthread.h>
#include <sys/resource.h>

#include <csignal>

namespace vballoon::sim {

// But for those that a thread causes itself: one that is blocked then ends the process, whatever
// handler there is.
void block_signals() {
  sigset_t all;
  sigfillset(&all);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigdelset(&all, own);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

std::chrono::nanoseconds thread_system_time() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return std::chrono::seconds(usage.ru_stime.tv_sec) +
         std::chrono::microseconds(usage.ru_stime.tv_usec);
}

}  // namespace vballoon::sim
