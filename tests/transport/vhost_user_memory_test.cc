// SPDX-License-Identifier: MIT
// Guest memory that a front end hands over, takes back and moves
// (src/transport/vhost_user_memory.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "memory/residency.h"
#include "transport/vhost_user_rig.h"
#include "vballoon/balloon_registers.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::numbers;
using testing::pfn_message;
using testing::SharedGuestMemory;
using testing::SharedRegion;
using testing::stats_entries;
using testing::TestBackEnd;
using testing::VhostUserGuest;
namespace vhost = testing::vhost;

constexpr std::uint16_t kStatsQueue = 2;
constexpr std::uint64_t kMiB = SharedGuestMemory::kMiB;

class VhostUserMemoryTest : public ::testing::Test {
 protected:
  static BalloonOptions options() {
    return {.features = Features{Feature::kMustTellHost, Feature::kStatsVq, Feature::kRingPacked}};
  }
  // The high region in three: what is before the rings, the rings, the payloads.
  static SharedRegion before_rings() {
    return SharedGuestMemory::part(SharedGuestMemory::kHigh, 0, 2 * kMiB);
  }
  static SharedRegion rings() {
    return SharedGuestMemory::part(SharedGuestMemory::kHigh, 2 * kMiB, kMiB);
  }
  static SharedRegion payloads() {
    return SharedGuestMemory::part(SharedGuestMemory::kHigh, 3 * kMiB, kMiB);
  }
  void hold_stats_buffer() {
    guest_.send(kStatsQueue, {{stats_entries({{4, 1}})}});
    guest_.serve(kStatsQueue);
  }
  void use_stats_buffer() {
    ASSERT_TRUE(back_end_.device().request_stats(std::chrono::seconds(1)));
    back_end_.work();
  }
  // Mappings of guest memory in this process: one is the guest's own view.
  static int mappings() {
    std::ifstream maps("/proc/self/maps");
    int count = 0;
    for (std::string line; std::getline(maps, line);) {
      if (line.find("/memfd:guest") != std::string::npos) ++count;
    }
    return count;
  }

  TestBackEnd back_end_{options()};
  VhostUserGuest guest_{back_end_};
};

// ---- discards ----------------------------------------------------------------------------------

TEST_F(VhostUserMemoryTest, InflatedPagesAreFreeAndReadAsZerosAndNoOthers) {
  guest_.start().memory().fill();
  const std::uint64_t before = guest_.memory().resident_bytes();

  guest_.inflate({0, 5, 6, 0x3FF, 0x800, 0x9FF});

  EXPECT_EQ(guest_.memory().resident_bytes(), before - 6 * kPageSize);
  for (const Pfn pfn : {0, 5, 6, 0x3FF, 0x800, 0x9FF}) EXPECT_TRUE(guest_.memory().is_zero(pfn));
  for (const Pfn pfn : {1, 4, 7, 0x3FE, 0x801, 0x9FE}) {
    EXPECT_TRUE(guest_.memory().has_its_number(pfn));
  }
}

TEST_F(VhostUserMemoryTest, PagesInTheHoleAreNobodys) {
  guest_.start().inflate({0x400, 0x7FF, 0xC00});

  EXPECT_EQ(back_end_.device().metrics().count(Errc::kPageOutOfRange), 3u);
  EXPECT_EQ(back_end_.device().ballooned_pages(), 0u);
}

// ---- a table in place of another ---------------------------------------------------------------

TEST_F(VhostUserMemoryTest, EmbedderIsToldWhatThereIs) {
  guest_.start().front_end().share({SharedGuestMemory::kHigh});

  EXPECT_THAT(back_end_.memory_bytes, ElementsAre(8 * kMiB, 4 * kMiB));
}

TEST_F(VhostUserMemoryTest, TargetIsLoweredToTheMemoryThatThereIs) {
  ASSERT_TRUE(back_end_.device().set_target_pages(0x10000));

  guest_.negotiate();

  EXPECT_EQ(back_end_.device().target_pages(), 0x800u);
  EXPECT_THAT(back_end_.log, ElementsAre(HasSubstr("target")));
}

TEST_F(VhostUserMemoryTest, LoweredTargetComesBackWithTheMemory) {
  ASSERT_TRUE(back_end_.device().set_target_pages(0x600));
  guest_.start().front_end().share({SharedGuestMemory::kHigh});
  ASSERT_EQ(back_end_.device().target_pages(), 0x400u);

  guest_.front_end().share(SharedGuestMemory::regions());

  EXPECT_EQ(back_end_.device().target_pages(), 0x600u);
}

TEST_F(VhostUserMemoryTest, TargetThatWasSetMeanwhileStays) {
  ASSERT_TRUE(back_end_.device().set_target_pages(0x600));
  guest_.start().front_end().share({SharedGuestMemory::kHigh});
  ASSERT_TRUE(back_end_.device().set_target_pages(0x100));

  guest_.front_end().share(SharedGuestMemory::regions());

  EXPECT_EQ(back_end_.device().target_pages(), 0x100u);
}

TEST_F(VhostUserMemoryTest, LoweredTargetIsThereForTheNextFrontEnd) {
  ASSERT_TRUE(back_end_.device().set_target_pages(0x10000));
  guest_.start().front_end().die();

  EXPECT_EQ(back_end_.device().target_pages(), 0x10000u);
}

TEST_F(VhostUserMemoryTest, PagesThatBothTablesHaveStayInTheBalloon) {
  guest_.start().inflate({5, 0x801});

  guest_.front_end().share({SharedGuestMemory::kHigh});

  EXPECT_FALSE(back_end_.device().is_ballooned(5));
  EXPECT_TRUE(back_end_.device().is_ballooned(0x801));
}

TEST_F(VhostUserMemoryTest, ChainThatIsHeldIsAnsweredInTheNewTable) {
  guest_.start();
  hold_stats_buffer();

  guest_.front_end().share({before_rings(), rings(), payloads()});
  use_stats_buffer();

  EXPECT_THAT(guest_.completed(kStatsQueue), ElementsAre(0u));
}

// The rings are known by addresses of the front end, which are the same.
TEST_F(VhostUserMemoryTest, RingsAreFoundAtOtherGuestAddresses) {
  guest_.start().inflate({5});
  hold_stats_buffer();
  SharedRegion moved = rings();
  moved.guest += 16 * kMiB;

  guest_.front_end().share({SharedGuestMemory::kLow, before_rings(), moved, payloads()});
  guest_.inflate({6, 0xA00});
  use_stats_buffer();

  EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u, 0u));
  EXPECT_THAT(guest_.completed(kStatsQueue), ElementsAre(0u));
  EXPECT_EQ(back_end_.device().metrics().count(Errc::kPageOutOfRange), 1u) << "0xA00 is elsewhere";
}

TEST_F(VhostUserMemoryTest, MessageInItsMiddleIsReadToItsEnd) {
  BalloonOptions short_turns = options();
  short_turns.budget = {.pages = 100};
  TestBackEnd back_end(short_turns);
  VhostUserGuest guest(back_end);
  guest.start().send(kInflateQueue, pfn_message(numbers(0, 1000)));
  guest.front_end().kick(kInflateQueue);
  back_end.back_end().dispatch();
  ASSERT_THAT(guest.completed(kInflateQueue), IsEmpty());

  guest.front_end().share({SharedGuestMemory::kLow, before_rings(), rings(), payloads()});

  EXPECT_THAT(guest.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_EQ(back_end.device().ballooned_pages(), 1000u);
}

TEST_F(VhostUserMemoryTest, TableWithoutTheRingsBreaksThemAndNothingElse) {
  guest_.start().inflate({5});

  guest_.front_end().share({SharedGuestMemory::kLow});
  guest_.inflate({6});

  EXPECT_NE(back_end_.device().read_status() & kStatusNeedsReset, 0);
  EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u)) << "of before";
  EXPECT_NO_THROW((void)guest_.front_end().ask(vhost::kGetFeatures));
}

TEST_F(VhostUserMemoryTest, OldMappingsAreLetGo) {
  guest_.start();
  const int with_memory = mappings();

  guest_.front_end().share({SharedGuestMemory::kHigh});
  EXPECT_LT(mappings(), with_memory);
  guest_.front_end().share({SharedGuestMemory::kLow, SharedGuestMemory::kHigh});
  EXPECT_EQ(mappings(), with_memory);
  guest_.front_end().die();

  EXPECT_EQ(mappings(), 1);
}

TEST_F(VhostUserMemoryTest, DescriptorsOfMemoryAreNotKept) {
  const std::size_t before = testing::open_file_count();

  guest_.negotiate();

  EXPECT_EQ(testing::open_file_count(), before);
}

TEST_F(VhostUserMemoryTest, MemoryOfAGuestThatHasGoneIsLeftAsItWas) {
  guest_.start().memory().fill();
  guest_.inflate({5});

  guest_.front_end().die();

  EXPECT_TRUE(guest_.memory().has_its_number(6));
  EXPECT_EQ(back_end_.device().memory_bytes(), 0u);
}

// Sizes of front ends of before Linux 5.18: with room for more regions than there are.
TEST_F(VhostUserMemoryTest, TableWithRoomForMoreIsTaken) {
  vhost::Bytes payload = vhost::joined(vhost::bytes_of(1U, 0U), describe(SharedGuestMemory::kHigh));
  payload.resize(72);

  guest_.negotiate().front_end().tell(vhost::kSetMemTable, payload, guest_.memory().fd());

  EXPECT_EQ(back_end_.device().memory_bytes(), 4 * kMiB);
}

// ---- slots -------------------------------------------------------------------------------------

class VhostUserSlotsTest : public ::testing::Test {
 protected:
  bool refused(std::uint32_t request, const vhost::Bytes& payload, std::vector<int> fds = {}) {
    EXPECT_TRUE(guest_.socket().send(request, payload, fds, vhost::kVersion | vhost::kNeedReply));
    back_end_.work();
    const auto reply = guest_.socket().receive();
    return reply && reply->u64() != 0;
  }
  static vhost::Bytes slot(const SharedRegion& region) {
    return vhost::joined(vhost::u64(0), describe(region));
  }

  TestBackEnd back_end_;
  VhostUserGuest guest_{
      back_end_,
      {.front_end = {.protocol_features = vhost::kPlainProtocolFeatures | vhost::kMemSlots,
                     .memory_slots = true},
       .packed = false}};
};

TEST_F(VhostUserSlotsTest, RegionsComeOneByOne) {
  guest_.start().inflate({5, 0x801});

  EXPECT_THAT(back_end_.memory_bytes, ElementsAre(4 * kMiB, 8 * kMiB));
  EXPECT_EQ(back_end_.device().ballooned_pages(), 2u);
}

// QEMU begins with a region of 640 KiB.
TEST_F(VhostUserSlotsTest, TargetBeyondTheFirstRegionIsKept) {
  ASSERT_TRUE(back_end_.device().set_target_pages(0x600));

  guest_.start();

  EXPECT_EQ(back_end_.device().target_pages(), 0x600u);
}

TEST_F(VhostUserSlotsTest, RegionThatGoesTakesItsPagesOutOfTheBalloon) {
  guest_.start().inflate({5, 0x801});

  guest_.front_end().remove_region(SharedGuestMemory::kLow);

  EXPECT_FALSE(back_end_.device().is_ballooned(5));
  EXPECT_TRUE(back_end_.device().is_ballooned(0x801));
  guest_.inflate({0x802});
  EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u, 0u));
}

TEST_F(VhostUserSlotsTest, RegionThatComesBackIsUsedAgain) {
  guest_.start().inflate({5});
  guest_.front_end().remove_region(SharedGuestMemory::kLow);

  guest_.front_end().add_region(SharedGuestMemory::kLow);
  guest_.inflate({6});

  EXPECT_TRUE(back_end_.device().is_ballooned(6));
}

// Some front ends send the descriptor once more.
TEST_F(VhostUserSlotsTest, DescriptorOfARegionThatGoesIsClosed) {
  guest_.start();
  const std::size_t before = testing::open_file_count();

  guest_.front_end().tell(vhost::kRemMemReg, slot(SharedGuestMemory::kLow), guest_.memory().fd());

  EXPECT_EQ(back_end_.device().memory_bytes(), 4 * kMiB);
  EXPECT_EQ(testing::open_file_count(), before);
}

TEST_F(VhostUserSlotsTest, AllSlotsCanBeUsedAndNoMore) {
  guest_.negotiate();
  guest_.front_end().remove_region(SharedGuestMemory::kLow);
  const std::uint64_t slots = guest_.front_end().ask(vhost::kGetMaxMemSlots).u64();
  std::vector<SharedRegion> pages;
  for (std::uint64_t i = 0; i < slots; ++i) {
    pages.push_back(SharedGuestMemory::part(SharedGuestMemory::kLow, 2 * i * kPageSize, kPageSize));
  }

  for (std::uint64_t i = 0; i + 1 < slots; ++i) guest_.front_end().add_region(pages[i]);

  EXPECT_TRUE(refused(vhost::kAddMemReg, slot(pages.back()), {guest_.memory().fd()}));
  EXPECT_EQ(back_end_.device().memory_bytes(), 4 * kMiB + (slots - 1) * kPageSize);
}

TEST_F(VhostUserSlotsTest, RegionThatIsNotThereCannotGo) {
  guest_.start();
  SharedRegion elsewhere = SharedGuestMemory::kLow;
  elsewhere.user += kPageSize;

  EXPECT_TRUE(refused(vhost::kRemMemReg, slot(elsewhere)));
  EXPECT_EQ(back_end_.device().memory_bytes(), 8 * kMiB);
}

}  // namespace
}  // namespace vballoon
