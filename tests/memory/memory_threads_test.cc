// SPDX-License-Identifier: MIT
// One GuestMemory and one discarder, used by several threads at the same time.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "memory/residency.h"
#include "vballoon/discarder.h"
#include "vballoon/guest_memory.h"

namespace vballoon {
namespace {

using testing::resident_bytes;

constexpr std::size_t kThreads = 4;
constexpr std::uint64_t kRegionPages = 16;

// One region for each thread, with a hole behind each.
std::shared_ptr<const GuestMemory> memory_for_threads(Backing backing) {
  std::vector<RegionLayout> layout;
  for (std::uint64_t i = 0; i < kThreads; ++i) {
    layout.push_back({2 * i * kRegionPages * kPageSize, kRegionPages * kPageSize});
  }
  return GuestMemory::allocate(layout, {.backing = backing}).value();
}

template <typename Work>
void on_threads(Work work) {
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kThreads; ++i) threads.emplace_back([&work, i] { work(i); });
  for (std::thread& thread : threads) thread.join();
}

// How many of many look-ups, beginning at another region in each thread, went wrong.
std::uint64_t wrong_answers(const GuestMemory& memory, std::size_t thread) {
  std::uint64_t wrong = 0;
  std::vector<HostRun> runs;
  for (std::size_t i = 0; i < 4000; ++i) {
    const MemoryRegion& region = memory.regions()[(thread + i) % kThreads];
    runs.clear();
    const std::uint64_t inside = memory.translate(region.pages(), runs);
    const bool found = memory.find(region.guest_address) == &region;
    const bool hole = memory.find(region.guest_address + region.bytes) == nullptr;
    const bool right = inside == kRegionPages && runs.size() == 1 && runs[0].region == &region;
    if (!found || !hole || !right) ++wrong;
  }
  return wrong;
}

TEST(GuestMemoryThreadsTest, LookUpsOfSeveralThreadsDoNotDisturbEachOther) {
  const auto memory = memory_for_threads(Backing::kAnonymous);
  std::atomic<std::uint64_t> wrong{0};

  on_threads([&](std::size_t thread) { wrong += wrong_answers(*memory, thread); });

  EXPECT_EQ(wrong, 0u);
}

TEST(GuestMemoryThreadsTest, BytesThatTheGuestChangesMeanwhileAreOldOrNew) {
  const auto memory = memory_for_threads(Backing::kAnonymous);
  constexpr auto kOld = std::byte{0x11};
  constexpr auto kNew = std::byte{0x22};
  std::vector<std::byte> copy(kPageSize);
  ASSERT_TRUE(memory->write(0, std::vector(kPageSize, kOld)));

  std::thread guest([&] { EXPECT_TRUE(memory->write(0, std::vector(kPageSize, kNew))); });
  EXPECT_TRUE(memory->read(0, copy));
  guest.join();

  EXPECT_TRUE(std::all_of(copy.begin(), copy.end(),
                          [](std::byte byte) { return byte == kOld || byte == kNew; }));
}

class DiscarderThreadsTest : public ::testing::TestWithParam<std::tuple<DiscardStrategy, Backing>> {
};

TEST_P(DiscarderThreadsTest, EachThreadFreesItsOwnPages) {
  const auto [strategy, backing] = GetParam();
  const auto memory = memory_for_threads(backing);
  const auto discarder = make_kernel_discarder({strategy});
  std::array<std::uint64_t, kThreads> left{};

  on_threads([&](std::size_t thread) {
    const MemoryRegion& region = memory->regions()[thread];
    std::memset(region.host, 1, region.bytes);
    std::vector<HostRun> runs;
    for (std::uint64_t page = 0; page < kRegionPages; page += 2) {
      runs.push_back({region.host + page * kPageSize, kPageSize, &region});
    }
    DiscardReport report;
    discarder->discard(runs, report);
    left[thread] = resident_bytes(region.host, region.bytes);
  });

  EXPECT_EQ(std::count(left.begin(), left.end(), kRegionPages / 2 * kPageSize), kThreads);
}

INSTANTIATE_TEST_SUITE_P(
    All, DiscarderThreadsTest,
    ::testing::Combine(::testing::Values(DiscardStrategy::kPerPage, DiscardStrategy::kMerged,
                                         DiscardStrategy::kVectored),
                       ::testing::Values(Backing::kAnonymous, Backing::kMemfd)));

}  // namespace
}  // namespace vballoon
