// SPDX-License-Identifier: MIT
// What the standard asks of a driver about queues and kicks of a virtio-mmio device (virtio 1.3,
// sections 2.6, 2.8, 2.9 and 4.2). Names bear the ids of checklist.tsv.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "conformance/mmio_driver_fixture.h"

namespace vballoon {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kPlain;
using testing::kRich;
using ::testing::Le;
using testing::read_access;
using testing::read_of;
using testing::RegisterAccess;
using testing::RegisterTrace;
using ::testing::SizeIs;
using testing::write_access;
using testing::write_of;

// Size and addresses.
bool is_field_of_queue(const RegisterAccess& access) {
  return access.is(MmioRegister::kQueueSize) || access.is(MmioRegister::kQueueDescLow) ||
         access.is(MmioRegister::kQueueDescHigh) || access.is(MmioRegister::kQueueDriverLow) ||
         access.is(MmioRegister::kQueueDriverHigh) || access.is(MmioRegister::kQueueDeviceLow) ||
         access.is(MmioRegister::kQueueDeviceHigh);
}

class MmioDriverQueuesConformance : public testing::MmioDriverConformance {
 protected:
  // The first accesses that set a queue up: up to the one that sees that it is ready.
  [[nodiscard]] RegisterTrace set_up_of(std::uint16_t queue) const {
    const RegisterTrace& trace = registers_.trace();
    const auto end =
        std::ranges::find(std::ranges::find(trace, write_of(MmioRegister::kQueueSel, queue)),
                          trace.end(), read_of(MmioRegister::kQueueReady, 1));
    auto begin = end;
    while (begin != trace.begin() && !begin->writes(MmioRegister::kQueueSel)) --begin;
    return {begin, end};
  }
  static auto is_set_up_of(std::uint16_t queue, std::uint16_t size) {
    return ElementsAre(
        write_of(MmioRegister::kQueueSel, queue), read_of(MmioRegister::kQueueReady, 0),
        read_of(MmioRegister::kQueueSizeMax, kBalloonMaxQueueSize),
        write_of(MmioRegister::kQueueSize, size), write_access(MmioRegister::kQueueDescLow),
        write_access(MmioRegister::kQueueDescHigh), write_access(MmioRegister::kQueueDriverLow),
        write_access(MmioRegister::kQueueDriverHigh), write_access(MmioRegister::kQueueDeviceLow),
        write_access(MmioRegister::kQueueDeviceHigh), write_of(MmioRegister::kQueueReady, 1));
  }
  // What is written for kicks while five messages go through a ring of four entries.
  std::vector<std::uint64_t> kicks_of_five_messages(Features features) {
    boot(features, {.queue_size = 4});
    EXPECT_TRUE(device().set_target_pages(5 * 256));
    run();
    return registers_.written_to(MmioRegister::kQueueNotify);
  }
};

// ---- setting up ---------------------------------------------------------------------------------

TEST_F(MmioDriverQueuesConformance, MMI_I_01_QueueIsSetUpStepByStep) {
  boot(kPlain);

  EXPECT_THAT(set_up_of(kDeflateQueue), is_set_up_of(kDeflateQueue, 256));
}

TEST_F(MmioDriverQueuesConformance, MMI_G_14_QueueOfTheLargestSizeIsSetUpAndNoneBeyond) {
  boot(kPlain);
  registers_.read_as(MmioRegister::kQueueReady, 0);
  registers_.read_as(MmioRegister::kQueueSizeMax, 64);
  registers_.forget();

  (void)access_->set_queue(0, {.size = 128});
  (void)access_->set_queue(0, {.size = 64});

  EXPECT_THAT(registers_.written_to(MmioRegister::kQueueSize), ElementsAre(64u));
}

TEST_F(MmioDriverQueuesConformance, MMI_G_15_FieldsOfAQueueThatIsReadyAreLeftAlone) {
  boot(kPlain);
  registers_.read_as(MmioRegister::kQueueReady, 1);
  registers_.forget();

  EXPECT_FALSE(access_->set_queue(0, {.size = 64}));

  EXPECT_THAT(registers_.those(is_field_of_queue), IsEmpty());
}

TEST_F(MmioDriverQueuesConformance, MMI_G_15_FieldsAreNotTouchedOnceTheQueueIsReady) {
  live();

  std::uint64_t selected = 0;
  std::map<std::uint64_t, bool> ready;
  for (const RegisterAccess& access : registers_.trace()) {
    if (access.writes(MmioRegister::kQueueSel)) selected = access.value;
    if (access.writes(MmioRegister::kQueueReady)) ready[selected] = access.value != 0;
    if (access == read_of(MmioRegister::kQueueReset, 0)) ready[selected] = false;
    EXPECT_FALSE(is_field_of_queue(access) && ready[selected]) << ::testing::PrintToString(access);
  }
  EXPECT_THAT(ready, SizeIs(5));
}

// ---- resetting ----------------------------------------------------------------------------------

TEST_F(MmioDriverQueuesConformance, VQR_G_01_MMI_G_21_QueueIsNotSetUpAgainBeforeItsResetReadsZero) {
  boot(kRich, {.kernel = &kernel_});
  registers_.forget();
  registers_.read_as(MmioRegister::kQueueReset, 1);
  int reads = 0;
  registers_.on_access = [&](const RegisterAccess& access) {
    if (!access.reads(MmioRegister::kQueueReset)) return;
    if (++reads == 3) registers_.read_as(MmioRegister::kQueueReset, 0);
  };

  ASSERT_TRUE(driver_->resize_queue(kDeflateQueue, 64));

  const auto begin = std::ranges::find(registers_.trace(), write_of(MmioRegister::kQueueSel, 1));
  const auto end =
      std::ranges::find(begin, registers_.trace().end(), read_of(MmioRegister::kQueueReady, 0));
  EXPECT_THAT(
      RegisterTrace(begin, end),
      ElementsAre(write_of(MmioRegister::kQueueSel, 1), write_of(MmioRegister::kQueueReset, 1),
                  read_of(MmioRegister::kQueueReset, 1), read_of(MmioRegister::kQueueReset, 1),
                  read_of(MmioRegister::kQueueReset, 1), read_of(MmioRegister::kQueueReset, 0),
                  write_of(MmioRegister::kQueueSel, 1)));
}

TEST_F(MmioDriverQueuesConformance, VQR_G_01_QueueWhoseResetDoesNotEndIsNotSetUpAgain) {
  boot(kRich, {.kernel = &kernel_});
  registers_.forget();
  registers_.read_as(MmioRegister::kQueueReset, 1);

  EXPECT_FALSE(driver_->resize_queue(kDeflateQueue, 64));

  EXPECT_THAT(registers_.those(is_field_of_queue), IsEmpty());
}

TEST_F(MmioDriverQueuesConformance, VQR_G_02_MemoryOfTheOldRingIsGivenAwayAfterTheReset) {
  boot(kRich, {.kernel = &kernel_});
  std::uint64_t free_at_reset = 0;
  registers_.on_access = [&](const RegisterAccess& access) {
    if (access.reads(MmioRegister::kQueueReset)) free_at_reset = allocator_.free_pages();
  };

  ASSERT_TRUE(driver_->resize_queue(kDeflateQueue, 64));

  EXPECT_GT(allocator_.free_pages(), free_at_reset);
}

TEST_F(MmioDriverQueuesConformance, VQR_G_03_MMI_G_22_MMI_G_23_QueueIsSetUpAgainWithAnotherSize) {
  boot(kRich, {.kernel = &kernel_});
  registers_.forget();

  ASSERT_TRUE(driver_->resize_queue(kDeflateQueue, 64));

  EXPECT_THAT(set_up_of(kDeflateQueue), is_set_up_of(kDeflateQueue, 64));
}

TEST_F(MmioDriverQueuesConformance, WithoutRingResetNoQueueIsResetByItself) {
  boot(kPlain);

  EXPECT_FALSE(driver_->resize_queue(kDeflateQueue, 64));

  EXPECT_THAT(registers_.written_to(MmioRegister::kQueueReset), IsEmpty());
}

// ---- stopping -----------------------------------------------------------------------------------

TEST_F(MmioDriverQueuesConformance, MMI_G_16_MMI_G_17_QueueIsStoppedAndReadBackWhenTheDriverGoes) {
  boot(kPlain);
  registers_.forget();

  driver_->remove();
  run();

  const auto begin = std::ranges::find(registers_.trace(), write_of(MmioRegister::kQueueSel, 0));
  EXPECT_THAT(
      RegisterTrace(begin, registers_.trace().end()),
      ElementsAre(write_of(MmioRegister::kQueueSel, 0), write_of(MmioRegister::kQueueReady, 0),
                  read_of(MmioRegister::kQueueReady, 0), write_of(MmioRegister::kQueueSel, 1),
                  write_of(MmioRegister::kQueueReady, 0), read_of(MmioRegister::kQueueReady, 0)));
}

TEST_F(MmioDriverQueuesConformance, MMI_G_17_MemoryOfAQueueThatDoesNotStopIsNotUsedAgain) {
  const std::uint64_t all_free = allocator_.free_pages();
  boot(kPlain);
  registers_.read_as(MmioRegister::kQueueReady, 1);

  driver_->remove();
  run();

  EXPECT_LT(allocator_.free_pages(), all_free);
}

// ---- kicks --------------------------------------------------------------------------------------

TEST_F(MmioDriverQueuesConformance, NTF_I_01_WithoutNotificationDataAKickIsTheIndexOfAQueue) {
  live(kRich.without(Feature::kNotificationData));

  EXPECT_THAT(registers_.written_to(MmioRegister::kQueueNotify),
              AllOf(Contains(0u), Contains(1u), Each(Le(4u))));
}

TEST_F(MmioDriverQueuesConformance, NTF_I_01_WithNotificationDataTheIndexIsTheLowHalf) {
  live();

  std::vector<std::uint64_t> queues;
  for (const std::uint64_t value : registers_.written_to(MmioRegister::kQueueNotify)) {
    queues.push_back(value & 0xFFFF);
  }
  EXPECT_THAT(queues, AllOf(Contains(0u), Contains(1u), Contains(2u), Each(Le(4u))));
}

TEST_F(MmioDriverQueuesConformance, NTF_I_01_KickOfASplitRingSaysItsAvailableIndex) {
  EXPECT_THAT(kicks_of_five_messages({Feature::kMustTellHost, Feature::kNotificationData}),
              ElementsAre(0x0001'0000u, 0x0002'0000u, 0x0003'0000u, 0x0004'0000u, 0x0005'0000u));
}

TEST_F(MmioDriverQueuesConformance, PKD_G_04_KickNamesTheFirstDescriptorThatIsNotAvailable) {
  EXPECT_THAT(kicks_of_five_messages(
                  {Feature::kMustTellHost, Feature::kNotificationData, Feature::kRingPacked}),
              ElementsAre(0x8001'0000u, 0x8002'0000u, 0x8003'0000u, 0x0000'0000u, 0x0001'0000u));
}

}  // namespace
}  // namespace vballoon
