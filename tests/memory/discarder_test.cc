// SPDX-License-Identifier: MIT
// What is left of memory after it was given back (src/memory/discarder.cc): every strategy on
// every backing.
#include "vballoon/discarder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <tuple>

#include "allocation_counter.h"
#include "memory/residency.h"

namespace vballoon {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using testing::file_bytes;
using testing::free_huge_pages;
using ::testing::IsEmpty;
using testing::resident_bytes;

constexpr std::size_t kPages = 12;  // host pages in the memory of most tests
constexpr auto kPattern = std::byte{0x5a};

struct BackingCase {
  std::string name;
  AllocateOptions options;
};

struct StrategyCase {
  std::string name;
  KernelDiscarderOptions options;
};

const std::array kStrategies{
    StrategyCase{"PerPage", {DiscardStrategy::kPerPage}},
    StrategyCase{"Merged", {DiscardStrategy::kMerged}},
    StrategyCase{"Vectored", {DiscardStrategy::kVectored}},
    StrategyCase{"VectoredRefused", {DiscardStrategy::kVectored, true}},
};
const std::array kBackings{
    BackingCase{"Anonymous", {}},
    BackingCase{"TransparentHuge", {.thp = ThpMode::kOn}},
    BackingCase{"Memfd", {.backing = Backing::kMemfd}},
    BackingCase{"Hugetlb", {.backing = Backing::kHugetlb}},
};

// Memory of kPages host pages, each filled with a pattern.
class DiscardTest : public ::testing::TestWithParam<std::tuple<StrategyCase, BackingCase>> {
 protected:
  void SetUp() override {
    const auto& [strategy, backing] = GetParam();
    const bool hugetlb = backing.options.backing == Backing::kHugetlb;
    const RegionLayout layout{0, kPages * (hugetlb ? std::uint64_t{2} << 20 : kPageSize)};
    auto memory = GuestMemory::allocate(std::array{layout}, backing.options);
    if (!memory && hugetlb && memory.error().os_error == ENOMEM) {
      GTEST_SKIP() << memory.error().message() << "; HugePages_Free is " << free_huge_pages();
    }
    memory_ = std::move(memory).value();
    std::memset(region().host, static_cast<int>(kPattern), region().bytes);
    discarder_ = make_kernel_discarder(strategy.options);
  }

  const MemoryRegion& region() const { return memory_->regions()[0]; }
  std::byte* page(std::size_t index) const { return region().host + index * page_bytes(); }
  std::size_t page_bytes() const { return region().host_page_bytes; }

  HostRun run(std::size_t first, std::size_t count) const {
    return {page(first), count * page_bytes(), &region()};
  }

  // Pages 2, 3, 4 and 8 and 10.
  DiscardReport discard_some() {
    DiscardReport report;
    discarder_->discard(std::array{run(2, 3), run(8, 1), run(10, 1)}, report);
    return report;
  }

  std::vector<std::size_t> resident_pages() const {
    std::vector<std::size_t> resident;
    for (std::size_t i = 0; i < kPages; ++i) {
      if (resident_bytes(page(i), page_bytes()) != 0) resident.push_back(i);
    }
    return resident;
  }

  std::span<const std::byte> bytes_of(std::size_t first, std::size_t count) const {
    return {page(first), count * page_bytes()};
  }

  // Pages of which all bytes have this value.
  std::vector<std::size_t> pages_full_of(std::byte value) const {
    std::vector<std::size_t> pages;
    for (std::size_t i = 0; i < kPages; ++i) {
      const std::vector<std::byte> expected(page_bytes(), value);
      if (std::memcmp(page(i), expected.data(), page_bytes()) == 0) pages.push_back(i);
    }
    return pages;
  }

  std::shared_ptr<const GuestMemory> memory_;
  std::unique_ptr<Discarder> discarder_;
};

TEST_P(DiscardTest, OnlyTheDiscardedPagesAreNoLongerResident) {
  ASSERT_EQ(resident_pages().size(), kPages);

  discard_some();

  EXPECT_THAT(resident_pages(), ElementsAre(0, 1, 5, 6, 7, 9, 11));
}

TEST_P(DiscardTest, DiscardedPagesReadAsZero) {
  discard_some();

  EXPECT_THAT(pages_full_of(std::byte{0}), ElementsAre(2, 3, 4, 8, 10));
}

TEST_P(DiscardTest, NeighboursKeepTheirBytes) {
  discard_some();

  EXPECT_THAT(pages_full_of(kPattern), ElementsAre(0, 1, 5, 6, 7, 9, 11));
}

TEST_P(DiscardTest, EveryByteIsReportedAsFreed) {
  const DiscardReport report = discard_some();

  EXPECT_EQ(report.freed_bytes, 5 * page_bytes());
  EXPECT_THAT(report.failures, IsEmpty());
}

TEST_P(DiscardTest, OutcomeIsAddedToTheReport) {
  DiscardReport report;
  report.freed_bytes = 7;
  report.calls = 1;

  discarder_->discard(std::array{run(0, 1)}, report);

  EXPECT_EQ(report.freed_bytes, 7 + page_bytes());
  EXPECT_EQ(report.calls, 2u);
}

TEST_P(DiscardTest, DiscardedPagesCanBeUsedAgain) {
  discard_some();

  std::memset(page(3), static_cast<int>(kPattern), page_bytes());

  EXPECT_THAT(pages_full_of(kPattern), ElementsAre(0, 1, 3, 5, 6, 7, 9, 11));
}

TEST_P(DiscardTest, NoRunsAreNoCalls) {
  DiscardReport report;

  discarder_->discard({}, report);

  EXPECT_EQ(report.calls, 0u);
}

TEST_P(DiscardTest, DiscardingDoesNotAllocate) {
  const std::array runs{run(2, 3), run(8, 1), run(10, 1)};
  DiscardReport report;
  const testing::AllocationCounter allocations;

  discarder_->discard(runs, report);

  EXPECT_EQ(allocations.count(), 0u);
}

const auto case_name = [](const auto& test) {
  return std::get<0>(test.param).name + std::get<1>(test.param).name;
};

INSTANTIATE_TEST_SUITE_P(All, DiscardTest,
                         ::testing::Combine(::testing::ValuesIn(kStrategies),
                                            ::testing::ValuesIn(kBackings)),
                         case_name);

// Files say themselves how much they hold.
class DiscardFileTest : public DiscardTest {};

TEST_P(DiscardFileTest, FileHoldsOnlyWhatWasNotDiscarded) {
  ASSERT_EQ(file_bytes(region().fd), kPages * page_bytes());

  discard_some();

  EXPECT_EQ(file_bytes(region().fd), (kPages - 5) * page_bytes());
}

INSTANTIATE_TEST_SUITE_P(All, DiscardFileTest,
                         ::testing::Combine(::testing::ValuesIn(kStrategies),
                                            ::testing::Values(kBackings[2], kBackings[3])),
                         case_name);

// How many system calls a strategy needs: 3000 single pages, every other one.
class DiscardCallsTest : public ::testing::Test {
 protected:
  static constexpr std::size_t kRuns = 3000;

  DiscardReport discard(const KernelDiscarderOptions& options) {
    std::vector<HostRun> runs;
    const MemoryRegion& region = memory_->regions()[0];
    for (std::size_t i = 0; i < kRuns; ++i) {
      runs.push_back({region.host + 2 * i * kPageSize, kPageSize, &region});
    }
    DiscardReport report;
    make_kernel_discarder(options)->discard(runs, report);
    return report;
  }

  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(std::array{RegionLayout{0, 2 * kRuns* kPageSize}}).value();
};

TEST_F(DiscardCallsTest, VectoredTakesThousandTwentyFourPiecesACall) {
  if (!vectored_discard_available()) GTEST_SKIP() << "this kernel has no vectored discard";

  const DiscardReport report = discard({DiscardStrategy::kVectored});

  EXPECT_EQ(report.calls, 3u);
  EXPECT_EQ(report.freed_bytes, kRuns * kPageSize);
}

TEST_F(DiscardCallsTest, VectoredWithoutTheCallTakesOneForEachRun) {
  EXPECT_EQ(discard({DiscardStrategy::kVectored, true}).calls, kRuns);
}

TEST_F(DiscardCallsTest, MergedTakesOneCallForALongRun) {
  const MemoryRegion& region = memory_->regions()[0];
  DiscardReport report;

  make_kernel_discarder({DiscardStrategy::kMerged})
      ->discard(std::array{HostRun{region.host, region.bytes, &region}}, report);

  EXPECT_EQ(report.calls, 1u);
}

TEST_F(DiscardCallsTest, PerPageTakesOneCallForEachPage) {
  const MemoryRegion& region = memory_->regions()[0];
  DiscardReport report;

  make_kernel_discarder({DiscardStrategy::kPerPage})
      ->discard(std::array{HostRun{region.host, region.bytes, &region}}, report);

  EXPECT_EQ(report.calls, 2 * kRuns);
}

// The kernel cuts a vectored call at 2 GiB without saying so.
TEST(DiscardLargeTest, RunsOfMoreThanTwoGibibytesAreDiscardedToTheirEnds) {
  constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
  const auto memory = GuestMemory::allocate(std::array{RegionLayout{0, 6 * kGiB}}).value();
  const MemoryRegion& region = memory->regions()[0];
  std::byte* const ends[] = {region.host + kGiB - 1, region.host + 4 * kGiB - 1,
                             region.host + 5 * kGiB - 1};
  for (std::byte* end : ends) *end = kPattern;
  const std::array runs{HostRun{region.host, kGiB, &region},
                        HostRun{region.host + kGiB + kPageSize, 3 * kGiB - kPageSize, &region},
                        HostRun{region.host + 4 * kGiB + kPageSize, kGiB - kPageSize, &region}};
  DiscardReport report;

  make_kernel_discarder()->discard(runs, report);

  EXPECT_EQ(report.freed_bytes, 5 * kGiB - 2 * kPageSize);
  EXPECT_THAT((std::array{*ends[0], *ends[1], *ends[2]}), Each(std::byte{0}));
}

// A file of kPages pages full of the pattern, and a mapping of the part that begins at page 4.
class DiscardBorrowedTest : public ::testing::TestWithParam<StrategyCase> {
 protected:
  static constexpr std::size_t kMapped = kPages - 4;
  static constexpr std::uint64_t kOffset = 4 * kPageSize;

  void SetUp() override {
    fd_ = ::memfd_create("vballoon-test", MFD_CLOEXEC);
    const std::vector<std::byte> pattern(kPages * kPageSize, kPattern);
    ASSERT_EQ(::write(fd_, pattern.data(), pattern.size()), static_cast<ssize_t>(pattern.size()));
  }

  void TearDown() override {
    if (host_ != nullptr) ::munmap(host_, kMapped * kPageSize);
    ::close(fd_);
  }

  void map(int flags, std::optional<DiscardMethod> method) {
    void* const host = ::mmap(nullptr, kMapped * kPageSize, PROT_READ | PROT_WRITE, flags, fd_,
                              static_cast<off_t>(kOffset));
    ASSERT_NE(host, MAP_FAILED);
    host_ = static_cast<std::byte*>(host);
    memory_ = GuestMemory::borrow(std::array{BorrowedRegion{.guest_address = 0,
                                                            .bytes = kMapped * kPageSize,
                                                            .host = host_,
                                                            .fd = fd_,
                                                            .fd_offset = kOffset,
                                                            .shared = flags == MAP_SHARED,
                                                            .method = method}})
                  .value();
  }

  // Pages 1, 2 and 5 of the mapping.
  DiscardReport discard_some() {
    const MemoryRegion& region = memory_->regions()[0];
    DiscardReport report;
    make_kernel_discarder(GetParam().options)
        ->discard(std::array{HostRun{host_ + kPageSize, 2 * kPageSize, &region},
                             HostRun{host_ + 5 * kPageSize, kPageSize, &region}},
                  report);
    return report;
  }

  // The first byte of each page of the file, read past the mapping.
  std::vector<int> file_pages() const {
    std::vector<int> first_bytes;
    for (std::size_t i = 0; i < kPages; ++i) {
      unsigned char byte = 0xff;
      EXPECT_EQ(::pread(fd_, &byte, 1, static_cast<off_t>(i * kPageSize)), 1);
      first_bytes.push_back(byte);
    }
    return first_bytes;
  }

  std::vector<int> mapped_pages() const {
    std::vector<int> first_bytes;
    for (std::size_t i = 0; i < kMapped; ++i) {
      first_bytes.push_back(static_cast<int>(host_[i * kPageSize]));
    }
    return first_bytes;
  }

  int fd_ = -1;
  std::byte* host_ = nullptr;
  std::shared_ptr<const GuestMemory> memory_;
};

constexpr int kP = static_cast<int>(kPattern);

TEST_P(DiscardBorrowedTest, PunchedHolesLieBehindTheOffsetOfTheMapping) {
  map(MAP_SHARED, DiscardMethod::kPunchHole);

  const DiscardReport report = discard_some();

  EXPECT_EQ(report.freed_bytes, 3 * kPageSize);
  EXPECT_EQ(file_bytes(fd_), (kPages - 3) * kPageSize);
  EXPECT_THAT(file_pages(), ElementsAre(kP, kP, kP, kP, kP, 0, 0, kP, kP, 0, kP, kP));
}

TEST_P(DiscardBorrowedTest, RemovedPagesLieBehindTheOffsetOfTheMapping) {
  map(MAP_SHARED, std::nullopt);

  discard_some();

  EXPECT_EQ(file_bytes(fd_), (kPages - 3) * kPageSize);
  EXPECT_THAT(file_pages(), ElementsAre(kP, kP, kP, kP, kP, 0, 0, kP, kP, 0, kP, kP));
}

TEST_P(DiscardBorrowedTest, PrivateFileMappingShowsTheFileAgain) {
  map(MAP_PRIVATE, std::nullopt);
  std::memset(host_, 1, kMapped * kPageSize);

  discard_some();

  EXPECT_THAT(mapped_pages(), ElementsAre(1, kP, kP, 1, 1, kP, 1, 1));
  EXPECT_EQ(file_bytes(fd_), kPages * kPageSize);
}

TEST_P(DiscardBorrowedTest, RegionsWithDifferentMethodsAreDiscardedTogether) {
  map(MAP_SHARED, DiscardMethod::kPunchHole);
  const auto anonymous = GuestMemory::allocate(std::array{RegionLayout{0, 4 * kPageSize}}).value();
  const MemoryRegion& punched = memory_->regions()[0];
  const MemoryRegion& dropped = anonymous->regions()[0];
  std::memset(dropped.host, 1, dropped.bytes);
  const std::array runs{HostRun{dropped.host, kPageSize, &dropped},
                        HostRun{dropped.host + 2 * kPageSize, kPageSize, &dropped},
                        HostRun{host_, kPageSize, &punched},
                        HostRun{dropped.host + 3 * kPageSize, kPageSize, &dropped}};
  DiscardReport report;

  make_kernel_discarder(GetParam().options)->discard(runs, report);

  EXPECT_EQ(report.freed_bytes, 4 * kPageSize);
  EXPECT_EQ(file_bytes(fd_), (kPages - 1) * kPageSize);
  EXPECT_EQ(resident_bytes(dropped.host, dropped.bytes), kPageSize);
}

INSTANTIATE_TEST_SUITE_P(All, DiscardBorrowedTest, ::testing::ValuesIn(kStrategies),
                         [](const auto& test) { return test.param.name; });

TEST(DiscardStrategyTest, NamesAreReadBack) {
  EXPECT_EQ(parse_discard_strategy(to_string(DiscardStrategy::kPerPage)),
            DiscardStrategy::kPerPage);
  EXPECT_EQ(parse_discard_strategy("merged"), DiscardStrategy::kMerged);
  EXPECT_EQ(parse_discard_strategy("vectored"), DiscardStrategy::kVectored);
}

TEST(DiscardStrategyTest, OtherWordsAreNoStrategy) {
  EXPECT_EQ(parse_discard_strategy("Merged"), std::nullopt);
  EXPECT_EQ(parse_discard_strategy(""), std::nullopt);
}

}  // namespace
}  // namespace vballoon
