// SPDX-License-Identifier: MIT
// Free page reports (src/device/pages.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "device/device_fixture.h"
#include "device/two_mib_pages.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kPagesPerHugePage;
using testing::kTwoMib;
using testing::Message;
using ::testing::Pair;
using testing::Rig;

constexpr std::uint16_t kReportQueue = 2;

BalloonOptions reporting(Features features) {
  return {.features = features.with(Feature::kPageReporting)};
}

Message report_of(std::initializer_list<PageRange> pages) {
  return testing::message_of(Dialect::kScatterGather, pages);
}

class PageReportingTest : public ::testing::Test {
 protected:
  explicit PageReportingTest(Features more = {Feature::kMustTellHost})
      : rig_({.device = reporting(more)}) {}

  static void report(Rig& rig, std::initializer_list<PageRange> pages) {
    rig.send(kReportQueue, report_of(pages));
    rig.serve(kReportQueue);
  }

  Rig rig_;
};

TEST_F(PageReportingTest, BAL_D_17_SPL_D_17_ReportedPagesAreDiscardedAndAnsweredWithLengthZero) {
  rig_.start();

  report(rig_, {{5, 3}, {0x900, 2}});

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 3}, PageRange{0x900, 2}));
  EXPECT_THAT(rig_.completed(kReportQueue), ElementsAre(0u));
  EXPECT_EQ(rig_.device().metrics().reported_bytes, 5 * kPageSize);
  EXPECT_EQ(rig_.device().metrics().reported_freed_bytes, 5 * kPageSize);
}

// Looks at the ring while it discards.
class LookingDiscarder final : public Discarder {
 public:
  explicit LookingDiscarder(std::function<void()> look) : look_(std::move(look)) {}
  void discard(std::span<const HostRun> runs, DiscardReport& report) override {
    look_();
    for (const HostRun& run : runs) report.freed_bytes += run.length;
  }

 private:
  const std::function<void()> look_;
};

TEST_F(PageReportingTest, ReportIsAnsweredOnlyAfterItsDiscard) {
  Rig* guest = nullptr;
  std::vector<std::size_t> answered;
  Rig rig({.device = reporting({}), .discarder = std::make_unique<LookingDiscarder>([&] {
                                      answered.push_back(guest->completed(kReportQueue).size());
                                    })});
  guest = &rig;
  rig.start().send(kReportQueue, report_of({{5, 3}}));
  rig.send(kReportQueue, report_of({{0x900, 1}}));

  rig.serve(kReportQueue);

  EXPECT_THAT(answered, ElementsAre(0u)) << "while the kernel works";
  EXPECT_THAT(rig.completed(kReportQueue), ElementsAre(0u, 0u));
}

TEST_F(PageReportingTest, ReportedPagesAreNotInTheBalloon) {
  rig_.start();

  report(rig_, {{5, 3}});

  EXPECT_FALSE(rig_.device().is_ballooned(5));
  EXPECT_EQ(rig_.device().metrics().inflated_bytes, 0u);
}

TEST_F(PageReportingTest, BAL_I_10_SamePagesMayBeReportedAgain) {
  rig_.start();
  report(rig_, {{5, 3}});

  report(rig_, {{5, 3}});

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 3}, PageRange{5, 3}));
  EXPECT_THAT(rig_.all_errors(), IsEmpty());
}

TEST_F(PageReportingTest, PagesOutsideGuestMemoryAreLeftOut) {
  rig_.start();

  report(rig_, {{0x3FF, 2}});

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{0x3FF, 1}));
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kPageOutOfRange, 1u)));
}

TEST_F(PageReportingTest, RefusedPagesAreReportedButNotFreed) {
  rig_.recorded().fail_at(rig_.host(5), EINVAL);
  rig_.start();

  report(rig_, {{5, 1}, {7, 1}});

  EXPECT_EQ(rig_.device().metrics().reported_bytes, 2 * kPageSize);
  EXPECT_EQ(rig_.device().metrics().reported_freed_bytes, kPageSize);
  EXPECT_EQ(rig_.device().metrics().owed_bytes, 0u) << "a report is never made up for later";
}

// ---- huge host pages --------------------------------------------------------------------------

// The rig's rings lie in the second region, at its usual place.
std::shared_ptr<const GuestMemory> memory_of_huge_pages() {
  return testing::borrow_memory({{0, 2 * kTwoMib}, {4 * kTwoMib, 2 * kTwoMib, kPageSize}});
}

TEST(PageReportingHugeTest, OnlyWholeHostPagesAreDiscarded) {
  Rig rig({.device = reporting({}), .memory = memory_of_huge_pages()});
  rig.start();

  rig.send(kReportQueue, report_of({{1, 2 * kPagesPerHugePage - 1}}));
  rig.serve(kReportQueue);

  EXPECT_THAT(rig.discarded(), ElementsAre(PageRange{kPagesPerHugePage, kPagesPerHugePage}));
  EXPECT_EQ(rig.device().metrics().reported_freed_bytes, kTwoMib);
}

TEST(PageReportingHugeTest, HostPageNamedInTwoReportsIsLeftAlone) {
  Rig rig({.device = reporting({}), .memory = memory_of_huge_pages()});
  rig.start();
  rig.send(kReportQueue, report_of({{0, kPagesPerHugePage / 2}}));
  rig.serve(kReportQueue);

  rig.send(kReportQueue, report_of({{kPagesPerHugePage / 2, kPagesPerHugePage / 2}}));
  rig.serve(kReportQueue);

  EXPECT_THAT(rig.discarded(), IsEmpty()) << "the first half may be in use again";
}

// ---- with PAGE_POISON --------------------------------------------------------------------------

class PagePoisonTest : public PageReportingTest {
 protected:
  PagePoisonTest() : PageReportingTest({Feature::kPagePoison}) {}

  // Starts a driver that says with what it fills free pages.
  void start_with(std::uint32_t poison) {
    rig_.negotiate().set_queues();
    rig_.write_config32(kPoisonValueOffset, poison);
    rig_.device().write_status(Rig::kRunning);
  }
};

TEST_F(PagePoisonTest, BAL_D_16_PagesFilledWithZerosAreDiscarded) {
  start_with(0);

  report(rig_, {{5, 1}});

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 1}));
}

TEST_F(PagePoisonTest, BAL_D_18_PagesFilledWithSomethingElseAreLeftAlone) {
  start_with(0xAAAAAAAA);

  report(rig_, {{5, 1}});

  EXPECT_THAT(rig_.discarded(), IsEmpty());
  EXPECT_THAT(rig_.completed(kReportQueue), ElementsAre(0u));
  EXPECT_EQ(rig_.device().metrics().reported_freed_bytes, 0u);
}

TEST_F(PagePoisonTest, BalloonedPagesAreDiscardedWhateverTheyAreFilledWith) {
  start_with(0xAAAAAAAA);

  rig_.inflate({5});

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{5, 1}));
}

TEST_F(PagePoisonTest, ValueWrittenToARunningDeviceIsIgnoredAndCounted) {
  start_with(0xAAAAAAAA);

  rig_.write_config32(kPoisonValueOffset, 0);

  EXPECT_EQ(rig_.config32(kPoisonValueOffset), 0xAAAAAAAAu);
  EXPECT_THAT(rig_.all_errors(), ElementsAre(Pair(Errc::kPoisonChanged, 1u)));
}

TEST_F(PagePoisonTest, ValueOfADriverThatDeclinedIsIgnored) {
  Rig rig({.device = reporting(Features{Feature::kPagePoison}),
           .accepted = Features{Feature::kVersion1, Feature::kPageReporting}});
  rig.negotiate().set_queues();

  rig.write_config32(kPoisonValueOffset, 0xAAAAAAAA);

  EXPECT_EQ(rig.config32(kPoisonValueOffset), 0u);
  EXPECT_EQ(rig.errors(Errc::kConfigReadOnly), 1u);
}

TEST_F(PagePoisonTest, ResetForgetsTheValue) {
  start_with(0xAAAAAAAA);

  rig_.reset();

  EXPECT_EQ(rig_.config32(kPoisonValueOffset), 0u);
}

}  // namespace
}  // namespace vballoon
