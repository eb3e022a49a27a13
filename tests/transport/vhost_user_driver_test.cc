// SPDX-License-Identifier: MIT
// The simulated driver through a front end, a socket and the back end of vhost-user: with and
// without each of the protocol's features.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>

#include "transport/vhost_user_rig.h"
#include "vballoon/sim/balloon_driver.h"
#include "vballoon/sim/guest_kernel.h"
#include "vballoon/sim/page_allocator.h"

namespace vballoon {
namespace {

using testing::FrontEndOptions;
using testing::SharedGuestMemory;
using testing::TestBackEnd;
using testing::VhostUserFrontEnd;
namespace vhost = testing::vhost;

struct Way {
  std::string name;
  FrontEndOptions front_end = {};
  bool packed = false;
};
void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }

std::vector<Way> ways() {
  constexpr std::uint64_t kEvery = vhost::kEveryProtocolFeature;
  // Those that in-band notifications stand on go with them.
  const std::vector<Way> split{
      {"LikeUserModeLinux", {}},
      {"EveryFeature", {.protocol_features = kEvery, .memory_slots = true}},
      {"WithoutReplyAck",
       {.protocol_features = kEvery & ~(vhost::kReplyAck | vhost::kInband), .memory_slots = true}},
      {"WithoutBackendReq", {.protocol_features = kEvery & ~(vhost::kBackendReq | vhost::kInband)}},
      {"WithoutConfig", {.protocol_features = kEvery & ~vhost::kConfig}},
      {"WithoutInband", {.protocol_features = kEvery & ~vhost::kInband, .eventfd_calls = true}},
      {"WithoutMultiqueue", {.protocol_features = kEvery & ~vhost::kMultiqueue}},
      {"WithoutResetDevice",
       {.protocol_features = kEvery & ~(vhost::kResetDeviceFeature | vhost::kStatus)}},
      {"WithoutStatus", {.protocol_features = kEvery & ~vhost::kStatus, .memory_slots = true}},
      {"WithoutMemorySlots", {.protocol_features = kEvery & ~vhost::kMemSlots}},
      {"InbandAlone", {.protocol_features = vhost::kPlainProtocolFeatures | vhost::kInband}},
      {"NoProtocolFeature", {.protocol_features = 0}},
      {"NoProtocolFeaturesBit", {.protocol_features = 0, .protocol_features_bit = false}},
  };
  std::vector<Way> all = split;
  for (Way way : split) {
    way.name += "Packed";
    way.packed = true;
    all.push_back(way);
  }
  return all;
}

// A guest with processes and files, and its balloon.
class VhostUserDriverTest : public ::testing::TestWithParam<Way> {
 protected:
  static constexpr std::uint64_t kPages = 0x800;

  VhostUserDriverTest() {
    FrontEndOptions options = GetParam().front_end;
    options.let_work = [this] { back_end_.work(); };
    front_end_ = std::make_unique<VhostUserFrontEnd>(back_end_.path(), memory_, options);
    boot();
  }

  void boot() {
    Features features{Feature::kMustTellHost, Feature::kStatsVq, Feature::kEventIdx,
                      Feature::kIndirectDesc};
    if (GetParam().packed) features = features.with(Feature::kRingPacked);
    auto probed = sim::BalloonDriver::probe(
        *front_end_, memory_.guest(), allocator_,
        {.features = features, .kernel = &kernel_, .reserve_pages = 64, .clock = [] {
           return std::chrono::nanoseconds(0);
         }});
    ASSERT_TRUE(probed) << probed.error().message();
    driver_ = std::move(*probed);
    run();
  }
  // Until the driver waits for nothing that the back end could still do.
  sim::DriverWait run() {
    sim::DriverWait wait = driver_->step(now_);
    for (int i = 0; i < 1000 && wait.kind == sim::DriverWait::Kind::kUsedBuffer; ++i) {
      back_end_.work();
      wait = driver_->step(now_);
    }
    return wait;
  }
  // The host wants that many pages; a front end that has no configuration of the device's has it
  // from elsewhere.
  void set_target(std::uint32_t pages) {
    ASSERT_TRUE(back_end_.device().set_target_pages(pages));
    back_end_.work();
    if (!front_end_->has(vhost::kConfig)) front_end_->write_config(kNumPagesOffset, pages);
    run();
  }
  std::uint64_t actual() {
    if (!front_end_->has(vhost::kConfig)) return front_end_->read_config(kActualOffset);
    return back_end_.device().actual_pages();
  }

  TestBackEnd back_end_{
      {.features = Features{Feature::kMustTellHost, Feature::kStatsVq, Feature::kEventIdx,
                            Feature::kIndirectDesc, Feature::kRingPacked}}};
  SharedGuestMemory memory_;
  std::unique_ptr<VhostUserFrontEnd> front_end_;
  sim::PageAllocator allocator_{PageRanges{{0, 0x400}, {0x800, 0x400}}};
  sim::GuestKernel kernel_{allocator_, {.memory = memory_.guest()}};
  std::unique_ptr<sim::BalloonDriver> driver_;
  std::chrono::nanoseconds now_{0};
};

INSTANTIATE_TEST_SUITE_P(Ways, VhostUserDriverTest, ::testing::ValuesIn(ways()),
                         [](const auto& way) { return way.param.name; });

TEST_P(VhostUserDriverTest, BalloonFollowsTheTargetAndTheMemoryIsFree) {
  memory_.fill();

  set_target(1000);

  EXPECT_EQ(driver_->ballooned_pages(), 1000u);
  EXPECT_EQ(back_end_.device().ballooned_pages(), 1000u);
  EXPECT_EQ(actual(), 1000u);
  EXPECT_EQ(memory_.resident_bytes(), (kPages - 1000) * kPageSize);
}

TEST_P(VhostUserDriverTest, GuestHasItsPagesBackAndKeepsWhatItHad) {
  const auto process = kernel_.start_process();
  ASSERT_TRUE(kernel_.touch(process, 0, 500));
  set_target(1000);

  set_target(100);
  ASSERT_TRUE(kernel_.touch(process, 500, 900));

  EXPECT_EQ(kernel_.damaged_pages(), 0u);
  EXPECT_EQ(back_end_.device().ballooned_pages(), 100u);
  EXPECT_TRUE(back_end_.device().metrics().errors == decltype(BalloonMetrics::errors){});
}

TEST_P(VhostUserDriverTest, StatisticsComeWhenTheyAreAskedFor) {
  ASSERT_TRUE(back_end_.device().request_stats(std::chrono::seconds(10)));
  back_end_.work();
  run();

  const StatsReport report = back_end_.device().stats();
  ASSERT_TRUE(report.latest);
  EXPECT_FALSE(report.requested);
}

TEST_P(VhostUserDriverTest, DriverIsRemovedAndAnotherOneBegins) {
  set_target(300);
  driver_->remove();
  EXPECT_EQ(run().kind, sim::DriverWait::Kind::kStopped);
  EXPECT_EQ(driver_->ballooned_pages(), 0u);

  boot();

  EXPECT_EQ(driver_->ballooned_pages(), 300u) << "the target stays";
  EXPECT_EQ(back_end_.device().ballooned_pages(), 300u);
}

TEST_P(VhostUserDriverTest, NextFrontEndFindsATargetAndAnEmptyBalloon) {
  set_target(300);
  front_end_->die();
  EXPECT_EQ(back_end_.device().ballooned_pages(), 0u);
  EXPECT_EQ(back_end_.device().memory_bytes(), 0u);
  FrontEndOptions options = GetParam().front_end;
  options.let_work = [this] { back_end_.work(); };
  front_end_ = std::make_unique<VhostUserFrontEnd>(back_end_.path(), memory_, options);

  boot();
  set_target(301);

  EXPECT_EQ(back_end_.device().ballooned_pages(), 301u);
  EXPECT_THAT(back_end_.connections, ::testing::ElementsAre(true, false, true));
}

}  // namespace
}  // namespace vballoon
