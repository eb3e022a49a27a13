// SPDX-License-Identifier: MIT
// What a tracker of writes has to tell a migration, by each kind of tracking.
#include "write_tracker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "sizes.h"
#include "vballoon/discarder.h"

namespace vballoon::tool {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

struct Kind {
  std::string name;
  std::function<Result<std::unique_ptr<WriteTracker>>(std::shared_ptr<const GuestMemory>)> make;
};

class WriteTrackerTest : public ::testing::TestWithParam<Kind> {
 protected:
  static constexpr std::uint64_t kPages = 1024;

  void SetUp() override {
    fill();
    auto made = GetParam().make(memory_);
    if (!made) GTEST_SKIP() << "this kernel cannot: " << made.error().message();
    tracker_ = std::move(*made);
  }
  void fill() {
    for (std::uint64_t page = 0; page < 2 * kPages; ++page) write(page, 1);
  }

  // Pages by dense index: two regions of so many.
  std::byte* host(std::uint64_t page) {
    const MemoryRegion& region = memory_->regions()[page / kPages];
    return region.host + page % kPages * kPageSize;
  }
  void write(std::uint64_t page, int value) { std::memset(host(page) + 100, value, 1); }
  std::byte read(std::uint64_t page) { return *static_cast<volatile std::byte*>(host(page) + 100); }
  void discard(std::uint64_t page) {
    const std::array runs{HostRun{host(page), kPageSize, &memory_->regions()[page / kPages]}};
    DiscardReport report;
    make_kernel_discarder()->discard(runs, report);
    ASSERT_EQ(report.freed_bytes, kPageSize);
  }
  std::vector<std::uint64_t> harvest() {
    PageSet written(2 * kPages);
    EXPECT_TRUE(tracker_->harvest(written));
    std::vector<std::uint64_t> pages;
    for (std::uint64_t page = 0; page < written.size(); ++page) {
      if (written.contains(page)) pages.push_back(page);
    }
    return pages;
  }

  // What the first pages hold.
  using Contents = std::array<std::byte, 8>;
  Contents contents() {
    Contents now;
    for (std::uint64_t page = 0; page < now.size(); ++page) now[page] = read(page);
    return now;
  }
  // Copies that are brought up to date by nothing but what is harvested.
  Contents copy_while_another_thread_writes() {
    Contents copies = contents();
    std::atomic<bool> done{false};
    std::thread writer([&] {
      for (int i = 1; i <= 20000; ++i) {
        write(static_cast<std::uint64_t>(i) % copies.size(), i % 100);
      }
      done = true;
    });
    const auto update = [&] {
      for (const std::uint64_t page : harvest()) copies[page] = read(page);
    };
    while (!done) update();
    writer.join();
    update();
    return copies;
  }

  std::shared_ptr<const GuestMemory> memory_ =
      GuestMemory::allocate(
          std::array{RegionLayout{0, kPages* kPageSize}, RegionLayout{4 * kGiB, kPages* kPageSize}},
          {Backing::kAnonymous, ThpMode::kOff})
          .value();
  std::unique_ptr<WriteTracker> tracker_;
};

TEST_P(WriteTrackerTest, NothingWasWrittenAtFirst) { EXPECT_THAT(harvest(), IsEmpty()); }

TEST_P(WriteTrackerTest, WrittenPagesOfAllRegionsAreNamedOnce) {
  write(3, 2);
  write(kPages - 1, 2);
  write(kPages + 7, 2);

  EXPECT_THAT(harvest(), ElementsAre(3, kPages - 1, kPages + 7));
  EXPECT_THAT(harvest(), IsEmpty());
}

TEST_P(WriteTrackerTest, PageThatIsWrittenAgainIsNamedAgain) {
  write(3, 2);
  EXPECT_THAT(harvest(), ElementsAre(3));

  write(3, 3);

  EXPECT_THAT(harvest(), ElementsAre(3));
}

TEST_P(WriteTrackerTest, SameValueIsAWriteToo) {
  write(5, 1);

  EXPECT_THAT(harvest(), ElementsAre(5));
}

TEST_P(WriteTrackerTest, WritesArrive) {
  write(5, 42);

  EXPECT_EQ(read(5), std::byte{42});
}

TEST_P(WriteTrackerTest, PageThatIsReadIsNotNamed) {
  read(9);

  EXPECT_THAT(harvest(), IsEmpty());
}

TEST_P(WriteTrackerTest, PageThatWasGivenBackAndIsWrittenIsNamed) {
  discard(9);

  write(9, 2);

  EXPECT_THAT(harvest(), ElementsAre(9));
}

TEST_P(WriteTrackerTest, PageThatWasGivenBackBeforeAHarvestAndIsWrittenAfterItIsNamed) {
  discard(9);
  harvest();

  write(9, 2);

  EXPECT_THAT(harvest(), ElementsAre(9));
}

TEST_P(WriteTrackerTest, AllPagesAtOnceAreNamed) {
  fill();

  EXPECT_EQ(harvest().size(), 2 * kPages);
}

// A page is named now or later, however a write falls between the steps of a harvest.
TEST_P(WriteTrackerTest, NoWriteOfAnotherThreadIsLost) {
  const auto copies = copy_while_another_thread_writes();

  EXPECT_EQ(copies, contents());
}

TEST_P(WriteTrackerTest, MemoryIsAsBeforeWhenTrackingEnds) {
  tracker_.reset();

  write(3, 7);

  EXPECT_EQ(read(3), std::byte{7});
}

INSTANTIATE_TEST_SUITE_P(Kinds, WriteTrackerTest,
                         ::testing::Values(Kind{"Userfaultfd", make_userfaultfd_tracker},
                                           Kind{"Protection", make_protection_tracker}),
                         [](const auto& kind) { return kind.param.name; });

TEST(ProtectionTrackerTest, SecondTrackerAtATimeIsRefused) {
  const std::array layout{RegionLayout{0, kMiB}};
  const auto memory = GuestMemory::allocate(layout).value();
  const auto first = make_protection_tracker(memory).value();

  const auto second = make_protection_tracker(memory);

  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::kNotSupported);
}

TEST(ProtectionTrackerTest, LargeGuestIsWatchedInLargerPieces) {
  const std::array layout{RegionLayout{0, kGiB}};

  const auto tracker = make_protection_tracker(GuestMemory::allocate(layout).value()).value();

  EXPECT_EQ(tracker->name(), "page protection, in pieces of 32 KiB");
}

TEST(ProtectionTrackerTest, PieceIsNamedAsAWhole) {
  const std::array layout{RegionLayout{0, kGiB}};
  const auto memory = GuestMemory::allocate(layout).value();
  const auto tracker = make_protection_tracker(memory).value();
  PageSet written(memory->page_count());

  *memory->regions()[0].host = std::byte{1};

  ASSERT_TRUE(tracker->harvest(written));
  EXPECT_EQ(written.count(), 8u);
  EXPECT_EQ(written.next_run(0, 8), (PageRange{0, 8}));
}

TEST(WriteTrackerChoiceTest, TrackerIsAlwaysFound) {
  const std::array layout{RegionLayout{0, kMiB}};

  EXPECT_TRUE(make_write_tracker(GuestMemory::allocate(layout).value()));
}

TEST(ProtectionTrackerDeathTest, FaultElsewhereStillEndsTheProcess) {
  const std::array layout{RegionLayout{0, kMiB}};
  const auto memory = GuestMemory::allocate(layout).value();
  const auto tracker = make_protection_tracker(memory).value();
  void* const nothing = ::mmap(nullptr, kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  EXPECT_DEATH(std::memset(nothing, 1, 1), "");
}

}  // namespace
}  // namespace vballoon::tool
