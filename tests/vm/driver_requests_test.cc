// SPDX-License-Identifier: MIT
// A driver that takes requests, over the request queue or the control queue, and the device that
// makes them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/page_batch.h"
#include "base/page_ranges.h"
#include "vm/guest_fixture.h"

namespace vballoon {
namespace {

class DriverRequestsTest : public testing::GuestFixture {
 protected:
  explicit DriverRequestsTest(Dialect dialect = Dialect::kPageBitmap, bool faithful = false)
      : dialect_(dialect), faithful_(faithful) {
    boot_with(Features{Feature::kMustTellHost, Feature::kStatsVq, Feature::kRingReset});
  }
  void boot_with(Features features) {
    boot(features, {.dialect = dialect_,
                    .guest_requests = true,
                    .faithful = faithful_,
                    .queue_size = 128,
                    .kernel = &kernel_,
                    .reserve_pages = 0});
    run();
  }
  // A whole round, up to the guest's last word.
  void round() {
    hinted_.clear();
    ASSERT_TRUE(device().start_hints());
    run();
  }
  // The pages that were named, but for how they were cut.
  PageRanges named() const {
    PageRanges all(hinted_.begin(), hinted_.end());
    sort_and_merge(all);
    return all;
  }
  // A process that leaves so many single pages free.
  void punch_holes(std::uint32_t holes) {
    const sim::ProcessId process = kernel_.start_process();
    ASSERT_TRUE(kernel_.touch(process, 0, 3 * holes));
    for (std::uint32_t hole = 0; hole < holes; ++hole) kernel_.unmap(process, 3 * hole, 1);
  }
  // How many of the latter are not among the former.
  static std::uint64_t missing(const PageRanges& pages, const PageRanges& others) {
    PageRanges all = pages;
    all.insert(all.end(), others.begin(), others.end());
    sort_and_merge(all);
    return count(all) - count(pages);
  }
  static std::uint64_t count(const PageRanges& pages) {
    std::uint64_t sum = 0;
    for (const PageRange& range : pages) sum += range.count;
    return sum;
  }
  // Writes something into each of these pages, and says how many that are not free still have it.
  void mark(const PageRanges& pages) const {
    for (const PageRange& range : pages) {
      std::memset(memory_->host(range.first << kPageShift, range.bytes()), 0xAA, range.bytes());
    }
  }
  std::uint64_t marked_and_in_use(const PageRanges& pages) const {
    std::uint64_t found = 0;
    for (const PageRange& range : pages) {
      for (Pfn page = range.first; page < range.end(); ++page) {
        const std::byte last = memory_->host(page << kPageShift, kPageSize)[kPageSize - 1];
        if (!allocator_.is_free(page) && last == std::byte{0xAA}) ++found;
      }
    }
    return found;
  }
  // What the allocator says.
  PageRanges free_pages() const {
    PageRanges all;
    for (Pfn page = 0; page < kPages; ++page) {
      if (allocator_.is_free(page)) all.push_back({page, 1});
    }
    sort_and_merge(all);
    return all;
  }

  const Dialect dialect_;
  const bool faithful_;
};

TEST_F(DriverRequestsTest, BothSidesAgreeOnTheRequestQueue) {
  EXPECT_TRUE(driver_->features().has_bit(kPublishedRequestsBit));
  EXPECT_TRUE(device().has_queue(3));
}

TEST_F(DriverRequestsTest, UnusedPagesAreAllThatAreFree) {
  round();

  EXPECT_EQ(named(), free_pages());
  EXPECT_EQ(device().hint_status().state, HintState::kExhausted);
}

TEST_F(DriverRequestsTest, UnusedPagesOfAFragmentedGuestAreAllThatAreFree) {
  punch_holes(3000);

  round();

  EXPECT_EQ(named(), free_pages());
}

// A larger buffer for records comes out of blocks that were named when they were free, and the one
// before it goes back when those of its order have been named.
TEST_F(DriverRequestsTest, ManySinglePagesTakeALargerBufferAndAreAllNamed) {
  punch_holes(6000);

  round();

  EXPECT_LE(missing(named(), free_pages()), 8u) << "the buffer that was given back";
}

// It was named as free, so that its pages are not copied before they are written.
TEST_F(DriverRequestsTest, BufferThatIsTakenInARoundIsWhollyWritten) {
  punch_holes(4200);
  const PageRanges free_before = free_pages();
  mark(free_before);

  round();

  EXPECT_EQ(marked_and_in_use(free_before), 0u);
}

TEST_F(DriverRequestsTest, SecondRoundSeesWhatIsFreeThen) {
  round();
  const sim::ProcessId process = kernel_.start_process();
  ASSERT_TRUE(kernel_.touch(process, 0, 1000));

  round();

  EXPECT_EQ(named(), free_pages());
}

TEST_F(DriverRequestsTest, GuestThatIsAskedKeepsItsPages) {
  const std::uint64_t before = allocator_.free_pages();

  round();

  EXPECT_LE(before - allocator_.free_pages(), 8u) << "room for the records of the first round";
}

TEST_F(DriverRequestsTest, CleanCacheIsDroppedOnRequest) {
  ASSERT_TRUE(kernel_.read_file(1, 0, 1000));
  ASSERT_TRUE(kernel_.write_file(2, 0, 10));
  const std::uint64_t before = allocator_.free_pages();

  ASSERT_TRUE(device().request_cache_drop(CacheKinds::kPageCache));
  run();

  EXPECT_FALSE(device().cache_drop_pending());
  EXPECT_EQ(allocator_.free_pages(), before + 1000);
  EXPECT_EQ(kernel_.dirty_pages(), 10u);
}

// A file that is in use fills what the balloon is to have: for each few pages the guest has to look
// through its cache.
TEST_F(DriverRequestsTest, InflateOfAGuestFullOfCacheCrawls) {
  ASSERT_TRUE(kernel_.read_file(1, 0, kPages - 2000));
  ASSERT_TRUE(kernel_.read_file(1, 0, kPages - 2000));

  ASSERT_TRUE(device().set_target_pages(kPages / 2));
  run();

  EXPECT_GT(kernel_.statistics()[sim::MemoryStatistic::kAllocationStalls], 500u);
  EXPECT_GT(kernel_.statistics()[sim::MemoryStatistic::kDirectScan] >> kPageShift, kPages / 2);
}

TEST_F(DriverRequestsTest, InflateAfterTheCacheWasDroppedNeedNotReclaim) {
  ASSERT_TRUE(kernel_.read_file(1, 0, kPages - 2000));
  ASSERT_TRUE(kernel_.read_file(1, 0, kPages - 2000));
  ASSERT_TRUE(device().request_cache_drop(CacheKinds::kPageCache));
  run();

  ASSERT_TRUE(device().set_target_pages(kPages / 2));
  run();

  EXPECT_EQ(driver_->ballooned_pages(), kPages / 2);
  EXPECT_EQ(kernel_.statistics()[sim::MemoryStatistic::kAllocationStalls], 0u);
}

TEST_F(DriverRequestsTest, BothRequestsAtOnceAreAnsweredOneAfterTheOther) {
  ASSERT_TRUE(kernel_.read_file(1, 0, 1000));

  ASSERT_TRUE(device().request_cache_drop(CacheKinds::kPageCache));
  round();

  EXPECT_FALSE(device().cache_drop_pending());
  EXPECT_EQ(device().hint_status().state, HintState::kExhausted);
}

TEST_F(DriverRequestsTest, QueueThatWasResetTakesRequests) {
  ASSERT_TRUE(driver_->resize_queue(3, 16));

  round();

  EXPECT_EQ(named(), free_pages());
}

TEST_F(DriverRequestsTest, NothingIsCountedAsWrong) {
  round();
  ASSERT_TRUE(device().request_cache_drop(CacheKinds::kBoth));
  run();

  const BalloonMetrics metrics = device().metrics();
  EXPECT_EQ(std::ranges::count_if(metrics.errors, [](std::uint64_t n) { return n != 0; }), 0);
}

TEST_F(DriverRequestsTest, PagesThatComeBackFromTheDeviceAreFreeAfterRemoval) {
  round();
  driver_->remove();
  run();

  EXPECT_EQ(allocator_.free_pages(), kPages);
}

TEST_F(DriverRequestsTest, WithoutStatisticsThereIsNoRequestQueue) {
  sim::DriverOptions options{.dialect = Dialect::kPageBitmap, .guest_requests = true};
  const auto driver = sim::BalloonDriver::probe(*access_, memory_, allocator_, options);

  EXPECT_FALSE((*driver)->features().has_bit(kPublishedRequestsBit));
  EXPECT_EQ((*driver)->dialect(), Dialect::kPageBitmap);
}

class DriverControlQueueTest : public DriverRequestsTest {
 protected:
  DriverControlQueueTest() : DriverRequestsTest(Dialect::kScatterGather) {}
};

TEST_F(DriverControlQueueTest, BothSidesAgreeOnTheControlQueueAndTheOneForFreePages) {
  EXPECT_TRUE(driver_->features().has_bit(kPublishedRequestsBit));
  EXPECT_TRUE(device().has_queue(3));
  EXPECT_TRUE(device().has_queue(4));
}

TEST_F(DriverControlQueueTest, FreePagesAreAllNamedToADeviceThatKeepsUp) {
  round();

  EXPECT_EQ(named(), free_pages());
  EXPECT_EQ(device().hint_status().state, HintState::kExhausted);
}

TEST_F(DriverControlQueueTest, FreePagesAreAllNamedToADeviceThatIsLate) {
  serves_kicks_at_once_ = false;
  punch_holes(1000);

  round();

  EXPECT_EQ(named(), free_pages());
  EXPECT_EQ(device().hint_status().state, HintState::kExhausted);
}

TEST_F(DriverControlQueueTest, SecondRoundSeesWhatIsFreeThen) {
  round();
  const sim::ProcessId process = kernel_.start_process();
  ASSERT_TRUE(kernel_.touch(process, 0, 1000));

  round();

  EXPECT_EQ(named(), free_pages());
}

TEST_F(DriverControlQueueTest, RoundAfterTheHostsStopIsAWholeOne) {
  round();
  device().stop_hints();
  run();

  round();

  EXPECT_EQ(named(), free_pages());
}

TEST_F(DriverControlQueueTest, CachesCannotBeDroppedThisWay) {
  EXPECT_EQ(device().request_cache_drop(CacheKinds::kBoth).error().code, Errc::kNotSupported);
}

TEST_F(DriverControlQueueTest, QueuesThatWereResetTakeCommandsAndPages) {
  ASSERT_TRUE(driver_->resize_queue(3, 16));
  ASSERT_TRUE(driver_->resize_queue(4, 64));

  round();

  EXPECT_EQ(named(), free_pages());
}

TEST_F(DriverControlQueueTest, NothingIsCountedAsWrong) {
  round();

  const BalloonMetrics metrics = device().metrics();
  EXPECT_EQ(std::ranges::count_if(metrics.errors, [](std::uint64_t n) { return n != 0; }), 0);
}

// More rounds than the queue has entries: the buffers of either side neither run out nor pile up.
TEST_F(DriverControlQueueTest, BuffersForCommandsLastForManyRounds) {
  for (int i = 0; i < 150; ++i) round();

  EXPECT_EQ(named(), free_pages());
  EXPECT_EQ(device().metrics().count(Errc::kBadRequestBuffer), 0u);
}

class DriverPublishedControlQueueTest : public DriverRequestsTest {
 protected:
  DriverPublishedControlQueueTest() : DriverRequestsTest(Dialect::kScatterGather, true) {}
};

TEST_F(DriverPublishedControlQueueTest, BlocksAreSkippedWhenTheDeviceIsLate) {
  serves_kicks_at_once_ = false;
  punch_holes(1000);

  round();

  EXPECT_GT(driver_->counters().skipped_blocks, 800u);
  EXPECT_EQ(device().hint_status().state, HintState::kExhausted);
}

}  // namespace
}  // namespace vballoon
