// SPDX-License-Identifier: MIT
#include "vballoon/sim/busy_vcpu.h"

#include <utility>

#include "vballoon/page_range.h"
#include "vm/own_thread.h"

namespace vballoon::sim {
namespace {

constexpr std::size_t kLine = 64;

}  // namespace

BusyVcpu::BusyVcpu(std::vector<std::span<std::byte>> memory)
    : memory_(std::move(memory)), thread_([this] { run(); }) {}

BusyVcpu::~BusyVcpu() {
  stop_ = true;
  thread_.join();
}

BusyVcpu::Mark BusyVcpu::mark() const {
  return {pieces_.load(std::memory_order_relaxed), std::chrono::steady_clock::now()};
}

double BusyVcpu::pieces_per_second(const Mark& from, const Mark& to) {
  const double seconds = std::chrono::duration<double>(to.when - from.when).count();
  return static_cast<double>(to.pieces - from.pieces) / seconds;
}

void BusyVcpu::run() {
  block_signals();
  std::uint64_t pieces = 0;
  for (std::uint64_t value = 1; !stop_.load(std::memory_order_relaxed); ++value) {
    for (const std::span<std::byte> memory : memory_) {
      for (std::size_t page = 0; page + kPageSize <= memory.size(); page += kPageSize) {
        if (stop_.load(std::memory_order_relaxed)) return;
        for (std::size_t line = 0; line < kPageSize; line += kLine) {
          *reinterpret_cast<volatile std::uint64_t*>(memory.data() + page + line) = value;
        }
        pieces_.store(++pieces, std::memory_order_relaxed);
      }
    }
  }
}

}  // namespace vballoon::sim
