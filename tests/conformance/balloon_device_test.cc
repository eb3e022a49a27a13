// SPDX-License-Identifier: MIT
// What the standard asks of a balloon device (virtio 1.3, section 5.5). Names bear the ids of
// checklist.tsv.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "device/device_fixture.h"
#include "device/two_mib_pages.h"

namespace vballoon {
namespace {

using testing::borrow_memory;
using testing::Bytes;
using ::testing::ElementsAre;
using testing::everything_but;
using ::testing::IsEmpty;
using testing::kHigh;
using testing::kPagesPerHugePage;
using testing::kTwoMib;
using testing::Message;
using testing::numbers;
using testing::pfn_message;
using testing::Rig;

class BalloonDeviceConformance : public ::testing::Test {
 protected:
  // Bytes as a driver would write them.
  static Bytes bytes(const std::vector<int>& values) {
    Bytes all;
    for (const int value : values) all.push_back(static_cast<std::byte>(value));
    return all;
  }

  Rig rig_;
};

TEST_F(BalloonDeviceConformance, BAL_I_01_DeviceIdIsFive) { EXPECT_EQ(kBalloonDeviceId, 5u); }

TEST_F(BalloonDeviceConformance, BAL_I_02_QueueZeroInflatesAndQueueOneDeflates) {
  rig_.start();

  rig_.send(0, pfn_message({5, 6}));
  rig_.serve(0);
  rig_.send(1, pfn_message({5}));
  rig_.serve(1);

  EXPECT_FALSE(rig_.device().is_ballooned(5));
  EXPECT_TRUE(rig_.device().is_ballooned(6));
}

TEST_F(BalloonDeviceConformance, BAL_I_03_NumPagesComesFirstAndIsLittleEndian) {
  ASSERT_TRUE(rig_.device().set_target_pages(0x0201));
  Bytes read(4);

  rig_.device().read_config(0, read);

  EXPECT_EQ(read, bytes({1, 2, 0, 0}));
}

TEST_F(BalloonDeviceConformance, BAL_I_03_ActualComesSecondAndIsLittleEndian) {
  Bytes read(4);

  rig_.device().write_config(4, bytes({5, 6, 7, 8}));
  rig_.device().read_config(4, read);

  EXPECT_EQ(rig_.device().actual_pages(), 0x08070605u);
  EXPECT_EQ(read, bytes({5, 6, 7, 8}));
}

TEST_F(BalloonDeviceConformance, BAL_I_05_EachNumberOf32BitsNamesA4096thOfTheAddress) {
  rig_.start().inflate(Message{{bytes({0x34, 0x02, 0, 0, 0x56, 0x03, 0, 0})}});

  EXPECT_THAT(rig_.discarded(), ElementsAre(PageRange{0x234, 1}, PageRange{0x356, 1}));
  EXPECT_EQ(rig_.recorded().runs()[0].address, rig_.host(0x234));
  EXPECT_EQ(rig_.recorded().runs()[0].length, 4096u);
}

TEST_F(BalloonDeviceConformance, BAL_I_06_UsedInflateBufferIsItsAnswerAndInterrupts) {
  rig_.start().inflate({5});

  EXPECT_THAT(rig_.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_EQ(rig_.interrupts(kInflateQueue), 1);
}

TEST_F(BalloonDeviceConformance, BAL_I_06_UsedDeflateBufferIsItsAnswerAndInterrupts) {
  rig_.start().deflate({5});

  EXPECT_THAT(rig_.completed(kDeflateQueue), ElementsAre(0u));
  EXPECT_EQ(rig_.interrupts(kDeflateQueue), 1);
}

// ---- when a page may be changed -----------------------------------------------------------------

// Looks at the ring from within each discard, and really discards.
class LookingDiscarder final : public Discarder {
 public:
  void discard(std::span<const HostRun> runs, DiscardReport& report) override {
    answered_before += rig->completed(kInflateQueue).size();
    kernel_->discard(runs, report);
  }
  Rig* rig = nullptr;
  std::size_t answered_before = 0;

 private:
  std::unique_ptr<Discarder> kernel_ = make_kernel_discarder();
};

TEST(PageContentConformance, BAL_D_04_PageIsEmptiedBeforeItsInflateIsAnswered) {
  auto owned = std::make_unique<LookingDiscarder>();
  LookingDiscarder& discarder = *owned;
  Rig rig({.discarder = std::move(owned)});
  discarder.rig = &rig;
  *rig.host(5) = std::byte{0x55};
  *rig.host(6) = std::byte{0x66};

  rig.start().inflate({5});

  EXPECT_EQ(*rig.host(5), std::byte{0});
  EXPECT_EQ(*rig.host(6), std::byte{0x66}) << "not named";
  EXPECT_EQ(discarder.answered_before, 0u);
  EXPECT_THAT(rig.completed(kInflateQueue), ElementsAre(0u));
}

// Two huge pages, which go back to the kernel as a whole only; rings and payloads lie elsewhere.
class AnsweredPageConformance : public ::testing::Test {
 protected:
  static Rig rig(Features accepted) {
    return Rig({.accepted = accepted,
                .memory = borrow_memory(
                    {{0, 2 * kTwoMib}, {kHigh << kPageShift, 2 * kTwoMib, kPageSize}})});
  }
  static constexpr std::uint32_t kN = kPagesPerHugePage;
  const Features with_ = everything_but(Feature::kEventIdx);
  const Features without_ = everything_but(Feature::kMustTellHost);
};

TEST_F(AnsweredPageConformance, BAL_D_05_WithMustTellHostPagesAreChangedAfterTheirAnswer) {
  Rig guest = rig(with_);
  guest.start().inflate(pfn_message(numbers(0, kN - 1)));
  ASSERT_THAT(guest.completed(kInflateQueue), ElementsAre(0u));
  ASSERT_THAT(guest.discarded(), IsEmpty());

  guest.inflate({kN - 1});

  EXPECT_THAT(guest.discarded(), ElementsAre(PageRange{0, kN}));
}

TEST_F(AnsweredPageConformance, BAL_D_05_WithoutMustTellHostPagesAreNotChangedAfterTheirAnswer) {
  Rig guest = rig(without_);
  guest.start().inflate(pfn_message(numbers(0, kN - 1)));

  guest.inflate({kN - 1});

  EXPECT_THAT(guest.discarded(), IsEmpty());
}

TEST_F(AnsweredPageConformance, BAL_D_05_PageWhoseDeflateIsAnsweredIsNotChanged) {
  Rig guest = rig(with_);
  guest.start().inflate(pfn_message(numbers(0, kN - 1)));
  guest.deflate({7});

  guest.inflate({kN - 1});

  EXPECT_THAT(guest.discarded(), IsEmpty());
}

}  // namespace
}  // namespace vballoon
