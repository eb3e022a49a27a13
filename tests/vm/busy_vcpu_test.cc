// SPDX-License-Identifier: MIT
// The virtual processor that keeps touching memory (src/vm/busy_vcpu.cc).
#include "vballoon/sim/busy_vcpu.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "vballoon/page_range.h"

namespace vballoon {
namespace {

using sim::BusyVcpu;

// Returns when the thread has written that many pieces.
void wait_for(const BusyVcpu& vcpu, std::uint64_t pieces) {
  while (vcpu.mark().pieces < pieces) std::this_thread::yield();
}

std::uint64_t word_at(const std::vector<std::byte>& memory, std::size_t at) {
  std::uint64_t word = 0;
  std::memcpy(&word, memory.data() + at, sizeof word);
  return word;
}

TEST(BusyVcpuThreadsTest, FirstWordOfEachLineOfAllPiecesOfMemoryIsWritten) {
  std::vector<std::byte> one(2 * kPageSize);
  std::vector<std::byte> two(kPageSize);

  {
    const BusyVcpu vcpu({one, two});
    wait_for(vcpu, 3);
  }

  EXPECT_NE(word_at(one, 0), 0u);
  EXPECT_NE(word_at(one, 2 * kPageSize - 64), 0u);
  EXPECT_NE(word_at(two, kPageSize - 64), 0u);
  EXPECT_EQ(word_at(one, 8), 0u);
}

TEST(BusyVcpuThreadsTest, WorkBeginsAnewWhenAllWasWritten) {
  std::vector<std::byte> memory(kPageSize);

  {
    const BusyVcpu vcpu({memory});
    wait_for(vcpu, 5);
  }

  EXPECT_GE(word_at(memory, 0), 5u);
}

TEST(BusyVcpuThreadsTest, WithoutAPieceOfMemoryItCanBeStopped) {
  std::vector<std::byte> less_than_a_page(100);

  { const BusyVcpu vcpu({less_than_a_page}); }

  EXPECT_EQ(word_at(less_than_a_page, 0), 0u);
}

TEST(BusyVcpuTest, SpeedIsPiecesByTheTimeBetweenTwoMarks) {
  const BusyVcpu::Mark from{100, {}};
  const BusyVcpu::Mark to{700, from.when + std::chrono::seconds(2)};

  EXPECT_DOUBLE_EQ(BusyVcpu::pieces_per_second(from, to), 300.0);
}

}  // namespace
}  // namespace vballoon
