// SPDX-License-Identifier: MIT
// A guest and a device joined, in every dialect, by call and by eventfd, over both rings
// (src/vm/machine.cc).
#include "vballoon/sim/machine.h"

#include <atomic>

#include "memory/test_discarders.h"
#include "vballoon/sim/aging.h"
#include "vm/machine_fixture.h"

namespace vballoon {
namespace {

using sim::NotifyMode;
using sim::ResizeReport;
using std::chrono::nanoseconds;
using ::vballoon::testing::MachineMode;
using ::vballoon::testing::MachineRig;
using ::vballoon::testing::RecordingDiscarder;
using ::vballoon::testing::RingKind;
using ::vballoon::testing::Transport;

// Time passes in here only.
class SlowDiscarder final : public Discarder {
 public:
  explicit SlowDiscarder(std::atomic<std::int64_t>& clock) : clock_(clock) {}
  void discard(std::span<const HostRun> runs, DiscardReport& report) override {
    inner_.discard(runs, report);
    clock_ += 1000;
  }

 private:
  std::atomic<std::int64_t>& clock_;
  RecordingDiscarder inner_;
};

// The thread sanitizer runs all of it: half of the modes have a thread of the device.
class MachineThreadsTest : public ::testing::TestWithParam<MachineMode> {
 protected:
  MachineThreadsTest() {
    rig_.options.mmio = std::get<Transport>(GetParam()) == Transport::kMmio;
    negotiate(rig_.options.device.features);
  }
  void negotiate(Features features) {
    const bool packed = std::get<RingKind>(GetParam()) == RingKind::kPacked;
    rig_.negotiate(packed ? features.with(Feature::kRingPacked) : features);
  }

  MachineRig rig_{std::get<Dialect>(GetParam()), std::get<NotifyMode>(GetParam())};
};

INSTANTIATE_TEST_SUITE_P(
    Modes, MachineThreadsTest,
    ::testing::Combine(testing::every_dialect(),
                       ::testing::Values(NotifyMode::kDirect, NotifyMode::kEventfd),
                       ::testing::Values(Transport::kInProcess, Transport::kMmio),
                       ::testing::Values(RingKind::kSplit, RingKind::kPacked)),
    [](const auto& param) { return testing::name_of(param); });

TEST_P(MachineThreadsTest, InflationReachesItsTargetOnBothSides) {
  rig_.start();

  const ResizeReport report = rig_.resize(5000);

  EXPECT_TRUE(report.reached);
  EXPECT_EQ(report.pages, 5000u);
  EXPECT_EQ(rig_.machine->device().ballooned_pages(), 5000u);
  EXPECT_EQ(rig_.machine->device().actual_pages(), 5000u);
}

TEST_P(MachineThreadsTest, DriverHasTheRingsThatAreWanted) {
  rig_.start();

  EXPECT_EQ(rig_.machine->driver().features().has(Feature::kRingPacked),
            std::get<RingKind>(GetParam()) == RingKind::kPacked);
}

TEST_P(MachineThreadsTest, InflatedPagesAreGoneAndAllOthersStay) {
  rig_.start();

  rig_.resize(5000);

  EXPECT_EQ(rig_.resident_balloon_pages(), 0u);
  EXPECT_EQ(rig_.resident_pages(), MachineRig::kPages - 5000);
}

TEST_P(MachineThreadsTest, DeflationGivesTheGuestAllItsPagesBack) {
  rig_.start();
  rig_.resize(5000);

  const ResizeReport report = rig_.resize(0);

  EXPECT_TRUE(report.reached);
  EXPECT_EQ(report.pages, 5000u);
  EXPECT_EQ(rig_.allocator.free_pages(), rig_.free_after_start);
  EXPECT_EQ(rig_.machine->device().ballooned_pages(), 0u);
}

TEST_P(MachineThreadsTest, GuestThatIsOutOfMemoryGetsPagesOfTheBalloonBack) {
  sim::GuestKernel kernel(rig_.allocator);
  negotiate({Feature::kMustTellHost, Feature::kDeflateOnOom});
  rig_.options.driver.kernel = &kernel;
  rig_.start();
  rig_.resize(5000);
  const sim::ProcessId process = kernel.start_process();

  EXPECT_TRUE(kernel.touch(process, 0, MachineRig::kPages - 4000));

  EXPECT_LT(rig_.machine->driver().ballooned_pages(), 5000u);
  EXPECT_EQ(rig_.machine->device().ballooned_pages(), rig_.machine->driver().ballooned_pages());
  EXPECT_EQ(rig_.machine->device().actual_pages(), rig_.machine->driver().ballooned_pages());
  rig_.machine.reset();  // before the kernel
}

TEST_P(MachineThreadsTest, ReportIsOfOneResizeOnly) {
  rig_.start();
  rig_.resize(5000);
  rig_.resize(1000);

  const ResizeReport report = rig_.resize(1500);

  EXPECT_EQ(report.pages, 500u);
  EXPECT_EQ(report.device.inflated_bytes, 500 * kPageSize);
  EXPECT_EQ(report.device.freed_bytes, 500 * kPageSize);
  EXPECT_EQ(report.device.deflated_bytes, 0u);
  EXPECT_EQ(report.driver.messages, report.device.inflate_messages);
}

TEST_P(MachineThreadsTest, WhatThePagesWereTakenAsIsOfOneResizeOnly) {
  rig_.start();
  rig_.resize(5000);

  const ResizeReport report = rig_.resize(5001);

  std::uint64_t blocks = 0;
  for (const std::uint64_t taken : report.driver.allocations_by_order) blocks += taken;
  EXPECT_EQ(blocks, 1u);
}

TEST_P(MachineThreadsTest, ResizeToTheSameSizeDoesNothing) {
  rig_.start();
  rig_.resize(100);

  const ResizeReport report = rig_.resize(100);

  EXPECT_TRUE(report.reached);
  EXPECT_EQ(report.pages, 0u);
  EXPECT_EQ(report.driver.messages, 0u);
  EXPECT_EQ(report.guest, nanoseconds(0));
}

TEST_P(MachineThreadsTest, TargetThatTheGuestCannotGiveIsNotReached) {
  rig_.start();

  const ResizeReport report = rig_.resize(MachineRig::kPages);

  EXPECT_FALSE(report.reached);
  EXPECT_EQ(report.pages, rig_.free_after_start - rig_.options.driver.reserve_pages);
  EXPECT_EQ(report.driver.failed_allocations, 1u);
}

TEST_P(MachineThreadsTest, TargetBeyondGuestMemoryIsAnError) {
  rig_.start();

  const auto report = rig_.machine->resize(MachineRig::kPages + 1);

  ASSERT_FALSE(report.has_value());
  EXPECT_EQ(report.error().code, Errc::kTargetTooLarge);
}

TEST_P(MachineThreadsTest, StoppedBeforeItBeginsItSendsNothing) {
  rig_.start();

  const ResizeReport report = rig_.resize(1000, [] { return false; });

  EXPECT_FALSE(report.reached);
  EXPECT_EQ(report.driver.messages, 0u);
}

TEST_P(MachineThreadsTest, StoppedOnItsWayItGoesOnWithTheNextResize) {
  rig_.options.driver.queue_size = 2;
  rig_.start();
  int asked = 0;
  rig_.resize(5000, [&] { return ++asked < 2; });

  const ResizeReport report = rig_.resize(3000);

  EXPECT_TRUE(report.reached);
  EXPECT_EQ(rig_.machine->device().ballooned_pages(), 3000u);
  EXPECT_EQ(rig_.resident_balloon_pages(), 0u);
}

TEST_P(MachineThreadsTest, SmallResizesReachTheirTargets) {
  rig_.start();
  const auto there_and_back = [&](std::uint64_t pages) {
    const bool there = rig_.resize(pages).reached && rig_.resident_balloon_pages() == 0;
    return there && rig_.resize(0).reached && rig_.allocator.free_pages() == rig_.free_after_start;
  };

  EXPECT_TRUE(there_and_back(1));
  EXPECT_TRUE(there_and_back(16));
  EXPECT_TRUE(there_and_back(64));
  EXPECT_TRUE(there_and_back(256));
  EXPECT_TRUE(there_and_back(4096));
}

TEST_P(MachineThreadsTest, TimeInTheKernelIsTheDiscardStageAndNoOther) {
  std::atomic<std::int64_t> now{0};
  rig_.options.device.clock = [&now] { return nanoseconds(now); };
  rig_.start(std::make_unique<SlowDiscarder>(now));

  const ResizeReport report = rig_.resize(1000);

  EXPECT_EQ(report.stages.discard, nanoseconds(now));
  EXPECT_EQ(report.wall, nanoseconds(now));
  EXPECT_EQ(report.guest, nanoseconds(now));
  EXPECT_EQ(report.stages.allocate + report.stages.send + report.stages.translate, nanoseconds(0));
}

TEST_P(MachineThreadsTest, SynchronousResizeHasNoOverlap) {
  std::atomic<std::int64_t> now{0};
  rig_.options.device.clock = [&now] { return nanoseconds(now); };
  rig_.start(std::make_unique<SlowDiscarder>(now));

  EXPECT_EQ(rig_.resize(5000).overlap, nanoseconds(0));
  EXPECT_EQ(rig_.resize(0).overlap, nanoseconds(0));
}

class DirectMachineTest : public ::testing::TestWithParam<Dialect> {
 protected:
  MachineRig rig_{GetParam(), NotifyMode::kDirect};
};

INSTANTIATE_TEST_SUITE_P(Dialects, DirectMachineTest, testing::every_dialect(),
                         testing::dialect_name);

// Each look at the clock takes a tick. Four of them are no stage's: two before the first stage
// begins, one between two stages and one behind the last.
TEST_P(DirectMachineTest, StagesOfADeflationAreAllOfItsTime) {
  std::int64_t ticks = 0;
  rig_.options.device.clock = [&ticks] { return nanoseconds(++ticks); };
  rig_.start(std::make_unique<RecordingDiscarder>());
  rig_.resize(256);

  const ResizeReport report = rig_.resize(0);

  const auto& stages = report.stages;
  EXPECT_EQ(stages.allocate + stages.send + stages.translate + stages.discard + nanoseconds(4),
            report.wall);
}

// The same for an inflation up to its last answer: two are before the first stage, and the stages
// have one behind that answer, in which an inflation frees nothing.
TEST_P(DirectMachineTest, StagesOfAnInflationAreAllOfItsTime) {
  std::int64_t ticks = 0;
  rig_.options.device.clock = [&ticks] { return nanoseconds(++ticks); };
  rig_.start(std::make_unique<RecordingDiscarder>());

  const ResizeReport report = rig_.resize(256);

  const auto& stages = report.stages;
  EXPECT_EQ(stages.allocate + stages.send + stages.translate + stages.discard + nanoseconds(1),
            report.guest);
}

// With time in every stage, and some behind the last byte that the kernel takes.
TEST_P(DirectMachineTest, SynchronousResizeHasNoOverlap) {
  std::int64_t ticks = 0;
  rig_.options.device.clock = [&ticks] { return nanoseconds(++ticks); };
  rig_.start(std::make_unique<RecordingDiscarder>());

  EXPECT_EQ(rig_.resize(256).overlap, nanoseconds(0));
  EXPECT_EQ(rig_.resize(0).overlap, nanoseconds(0));
}

// By call they are made when the guest is done.
TEST_P(DirectMachineTest, DiscardsWrittenBehindByCallTakeTimeOfTheirOwn) {
  std::atomic<std::int64_t> now{0};
  rig_.options.device.clock = [&now] { return nanoseconds(now); };
  rig_.options.device.write_behind = true;
  rig_.start(std::make_unique<SlowDiscarder>(now));

  const ResizeReport report = rig_.resize(1000);

  EXPECT_GT(report.stages.discard, nanoseconds(0));
  EXPECT_EQ(report.wall, report.stages.discard);
  EXPECT_EQ(report.guest, nanoseconds(0));
  EXPECT_EQ(report.overlap, nanoseconds(0));
}

TEST_P(DirectMachineTest, KeepGoingIsAskedBetweenMessages) {
  rig_.options.driver.queue_size = 2;
  rig_.start();
  (void)sim::age_guest(rig_.allocator, sim::GuestAge::kFragmented, 1);
  std::uint64_t asked = 0;

  const ResizeReport report = rig_.resize(4000, [&] { return ++asked != 0; });

  EXPECT_EQ(asked, report.driver.kicks + 1);
}

TEST_P(DirectMachineTest, StoppedBeforeTheLastAnswerItHasNotReachedItsTarget) {
  rig_.start();
  int asked = 0;

  const ResizeReport report = rig_.resize(100, [&] { return ++asked < 2; });

  EXPECT_FALSE(report.reached);
}

TEST_P(DirectMachineTest, DeviceThatAnswersNothingAnyMoreEndsTheResize) {
  rig_.start();
  rig_.machine->device().write_status(0);

  const ResizeReport report = rig_.resize(100);

  EXPECT_FALSE(report.reached);
}

TEST(MachineTest, DeviceThatNeedsItIsMadeWithItsDialect) {
  MachineRig rig(Dialect::kScatterGather);

  rig.start();

  EXPECT_EQ(rig.machine->driver().dialect(), Dialect::kScatterGather);
}

TEST(MachineTest, ReasonWhyTheDeviceCannotBeMadeIsReturned) {
  MachineRig rig(Dialect::kPageBitmap);
  rig.options.device.dialect_bit = 30;

  const auto machine =
      sim::Machine::start(rig.memory, rig.allocator, make_kernel_discarder(), rig.options);

  ASSERT_FALSE(machine.has_value());
  EXPECT_EQ(machine.error().code, Errc::kInvalidArgument);
}

TEST(MachineTest, ReasonWhyTheDriverCannotProbeIsReturned) {
  MachineRig rig;
  rig.options.driver.queue_size = 3;

  const auto machine =
      sim::Machine::start(rig.memory, rig.allocator, make_kernel_discarder(), rig.options);

  ASSERT_FALSE(machine.has_value());
  EXPECT_EQ(machine.error().code, Errc::kBadQueueConfig);
}

}  // namespace
}  // namespace vballoon
