// SPDX-License-Identifier: MIT
// A second virtual processor that keeps touching guest memory.                    room: vm
//
// Its page table entries live in another core's TLB, so that every discard in this process has to
// interrupt it: what a balloon costs the rest of the guest.
#ifndef VBALLOON_SIM_BUSY_VCPU_H_
#define VBALLOON_SIM_BUSY_VCPU_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <thread>
#include <vector>

#include "vballoon/export.h"

namespace vballoon::sim {

class VBALLOON_EXPORT BusyVcpu {
 public:
  // Starts a thread that writes the first word of every 64 bytes of `memory`, over and over.
  explicit BusyVcpu(std::vector<std::span<std::byte>> memory);
  ~BusyVcpu();
  BusyVcpu(const BusyVcpu&) = delete;
  BusyVcpu& operator=(const BusyVcpu&) = delete;

  // A point in the thread's work; two of them give its speed in between.
  struct Mark {
    std::uint64_t pieces = 0;  // 4 KiB pieces written
    std::chrono::steady_clock::time_point when;
  };
  [[nodiscard]] Mark mark() const;
  [[nodiscard]] static double pieces_per_second(const Mark& from, const Mark& to);

 private:
  void run();

  const std::vector<std::span<std::byte>> memory_;
  std::atomic<std::uint64_t> pieces_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace vballoon::sim

#endif  // VBALLOON_SIM_BUSY_VCPU_H_
