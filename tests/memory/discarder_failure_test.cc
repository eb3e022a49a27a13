// SPDX-License-Identifier: MIT
// A page that the kernel will not take must not keep the others (src/memory/discarder.cc).
// It refuses a locked page (EINVAL), and an address without a mapping (ENOMEM).
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "memory/residency.h"
#include "vballoon/discarder.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using testing::resident_bytes;

constexpr std::size_t kPages = 16;

using Case = std::tuple<KernelDiscarderOptions, Backing>;

// Memory of kPages resident pages.
class DiscardFailureTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    std::memset(region().host, 1, region().bytes);
    discarder_ = make_kernel_discarder(std::get<0>(GetParam()));
  }

  const MemoryRegion& region() const { return memory_->regions()[0]; }
  std::byte* page(std::size_t index) const { return region().host + index * kPageSize; }
  HostRun run(std::size_t first, std::size_t count) const {
    return {page(first), count * kPageSize, &region()};
  }

  // Not mlock(): the sanitizers make that do nothing.
  void lock(std::size_t index) { ASSERT_EQ(::syscall(SYS_mlock, page(index), kPageSize), 0); }

  DiscardReport discard(const std::vector<HostRun>& runs) {
    DiscardReport report;
    discarder_->discard(runs, report);
    return report;
  }

  std::vector<std::size_t> freed_pages() const {
    std::vector<std::size_t> freed;
    for (std::size_t i = 0; i < kPages; ++i) {
      if (resident_bytes(page(i), kPageSize) == 0) freed.push_back(i);
    }
    return freed;
  }

  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(std::array{RegionLayout{0, kPages* kPageSize}},
                            {.backing = std::get<1>(GetParam())})
          .value();
  std::unique_ptr<Discarder> discarder_;
};

// The runs and errors of the failures, for matchers.
std::vector<std::pair<HostRun, int>> failures(const DiscardReport& report) {
  std::vector<std::pair<HostRun, int>> all;
  for (const DiscardFailure& failure : report.failures) {
    all.emplace_back(failure.run, failure.os_error);
  }
  return all;
}

TEST_P(DiscardFailureTest, RefusedPieceInTheMiddleDoesNotKeepTheOthers) {
  lock(5);

  const DiscardReport report = discard({run(1, 2), run(5, 1), run(9, 1), run(12, 2)});

  EXPECT_THAT(failures(report), ElementsAre(std::pair(run(5, 1), EINVAL)));
  EXPECT_EQ(report.freed_bytes, 5 * kPageSize);
  EXPECT_THAT(freed_pages(), ElementsAre(1, 2, 9, 12, 13));
}

TEST_P(DiscardFailureTest, RefusedFirstPieceDoesNotKeepTheOthers) {
  lock(0);

  const DiscardReport report = discard({run(0, 1), run(9, 1), run(12, 2)});

  EXPECT_THAT(failures(report), ElementsAre(std::pair(run(0, 1), EINVAL)));
  EXPECT_THAT(freed_pages(), ElementsAre(9, 12, 13));
}

TEST_P(DiscardFailureTest, RefusedLastPieceIsReported) {
  lock(15);

  const DiscardReport report = discard({run(1, 1), run(9, 1), run(15, 1)});

  EXPECT_THAT(failures(report), ElementsAre(std::pair(run(15, 1), EINVAL)));
  EXPECT_THAT(freed_pages(), ElementsAre(1, 9));
}

TEST_P(DiscardFailureTest, SeveralRefusedPiecesAreReported) {
  lock(3);
  lock(4);
  lock(8);

  const DiscardReport report =
      discard({run(1, 1), run(3, 1), run(4, 1), run(6, 1), run(8, 1), run(10, 1)});

  EXPECT_THAT(failures(report),
              ElementsAre(std::pair(run(3, 2), EINVAL), std::pair(run(8, 1), EINVAL)))
      << "neighbours are one failure";
  EXPECT_THAT(freed_pages(), ElementsAre(1, 6, 10));
}

TEST_P(DiscardFailureTest, RefusedPageWithinARunDoesNotKeepTheRestOfIt) {
  lock(3);

  const DiscardReport report = discard({run(0, 8)});

  EXPECT_THAT(failures(report), ElementsAre(std::pair(run(3, 1), EINVAL)));
  EXPECT_EQ(report.freed_bytes, 7 * kPageSize);
  EXPECT_THAT(freed_pages(), ElementsAre(0, 1, 2, 4, 5, 6, 7));
}

TEST_P(DiscardFailureTest, RunThatIsRefusedAsAWholeIsOneFailure) {
  for (std::size_t page = 2; page < 7; ++page) lock(page);

  const DiscardReport report = discard({run(2, 5), run(9, 1)});

  EXPECT_THAT(failures(report), ElementsAre(std::pair(run(2, 5), EINVAL)));
  EXPECT_THAT(freed_pages(), ElementsAre(9));
}

TEST_P(DiscardFailureTest, UnmappedPieceIsReported) {
  // Taken and given back, so that nothing lies there.
  void* const hole = ::mmap(nullptr, kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_EQ(::munmap(hole, kPageSize), 0);
  const HostRun unmapped{static_cast<std::byte*>(hole), kPageSize, &region()};
  DiscardReport report;

  discarder_->discard(std::array{run(1, 1), unmapped, run(3, 1)}, report);

  EXPECT_THAT(failures(report), ElementsAre(std::pair(unmapped, ENOMEM)));
  EXPECT_THAT(freed_pages(), ElementsAre(1, 3));
}

std::string case_name(const ::testing::TestParamInfo<Case>& test) {
  const auto& [options, backing] = test.param;
  std::string name(backing == Backing::kMemfd ? "Memfd_" : "Anonymous_");
  for (const char c : to_string(options.strategy)) name += c == '-' ? '_' : c;
  return options.without_vectored_call ? name + "_refused" : name;
}

INSTANTIATE_TEST_SUITE_P(
    All, DiscardFailureTest,
    ::testing::Combine(::testing::Values(KernelDiscarderOptions{DiscardStrategy::kPerPage},
                                         KernelDiscarderOptions{DiscardStrategy::kMerged},
                                         KernelDiscarderOptions{DiscardStrategy::kVectored},
                                         KernelDiscarderOptions{DiscardStrategy::kVectored, true}),
                       ::testing::Values(Backing::kAnonymous, Backing::kMemfd)),
    case_name);

TEST(DiscardFailureFileTest, FileThatIsOpenForReadingOnlyRefusesHoles) {
  const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  const auto memory =
      GuestMemory::borrow(
          std::array{BorrowedRegion{.bytes = kPageSize,
                                    .host = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 30),
                                    .fd = fd,
                                    .shared = true,
                                    .method = DiscardMethod::kPunchHole}})
          .value();
  const HostRun run{memory->regions()[0].host, kPageSize, &memory->regions()[0]};
  DiscardReport report;

  make_kernel_discarder()->discard(std::array{run}, report);
  ::close(fd);

  EXPECT_THAT(failures(report), ElementsAre(std::pair(run, EBADF)));
}

// A child has the parent's discarder, whose call names the parent: it must act on its own memory.
TEST(DiscardForkTest, ChildGivesBackItsOwnMemory) {
  const auto memory = GuestMemory::allocate(std::array{RegionLayout{0, 4 * kPageSize}}).value();
  const MemoryRegion& region = memory->regions()[0];
  std::memset(region.host, 1, region.bytes);
  const auto discarder = make_kernel_discarder();
  const std::array runs{HostRun{region.host, kPageSize, &region},
                        HostRun{region.host + 2 * kPageSize, kPageSize, &region},
                        HostRun{region.host + 3 * kPageSize, kPageSize, &region}};

  EXPECT_EXIT(
      {
        DiscardReport report;
        discarder->discard(runs, report);
        const bool freed = report.freed_bytes == 3 * kPageSize &&
                           resident_bytes(region.host, region.bytes) == kPageSize;
        ::_exit(freed ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
  EXPECT_EQ(resident_bytes(region.host, region.bytes), 4 * kPageSize);
}

TEST(DiscardProbeTest, ProbeGivesTheSameAnswerAgain) {
  EXPECT_EQ(vectored_discard_available(), vectored_discard_available());
}

}  // namespace
}  // namespace vballoon
