// SPDX-License-Identifier: MIT
// What the standard asks of a driver that has nothing but the registers of virtio-mmio (virtio 1.3,
// sections 2.5 and 4.2). Each access is written down. Names bear the ids of checklist.tsv.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "conformance/mmio_driver_fixture.h"

namespace vballoon {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kPlain;
using testing::kRich;
using testing::kSecond;
using ::testing::Lt;
using testing::MmioDriverConformance;
using ::testing::Not;
using testing::read_access;
using testing::read_of;
using testing::RegisterAccess;
using testing::RegisterTrace;
using testing::TracedRegisters;
using testing::write_of;

// What the standard lets a driver do with a register (4.2.2); config is not here.
enum class Rights { kRead, kWrite, kBoth };
const std::map<std::uint64_t, Rights>& rights() {
  static const std::map<std::uint64_t, Rights> all{
      {0x000, Rights::kRead},  {0x004, Rights::kRead},  {0x008, Rights::kRead},
      {0x00c, Rights::kRead},  {0x010, Rights::kRead},  {0x014, Rights::kWrite},
      {0x020, Rights::kWrite}, {0x024, Rights::kWrite}, {0x030, Rights::kWrite},
      {0x034, Rights::kRead},  {0x038, Rights::kWrite}, {0x044, Rights::kBoth},
      {0x050, Rights::kWrite}, {0x060, Rights::kRead},  {0x064, Rights::kWrite},
      {0x070, Rights::kBoth},  {0x080, Rights::kWrite}, {0x084, Rights::kWrite},
      {0x090, Rights::kWrite}, {0x094, Rights::kWrite}, {0x0a0, Rights::kWrite},
      {0x0a4, Rights::kWrite}, {0x0ac, Rights::kWrite}, {0x0b0, Rights::kRead},
      {0x0b4, Rights::kRead},  {0x0b8, Rights::kRead},  {0x0bc, Rights::kRead},
      {0x0c0, Rights::kBoth},  {0x0fc, Rights::kRead}};
  return all;
}

bool is_config(const RegisterAccess& access) { return access.is_config(); }
bool is_control(const RegisterAccess& access) { return !access.is_config(); }

// ---- finding out what is there ------------------------------------------------------------------

class MmioProbeConformance : public ::testing::Test {
 protected:
  MmioProbeConformance() {
    registers_.read_as(MmioRegister::kMagicValue, kMmioMagic);
    registers_.read_as(MmioRegister::kVersion, kMmioVersion);
    registers_.read_as(MmioRegister::kDeviceId, kBalloonDeviceId);
  }
  auto probe() { return sim::MmioAccess::probe(registers_.alone()); }

  TracedRegisters registers_;
};

TEST_F(MmioProbeConformance, MMI_G_06_MMI_G_07_WrongMagicValueIsReportedAndNothingElseTouched) {
  registers_.read_as(MmioRegister::kMagicValue, 0x12345678);

  const auto found = probe();

  ASSERT_FALSE(found);
  EXPECT_THAT(found.error().message(), HasSubstr("magic 0x12345678"));
  EXPECT_THAT(registers_.trace(), ElementsAre(read_of(MmioRegister::kMagicValue, 0x12345678)));
}

TEST_F(MmioProbeConformance, MMI_G_08_MMI_G_09_WrongVersionIsReportedAndNothingElseTouched) {
  registers_.read_as(MmioRegister::kVersion, 3);

  const auto found = probe();

  ASSERT_FALSE(found);
  EXPECT_THAT(found.error().message(), HasSubstr("version 3"));
  EXPECT_THAT(registers_.trace(), ElementsAre(read_of(MmioRegister::kMagicValue, kMmioMagic),
                                              read_of(MmioRegister::kVersion, 3)));
}

TEST_F(MmioProbeConformance, MMI_G_24_MMI_G_25_DeviceIdIsReadAfterMagicValueAndVersion) {
  ASSERT_TRUE(probe());

  EXPECT_THAT(registers_.trace(), ElementsAre(read_of(MmioRegister::kMagicValue, kMmioMagic),
                                              read_of(MmioRegister::kVersion, kMmioVersion),
                                              read_of(MmioRegister::kDeviceId, kBalloonDeviceId)));
}

TEST_F(MmioProbeConformance, MMI_G_10_MMI_G_11_PlaceWithoutADeviceIsNoError) {
  registers_.read_as(MmioRegister::kDeviceId, 0);

  const auto found = probe();

  ASSERT_TRUE(found) << found.error().message();
  EXPECT_EQ(*found, nullptr);
}

TEST_F(MmioProbeConformance, MMI_G_26_MMI_G_27_WhereThereIsNoDeviceNothingElseIsTouched) {
  registers_.read_as(MmioRegister::kDeviceId, 0);

  (void)probe();

  EXPECT_THAT(registers_.trace(), ElementsAre(read_of(MmioRegister::kMagicValue, kMmioMagic),
                                              read_of(MmioRegister::kVersion, kMmioVersion),
                                              read_of(MmioRegister::kDeviceId, 0)));
}

// ---- taking a device into use -------------------------------------------------------------------

TEST_F(MmioDriverConformance, MMI_G_01_OnlyOffsetsOfRegistersAreTouched) {
  live();

  for (const RegisterAccess& access : registers_.those(is_control)) {
    EXPECT_TRUE(rights().contains(access.offset)) << ::testing::PrintToString(access);
  }
  EXPECT_THAT(registers_.those(is_config), Each(Field(&RegisterAccess::offset, Lt(0x110u))));
}

TEST_F(MmioDriverConformance, MMI_G_02_MMI_G_03_RegistersAreReadAndWrittenAsTheyMayBe) {
  live();

  for (const RegisterAccess& access : registers_.those(is_control)) {
    const Rights may = rights().at(access.offset);
    EXPECT_TRUE(may == Rights::kBoth || access.is_write == (may == Rights::kWrite))
        << ::testing::PrintToString(access);
  }
}

TEST_F(MmioDriverConformance, MMI_G_04_ControlRegistersAreAccessedByAligned32Bits) {
  live();

  for (const RegisterAccess& access : registers_.those(is_control)) {
    EXPECT_TRUE(access.size == 4 && access.offset % 4 == 0) << ::testing::PrintToString(access);
  }
}

TEST_F(MmioDriverConformance, MMI_G_05_CFG_G_01_ConfigurationIsAccessedByOneFieldOf32BitsAtATime) {
  live();

  const RegisterTrace config = registers_.those(is_config);
  EXPECT_THAT(config, Not(IsEmpty()));
  for (const RegisterAccess& access : config) {
    EXPECT_TRUE(access.size == 4 && access.offset % 4 == 0) << ::testing::PrintToString(access);
  }
}

TEST_F(MmioDriverConformance, MMI_G_12_HalfOfTheOfferIsChosenBeforeItIsRead) {
  boot_rich();

  const RegisterTrace& trace = registers_.trace();
  std::vector<std::uint64_t> halves;
  for (std::size_t i = 1; i < trace.size(); ++i) {
    if (!trace[i].is(MmioRegister::kDeviceFeatures)) continue;
    ASSERT_TRUE(trace[i - 1].writes(MmioRegister::kDeviceFeaturesSel));
    halves.push_back(trace[i - 1].value);
  }
  EXPECT_THAT(halves, ElementsAre(0u, 1u));
}

TEST_F(MmioDriverConformance, MMI_G_13_HalfOfTheSelectionIsChosenBeforeItIsWritten) {
  boot_rich();

  const RegisterTrace& trace = registers_.trace();
  std::uint64_t written = 0;
  for (std::size_t i = 1; i < trace.size(); ++i) {
    if (!trace[i].is(MmioRegister::kDriverFeatures)) continue;
    ASSERT_TRUE(trace[i - 1].writes(MmioRegister::kDriverFeaturesSel));
    written |= trace[i].value << (32 * trace[i - 1].value);
  }
  EXPECT_EQ(written, driver_->features().bits());
}

TEST_F(MmioDriverConformance, MMI_G_29_StepsOfEveryDeviceFollowTheProbe) {
  boot_rich();

  EXPECT_THAT(registers_.written_to(MmioRegister::kStatus), ElementsAre(0u, 1u, 3u, 11u, 15u));
  EXPECT_LT(first(read_of(MmioRegister::kDeviceId, kBalloonDeviceId)),
            first(write_of(MmioRegister::kStatus, 0)));
  EXPECT_LT(first(write_of(MmioRegister::kStatus, 3)),
            first(write_of(MmioRegister::kDeviceFeaturesSel, 0)));
  EXPECT_LT(first(write_of(MmioRegister::kDriverFeaturesSel, 1)),
            first(write_of(MmioRegister::kStatus, 11)));
  EXPECT_LT(first(write_of(MmioRegister::kStatus, 11)),
            first(write_of(MmioRegister::kQueueReady, 1)));
  EXPECT_LT(first(write_of(MmioRegister::kQueueReady, 1)),
            first(write_of(MmioRegister::kStatus, 15)));
}

TEST_F(MmioDriverConformance, MMI_G_28_RegistersOfSharedMemoryAreLeftAlone) {
  live();

  EXPECT_THAT(registers_.those([](const RegisterAccess& access) {
    return access.offset >= 0xac && access.offset < 0xc0;
  }),
              IsEmpty());
}

// ---- buffers ------------------------------------------------------------------------------------

// A report is answered with a used length of 0: nothing may be expected of its pages, and whoever
// looks at them here does not survive it.
TEST_F(MmioDriverConformance, SPL_G_19_SPL_G_20_BytesBehindTheUsedLengthAreNotLookedAt) {
  boot(kPlain.with(Feature::kPageReporting));
  const std::uint64_t free_pages = allocator_.free_pages();
  now_ = 2 * kSecond;
  driver_->step(now_);
  now_ += 2 * kSecond;
  driver_->step(now_);
  serve();
  const auto reported = recorded_->pages();
  ASSERT_THAT(reported, Not(IsEmpty()));
  const auto protect = [&](int rights) {
    for (const PageRange& range : reported) {
      std::byte* const host = memory_->host(range.first << kPageShift, range.bytes());
      ASSERT_EQ(::mprotect(host, range.bytes(), rights), 0);
    }
  };
  protect(PROT_NONE);

  run();

  protect(PROT_READ | PROT_WRITE);
  EXPECT_EQ(allocator_.free_pages(), free_pages);
}

// ---- interrupts ---------------------------------------------------------------------------------

TEST_F(MmioDriverConformance, MMI_G_30_MMI_G_32_InterruptIsReadAndAcknowledged) {
  boot(kPlain);
  ASSERT_TRUE(device().set_target_pages(100));
  registers_.forget();

  EXPECT_EQ(mmio_access_->take_interrupt(), kMmioConfigChange);

  EXPECT_THAT(registers_.trace(),
              ElementsAre(read_of(MmioRegister::kInterruptStatus, kMmioConfigChange),
                          write_of(MmioRegister::kInterruptAck, kMmioConfigChange)));
}

TEST_F(MmioDriverConformance, MMI_G_18_MMI_G_20_BitsWithoutAMeaningAreNeitherSeenNorAcknowledged) {
  boot(kPlain);
  registers_.read_as(MmioRegister::kInterruptStatus, 0xFFFFFFFD);

  EXPECT_EQ(mmio_access_->take_interrupt(), kMmioUsedBuffer);

  EXPECT_THAT(registers_.written_to(MmioRegister::kInterruptAck), ElementsAre(kMmioUsedBuffer));
}

TEST_F(MmioDriverConformance, MMI_G_18_MMI_G_20_InterruptOfNothingButSuchBitsIsNone) {
  boot(kPlain);
  registers_.read_as(MmioRegister::kInterruptStatus, 0xFFFFFFFC);

  EXPECT_EQ(mmio_access_->take_interrupt(), 0u);

  EXPECT_THAT(registers_.written_to(MmioRegister::kInterruptAck), IsEmpty());
}

TEST_F(MmioDriverConformance, MMI_G_31_OneInterruptMakesTheDriverLookAtEveryQueue) {
  boot(kPlain.with(Feature::kStatsVq), {.kernel = &kernel_});
  run();
  ASSERT_TRUE(device().set_target_pages(100));
  ASSERT_TRUE(device().request_stats(kSecond));
  driver_->step(now_);  // an inflate, and the statistics are asked for
  serve();

  EXPECT_EQ(mmio_access_->take_interrupt() & kMmioUsedBuffer, kMmioUsedBuffer);
  driver_->step(now_);

  EXPECT_EQ(device().actual_pages(), 100u) << "the answer on the inflate queue";
  serve();
  EXPECT_EQ(device().metrics().stats_messages, 2u) << "the request on the statistics queue";
}

// ---- configuration ------------------------------------------------------------------------------

TEST_F(MmioDriverConformance, CFG_G_02_FieldThatChangesWhileItIsReadIsReadAgain) {
  boot(kPlain);
  ASSERT_TRUE(device().set_target_pages(100));
  std::uint64_t target = 100;
  registers_.on_access = [&](const RegisterAccess& access) {
    if (!access.is_config() || target == 102) return;
    ASSERT_TRUE(device().set_target_pages(++target));
  };

  EXPECT_EQ(mmio_access_->read_config(kNumPagesOffset), 102u);
}

TEST_F(MmioDriverConformance, CFG_G_02_FieldIsReadBetweenTwoReadingsOfTheGeneration) {
  boot(kPlain);
  registers_.forget();

  (void)mmio_access_->read_config(kNumPagesOffset);

  EXPECT_THAT(registers_.trace(),
              ElementsAre(read_access(MmioRegister::kConfigGeneration),
                          Field(&RegisterAccess::offset, kMmioConfig + kNumPagesOffset),
                          read_access(MmioRegister::kConfigGeneration)));
}

// A configuration space that ends where the last field of the features does, or much later: what
// stands behind the fields that the driver knows is nothing to it.
struct Space {
  const char* name;
  std::uint64_t bytes;
  Features features;
};

class MmioConfigSizeConformance : public MmioDriverConformance,
                                  public ::testing::WithParamInterface<Space> {};

INSTANTIATE_TEST_SUITE_P(Sizes, MmioConfigSizeConformance,
                         ::testing::Values(Space{"Smallest", 8, kPlain},
                                           Space{"Hints", 12, kPlain.with(Feature::kFreePageHint)},
                                           Space{"All", 16, kRich}, Space{"Large", 4096, kRich}),
                         [](const auto& space) { return std::string(space.param.name); });

TEST_P(MmioConfigSizeConformance, CFG_G_04_CFG_G_05_SpaceThatHoldsTheFieldsIsLargeEnough) {
  boot(GetParam().features, {.kernel = &kernel_, .poison_value = 0});
  ASSERT_TRUE(device().set_target_pages(100));
  run();

  EXPECT_EQ(device().actual_pages(), 100u);
  for (const RegisterAccess& access : registers_.those(is_config)) {
    EXPECT_LE(access.offset + access.size, kMmioConfig + GetParam().bytes);
  }
}

}  // namespace
}  // namespace vballoon
