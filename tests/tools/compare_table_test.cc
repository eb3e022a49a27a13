// SPDX-License-Identifier: MIT
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "compare_report.h"
#include "comparisons.h"

namespace vballoon::tool {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Le;
using testing::made_up_comparison;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

TEST(CompareTableTest, ShowsTimesAndStagesTrafficAndFactorsOfBothDirections) {
  EXPECT_EQ(table_of(made_up_comparison()),
            R"(idle guest of 2 GiB gives 1 GiB back
anonymous memory, no huge pages, eventfd kicks

inflate         wall ms  allocate ms    send ms  translate ms  discard ms
pfn/per-page       2000     200  10%   400  20%      600  30%    800  40%
chunk/vectored      125    12.5  10%  25.0  20%     37.5  30%   50.0  40%

inflate         GiB/s  faster  x limit  messages  kicks  queued  calls
pfn/per-page    0.500   1.00x    20.0x      1024    512   1 MiB     77
chunk/vectored   8.00   16.0x    1.25x      1024    512   1 MiB     77

deflate         wall ms  allocate ms    send ms  translate ms  discard ms
pfn/per-page        200     100  50%   100  50%        0   0%           -
chunk/vectored     12.5    6.25  50%  6.25  50%        0   0%           -

deflate         GiB/s  faster  messages  kicks  queued  calls
pfn/per-page     5.00   1.00x        33     22   2 MiB      -
chunk/vectored   80.0   16.0x        33     22   2 MiB      -

limit: 100 ms, one madvise over the same bytes of fresh memory
verified: guest memory was as it should be after every inflation and deflation
machine: 3 x Z80, Linux 6.1, 48 KiB of memory
)");
}

TEST(CompareTableTest, FitsIntoEightyColumns) {
  Comparison comparison = made_up_comparison();
  comparison.rows.push_back(
      {{Dialect::kPageBitmap, DiscardStrategy::kVectored}, {testing::made_up_run(123456)}});
  comparison.rows.back().runs[0].inflate.discard_calls = 1835008;

  EXPECT_THAT(lines_of(table_of(comparison)), Each(SizeIs(Le(80U))));
}

TEST(CompareTableTest, SaysWhatTheGuestWas) {
  Comparison comparison = made_up_comparison();
  comparison.options.guest = sim::GuestAge::kAged;
  comparison.options.backing = Backing::kMemfd;
  comparison.options.thp = ThpMode::kOn;
  comparison.options.notify = sim::NotifyMode::kDirect;
  comparison.options.busy_vcpu = true;
  comparison.options.repeat = 5;

  EXPECT_THAT(table_of(comparison),
              StartsWith("aged guest of 2 GiB gives 1 GiB back\n"
                         "memfd memory, huge pages, direct kicks, a busy vCPU, "
                         "medians of 5 runs\n"));
}

TEST(CompareTableTest, SaysThatTheDriversArePublishedOnes) {
  Comparison comparison = made_up_comparison();
  comparison.options.faithful = true;

  EXPECT_THAT(
      table_of(comparison),
      HasSubstr("\nanonymous memory, no huge pages, eventfd kicks, drivers as published\n"));
}

TEST(CompareTableTest, SaysWhatABusyProcessorLoses) {
  Comparison comparison = made_up_comparison();
  comparison.rows[1].runs[0].vcpu_loss_percent = 12.34;

  EXPECT_THAT(table_of(comparison),
              HasSubstr("\nvCPU: lost 12.3 % of its speed to chunk/vectored\n"));
}

TEST(CompareTableTest, SaysWhatTheKernelDidNotGet) {
  Comparison comparison = made_up_comparison();
  comparison.rows[0].runs[0].inflate.owed_bytes = 4096;
  comparison.rows[0].runs[0].inflate.forgone_bytes = 8192;

  EXPECT_THAT(table_of(comparison),
              HasSubstr("\npfn/per-page: 4 KiB owed to the host, 8 KiB forgone\n"));
}

TEST(CompareTableTest, SaysHowManyPagesTheGuestMoved) {
  Comparison comparison = made_up_comparison();
  comparison.rows[1].runs[0].inflate.moved_pages = 768;

  EXPECT_THAT(table_of(comparison),
              HasSubstr("\nchunk/vectored: moved 768 pages together, 3 MiB in all\n"));
}

TEST(CompareTableTest, SaysWhatTheKernelRefused) {
  Comparison comparison = made_up_comparison();
  comparison.rows[1].runs[0].refused = "3 pieces: Invalid argument";

  EXPECT_THAT(table_of(comparison),
              HasSubstr("\nchunk/vectored: the kernel refused to take back 3 pieces: Invalid "
                        "argument\n"));
}

TEST(CompareTableTest, SaysWhatIsNotVerified) {
  Comparison comparison = made_up_comparison();
  comparison.rows[1].runs[0].verified = false;
  comparison.rows[1].runs[0].failure = "page 0x7 is gone";

  const std::string table = table_of(comparison);

  EXPECT_THAT(table, HasSubstr("\nchunk/vectored: NOT VERIFIED: page 0x7 is gone\n"));
  EXPECT_THAT(table, Not(HasSubstr("\nverified:")));
}

}  // namespace
}  // namespace vballoon::tool
