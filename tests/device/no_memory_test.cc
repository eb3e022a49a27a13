// SPDX-License-Identifier: MIT
// A device whose guest memory is still to come, as behind a transport that hands it over later.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <span>

#include "device/device_fixture.h"

namespace vballoon {
namespace {

using testing::Rig;

std::shared_ptr<const GuestMemory> no_memory() { return GuestMemory::borrow({}).value(); }

class NoMemoryTest : public ::testing::Test {
 protected:
  Rig rig_{{.memory = no_memory()}};
};

TEST_F(NoMemoryTest, HasNoBytes) { EXPECT_EQ(rig_.device().memory_bytes(), 0u); }

TEST_F(NoMemoryTest, AnyTargetIsTaken) {
  EXPECT_TRUE(rig_.device().set_target_pages(std::numeric_limits<std::uint32_t>::max()));
  EXPECT_EQ(rig_.device().target_pages(), std::numeric_limits<std::uint32_t>::max());
}

TEST_F(NoMemoryTest, TargetThatNoDriverCouldReadIsRefused) {
  const auto set = rig_.device().set_target_pages(std::uint64_t{1} << 32);

  ASSERT_FALSE(set);
  EXPECT_EQ(set.error().code, Errc::kTargetTooLarge);
}

TEST_F(NoMemoryTest, QueueHasNoPlace) {
  rig_.negotiate();

  EXPECT_FALSE(rig_.device().set_queue(kInflateQueue, rig_.ring_config(kInflateQueue)));
  EXPECT_FALSE(rig_.device().resume_queue(kInflateQueue, rig_.ring_config(kInflateQueue)));
  EXPECT_FALSE(rig_.device().process(kInflateQueue));
}

TEST_F(NoMemoryTest, OwedDiscardsAreNone) {
  rig_.device().inhibit_discards();
  rig_.device().resume_discards();

  EXPECT_TRUE(rig_.device().drain());
  EXPECT_FALSE(rig_.device().is_ballooned(0));
}

TEST_F(NoMemoryTest, MemoryThatComesIsUsed) {
  const auto memory = testing::memory_with_hole();
  rig_.negotiate();
  rig_.write_status(Rig::kRunning);
  ASSERT_TRUE(rig_.device().set_target_pages(5));

  ASSERT_TRUE(rig_.device().set_memory(memory));
  const QueueConfig config = rig_.ring_config(kInflateQueue);
  auto driver = DriverQueue::create(memory, config).value();
  ASSERT_TRUE(rig_.device().resume_queue(kInflateQueue, config));
  const auto payload = testing::le32({5, 6});
  ASSERT_TRUE(memory->write(testing::kPayloads, payload));
  const GuestBuffer buffer{testing::kPayloads, 8};
  ASSERT_TRUE(driver->add(std::span(&buffer, 1), {}, 0));
  (void)driver->publish();
  rig_.serve(kInflateQueue);

  EXPECT_TRUE(driver->take_used());
  EXPECT_EQ(rig_.device().memory_bytes(), 0x800 * kPageSize);
  EXPECT_EQ(rig_.device().ballooned_pages(), 2u);
  EXPECT_EQ(rig_.device().target_pages(), 5u);
}

TEST_F(NoMemoryTest, MemorySmallerThanTheTargetIsRefused) {
  ASSERT_TRUE(rig_.device().set_target_pages(0x801));

  const auto set = rig_.device().set_memory(testing::memory_with_hole());

  ASSERT_FALSE(set);
  EXPECT_EQ(set.error().code, Errc::kTargetTooLarge);
  EXPECT_EQ(rig_.device().memory_bytes(), 0u);
}

TEST_F(NoMemoryTest, StateIsRestoredWithItsTarget) {
  ASSERT_TRUE(rig_.device().set_target_pages(5));
  const auto state = rig_.save();
  rig_.replace_device();

  ASSERT_TRUE(rig_.restore(state));

  EXPECT_EQ(rig_.device().target_pages(), 5u);
}

TEST(MemoryThatGoes, BalloonIsEmptyAndTheTargetStays) {
  Rig rig;
  rig.start().inflate({5, 0x801});
  ASSERT_TRUE(rig.device().set_target_pages(0x800));

  ASSERT_TRUE(rig.device().set_memory(no_memory()));

  EXPECT_EQ(rig.device().memory_bytes(), 0u);
  EXPECT_EQ(rig.device().ballooned_pages(), 0u);
  EXPECT_EQ(rig.device().target_pages(), 0x800u);
}

TEST(MemoryThatGoes, WhatWasOwedIsForgone) {
  Rig rig;
  rig.start().device().inhibit_discards();
  rig.inflate({5, 0x801});

  ASSERT_TRUE(rig.device().set_memory(no_memory()));
  rig.device().resume_discards();

  EXPECT_EQ(rig.device().metrics().forgone_bytes, 2 * kPageSize);
  EXPECT_TRUE(testing::balanced(rig.device().metrics()));
  EXPECT_TRUE(rig.discarded().empty());
}

TEST(MemoryThatGoes, QueueThatRunsNeedsAReset) {
  Rig rig;
  rig.start();

  ASSERT_TRUE(rig.device().set_memory(no_memory()));

  EXPECT_NE(rig.device().read_status() & kStatusNeedsReset, 0);
}

TEST(MemoryThatGoes, DeviceIsResetAndGoesOnInTheNextOne) {
  Rig rig;
  rig.start().inflate({5});
  rig.reset();
  ASSERT_TRUE(rig.device().set_memory(no_memory()));

  ASSERT_TRUE(rig.device().set_memory(rig.shared_memory()));
  rig.start().inflate({6});

  EXPECT_EQ(rig.device().ballooned_pages(), 1u);
}

}  // namespace
}  // namespace vballoon
