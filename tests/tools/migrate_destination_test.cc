// SPDX-License-Identifier: MIT
// The other process: what it takes, and that it believes nothing.
#include "migrate_destination.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "migrate_link.h"
#include "migrate_stream.h"
#include "sizes.h"
#include "vballoon/discarder.h"

namespace vballoon::tool {
namespace {

using ::testing::HasSubstr;

class MigrateDestinationTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kRegionPages = 256;
  const std::vector<RegionLayout> layout_{{0, kMiB}, {4 * kGiB, kMiB}};

  MigrateDestinationTest() { std::memset(upper().host + 5 * kPageSize, 7, 200 * kPageSize); }
  const MemoryRegion& upper() { return source_->regions()[1]; }
  std::byte* there(std::uint64_t page) {
    return destination_->memory().regions()[1].host + page * kPageSize;
  }
  std::vector<std::byte> saved_device() {
    return BalloonDevice::create(source_, make_kernel_discarder(), {}).value()->save();
  }
  // What the process makes of a frame that a source would not send.
  void send(const Frame& frame) {
    ASSERT_EQ(::write(destination_->socket(), &frame, sizeof frame),
              static_cast<ssize_t>(sizeof frame));
  }
  bool stream_ends() {
    char byte = 0;
    return ::read(destination_->socket(), &byte, 1) <= 0;
  }

  std::shared_ptr<const GuestMemory> source_ = GuestMemory::allocate(layout_).value();
  std::unique_ptr<Destination> destination_ = Destination::start(layout_, {}).value();
  MigrationLink link_{destination_->socket(), std::nullopt, [] { return true; }};
};

TEST_F(MigrateDestinationTest, PagesArriveWhereTheyWere) {
  ASSERT_TRUE(link_.send_pages(upper(), {5, 200}));
  const auto arrival = link_.finish(saved_device(), 2 * kRegionPages);

  ASSERT_TRUE(arrival);
  EXPECT_EQ(arrival->pages, 200u);
  EXPECT_TRUE(arrival->restored);
  EXPECT_EQ(arrival->ballooned.count(), 0u);
  EXPECT_EQ(*there(4), std::byte{0});
  EXPECT_EQ(std::memcmp(there(5), upper().host + 5 * kPageSize, 200 * kPageSize), 0);
  EXPECT_EQ(*there(205), std::byte{0});
}

TEST_F(MigrateDestinationTest, EveryByteOfTheStreamIsCounted) {
  ASSERT_TRUE(link_.send_pages(upper(), {5, 200}));

  EXPECT_EQ(link_.bytes_sent(), 200 * kPageSize + 4 * sizeof(Frame));
}

TEST_F(MigrateDestinationTest, DeviceThatIsDamagedIsNotRestored) {
  std::vector<std::byte> state = saved_device();
  state[state.size() / 2] ^= std::byte{1};

  const auto arrival = link_.finish(state, 2 * kRegionPages);

  ASSERT_TRUE(arrival);
  EXPECT_FALSE(arrival->restored);
}

TEST_F(MigrateDestinationTest, PagesOutsideItsMemoryEndTheStream) {
  send({FrameKind::kPages, kRegionPages - 1, 2});

  EXPECT_TRUE(stream_ends());
}

TEST_F(MigrateDestinationTest, FrameThatIsTooLongEndsTheStream) {
  send({FrameKind::kPages, 0, kMostFramePages + 1});

  EXPECT_TRUE(stream_ends());
}

TEST_F(MigrateDestinationTest, FrameOfNoKindEndsTheStream) {
  send({static_cast<FrameKind>(9), 0, 1});

  EXPECT_TRUE(stream_ends());
}

TEST_F(MigrateDestinationTest, LinkThatIsToldToStopSendsNothing) {
  MigrationLink link(destination_->socket(), std::nullopt, [] { return false; });

  EXPECT_FALSE(link.send_pages(upper(), {0, 1}));
  EXPECT_EQ(link.failure(), "");
}

TEST_F(MigrateDestinationTest, LinkToAProcessThatIsGoneSaysSo) {
  send({static_cast<FrameKind>(9), 0, 1});
  ASSERT_TRUE(stream_ends());

  EXPECT_FALSE(link_.finish(saved_device(), 2 * kRegionPages));
  EXPECT_THAT(link_.failure(), HasSubstr("the destination is gone: "));
}

}  // namespace
}  // namespace vballoon::tool
