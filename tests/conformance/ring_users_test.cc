// SPDX-License-Identifier: MIT
// What the statements about rings (virtio 1.3, sections 2.7 and 2.8) ask of those who use them: the
// whole device and the whole driver.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "device/device_fixture.h"
#include "guest/driver_fixture.h"
#include "ring/ring_kind.h"
#include "wire/chunk.h"

namespace vballoon {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kPayloads;
using testing::RingKind;
using ::testing::SizeIs;

class RingUserConformance : public ::testing::TestWithParam<RingKind> {
 protected:
  static constexpr std::uint64_t kAnswer = kPayloads + 0x10000;

  std::vector<std::byte> bytes_at(std::uint64_t address, std::size_t count) {
    std::vector<std::byte> bytes(count);
    if (!rig_.memory().read(address, bytes)) throw std::out_of_range("bytes_at");
    return bytes;
  }

  testing::Rig rig_{{.device = {.features = Features{Feature::kStatsVq, Feature::kMustTellHost}},
                     .packed = GetParam() == RingKind::kPacked}};
};
INSTANTIATE_TEST_SUITE_P(BothRings, RingUserConformance,
                         ::testing::Values(RingKind::kSplit, RingKind::kPacked),
                         testing::ring_name);

TEST_P(RingUserConformance, SPL_D_03_PKD_D_04_DeviceWritesIntoNoMessage) {
  const testing::Bytes pages = testing::le32({5, 6, 9});
  const testing::Bytes stats = testing::stats_entries({{4, 1234}});
  rig_.start().inflate({{pages}});
  rig_.deflate({{pages}});
  rig_.send(2, {{stats}});
  rig_.serve(2);

  EXPECT_EQ(bytes_at(kPayloads, pages.size()), pages);
  EXPECT_EQ(bytes_at(kPayloads + 64, pages.size()), pages);
  EXPECT_EQ(bytes_at(kPayloads + 128, stats.size()), stats);
}

TEST_P(RingUserConformance, SPL_D_16_DeviceThatWroteNothingSaysSo) {
  ASSERT_TRUE(rig_.memory().write(kAnswer, std::vector<std::byte>(16, std::byte{7})));

  rig_.start().inflate({{testing::le32({5})}, {{kAnswer, 16}}});

  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_THAT(bytes_at(kAnswer, 16), Each(std::byte{7}));
}

TEST_P(RingUserConformance, SPL_D_22_KickForNothingDoesNothing) {
  rig_.start().inflate({5});
  const int interrupts = rig_.interrupts(kInflateQueue);
  (void)rig_.completed(kInflateQueue);

  EXPECT_FALSE(rig_.device().process(kInflateQueue));

  EXPECT_EQ(rig_.interrupts(kInflateQueue), interrupts);
  EXPECT_THAT(rig_.completed(kInflateQueue), IsEmpty());
  EXPECT_THAT(rig_.all_errors(), IsEmpty());
  EXPECT_EQ(rig_.device().read_status(), testing::Rig::kRunning);
}

TEST(RingDriverConformance, SPL_G_18_DriverThatIsWokenForNothingGoesOnWaiting) {
  testing::DriverRig rig;
  rig.device.answers = false;
  rig.probe();
  ASSERT_EQ(rig.resize(10), testing::kWaitsForAnswer);

  const auto waits = rig.driver->step({});

  EXPECT_EQ(waits, testing::kWaitsForAnswer);
  EXPECT_THAT(rig.device.messages, SizeIs(1));
  EXPECT_THAT(rig.device.actuals, IsEmpty());
}

TEST(RingDriverConformance, SPL_G_06_ChunkOfMoreThan4GibIsCut) {
  const PageRange run{0, std::uint64_t{3} << 20};  // 12 GiB

  const GuestBuffer chunk = first_chunk(run);

  EXPECT_EQ(chunk.address, 0u);
  EXPECT_EQ(chunk.length % kPageSize, 0u);
  EXPECT_GT(chunk.length, 1u << 31);
}

// No chain of it runs in a circle: it has as many descriptors as pieces, and the last one ends it.
TEST(RingDriverConformance, SPL_G_06_ChainThatFillsTheRingHasAnEnd) {
  constexpr std::uint16_t kSize = 8;
  const auto memory = testing::memory_with_hole();
  const QueueConfig config = testing::raw_config(kSize);
  const auto driver = DriverQueue::create(memory, config).value();
  const testing::RawRing ring(memory, config);
  ASSERT_TRUE(driver->add(std::vector<GuestBuffer>(kSize, {kPayloads, 16}), {}, 1));

  std::vector<std::uint16_t> seen{ring.offered(0)};
  while ((ring.descriptor(seen.back()).flags & testing::kNext) != 0 && seen.size() <= kSize) {
    seen.push_back(ring.descriptor(seen.back()).next);
  }

  EXPECT_THAT(seen, SizeIs(kSize));
  std::ranges::sort(seen);
  EXPECT_EQ(std::ranges::adjacent_find(seen), seen.end());
}

}  // namespace
}  // namespace vballoon
