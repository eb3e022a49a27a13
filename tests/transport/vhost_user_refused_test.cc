// SPDX-License-Identifier: MIT
// Messages of vhost-user that are malformed, out of order or impossible: each ends in an error
// reply or a closed connection and in nothing more.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <limits>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "memory/residency.h"
#include "transport/vhost_user_rig.h"
#include "vballoon/balloon_registers.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;
using testing::SharedGuestMemory;
using testing::SharedRegion;
using testing::TestBackEnd;
using testing::VhostUserGuest;
namespace vhost = testing::vhost;
using vhost::bytes_of;
using vhost::joined;
using vhost::state;
using vhost::u64;

constexpr std::uint64_t kMiB = SharedGuestMemory::kMiB;

// What comes along with a message.
enum class Fd { kMemory, kReadOnlyMemory, kSparse, kEvent, kPipe, kSocket };

struct Refused {
  std::string name;
  std::uint32_t request = 0;
  vhost::Bytes payload{};
  std::vector<Fd> fds{};
};
void PrintTo(const Refused& refused, std::ostream* out) { *out << refused.name; }

// The low region, with something changed.
SharedRegion low(std::uint64_t guest, std::uint64_t bytes = kMiB,
                 std::uint64_t user = 0x7100'0000'0000, std::uint64_t offset = 0) {
  return {guest, bytes, user, offset};
}
vhost::Bytes table(const std::vector<SharedRegion>& regions) {
  vhost::Bytes payload = bytes_of(static_cast<std::uint32_t>(regions.size()), 0U);
  for (const SharedRegion& region : regions) payload = joined(payload, describe(region));
  return payload;
}
vhost::Bytes slot(const SharedRegion& region) { return joined(u64(0), describe(region)); }
vhost::Bytes addresses(std::uint32_t index, std::uint64_t descriptors, std::uint64_t used,
                       std::uint64_t available) {
  return bytes_of(index, 0U, descriptors, used, available, std::uint64_t{0});
}
vhost::Bytes config(std::uint32_t offset, std::uint32_t size, std::size_t bytes) {
  return joined(bytes_of(offset, size, 0U), vhost::Bytes(bytes));
}

// Each message once with a byte too few and once with a byte too many.
std::vector<Refused> wrong_sizes() {
  struct Size {
    std::uint32_t request;
    std::size_t bytes;
    std::vector<Fd> fds = {};
  };
  const std::vector<Size> sizes{
      {vhost::kGetFeatures, 0},
      {vhost::kSetFeatures, 8},
      {vhost::kSetOwner, 0},
      {vhost::kResetOwner, 0},
      {vhost::kSetVringNum, 8},
      {vhost::kSetVringAddr, 40},
      {vhost::kSetVringBase, 8},
      {vhost::kGetVringBase, 8},
      {vhost::kSetVringKick, 8, {Fd::kEvent}},
      {vhost::kSetVringCall, 8, {Fd::kEvent}},
      {vhost::kSetVringErr, 8, {Fd::kEvent}},
      {vhost::kGetProtocolFeatures, 0},
      {vhost::kSetProtocolFeatures, 8},
      {vhost::kGetQueueNum, 0},
      {vhost::kSetVringEnable, 8},
      {vhost::kSetBackendReqFd, 0, {Fd::kPipe}},
      {vhost::kResetDevice, 0},
      {vhost::kVringKick, 8},
      {vhost::kGetMaxMemSlots, 0},
      {vhost::kAddMemReg, 40, {Fd::kMemory}},
      {vhost::kRemMemReg, 40},
      {vhost::kSetStatus, 8},
      {vhost::kGetStatus, 0},
  };
  std::vector<Refused> all;
  for (const Size& size : sizes) {
    const std::string name = "Message" + std::to_string(size.request);
    all.push_back({name + "TooLong", size.request, vhost::Bytes(size.bytes + 1), size.fds});
    if (size.bytes == 0) continue;
    all.push_back({name + "TooShort", size.request, vhost::Bytes(size.bytes - 1), size.fds});
    all.push_back({name + "Empty", size.request, {}, size.fds});
  }
  return all;
}

// Each message with a descriptor that it does not bring, or without the one that it does.
std::vector<Refused> wrong_descriptors() {
  std::vector<Refused> all{
      {"FeaturesWithADescriptor", vhost::kGetFeatures, {}, {Fd::kEvent}},
      {"OwnerWithADescriptor", vhost::kSetOwner, {}, {Fd::kMemory}},
      {"BaseWithADescriptor", vhost::kGetVringBase, state(0, 0), {Fd::kEvent}},
      {"ConfigWithADescriptor", vhost::kSetConfig, config(4, 4, 4), {Fd::kEvent}},
      {"KickWithTwo", vhost::kSetVringKick, u64(0), {Fd::kEvent, Fd::kEvent}},
      {"KickWithNone", vhost::kSetVringKick, u64(0)},
      {"KickThatSaysNoneAndHasOne", vhost::kSetVringKick, u64(vhost::kNoFd), {Fd::kEvent}},
      {"KickWithAFile", vhost::kSetVringKick, u64(0), {Fd::kMemory}},
      {"KickWithOtherBits", vhost::kSetVringKick, u64(0x200), {Fd::kEvent}},
      {"CallWithNone", vhost::kSetVringCall, u64(0)},
      {"CallWithEight", vhost::kSetVringCall, u64(0), std::vector<Fd>(8, Fd::kEvent)},
      {"ErrorWithNone", vhost::kSetVringErr, u64(0)},
      {"ChannelWithNone", vhost::kSetBackendReqFd},
      {"ChannelWithTwo", vhost::kSetBackendReqFd, {}, {Fd::kPipe, Fd::kPipe}},
      {"ChannelThatIsAFile", vhost::kSetBackendReqFd, {}, {Fd::kMemory}},
      {"RegionWithNone", vhost::kAddMemReg, slot(low(16 * kMiB))},
      {"RegionWithTwo", vhost::kAddMemReg, slot(low(16 * kMiB)), {Fd::kMemory, Fd::kMemory}},
      {"RegionThatIsAnEventfd", vhost::kAddMemReg, slot(low(16 * kMiB)), {Fd::kEvent}},
      {"RegionThatIsAPipe", vhost::kAddMemReg, slot(low(16 * kMiB)), {Fd::kPipe}},
      {"RegionThatIsASocket", vhost::kAddMemReg, slot(low(16 * kMiB)), {Fd::kSocket}},
      {"RegionThatCannotBeWritten", vhost::kAddMemReg, slot(low(16 * kMiB)), {Fd::kReadOnlyMemory}},
      {"NineDescriptors", vhost::kSetMemTable, table({}), std::vector<Fd>(9, Fd::kMemory)},
      {"ManyDescriptors", vhost::kSetOwner, {}, std::vector<Fd>(60, Fd::kMemory)},
  };
  return all;
}

std::vector<Refused> wrong_memory() {
  constexpr std::uint64_t kHighest = std::numeric_limits<std::uint64_t>::max() - 4095;
  std::vector<Refused> all{
      {"TableWithoutItsDescriptors", vhost::kSetMemTable, table({low(0)})},
      {"TableOfNothingWithOne", vhost::kSetMemTable, table({}), {Fd::kMemory}},
      {"TableShorterThanItSays", vhost::kSetMemTable, bytes_of(1U, 0U), {Fd::kMemory}},
      {"TableOfNine", vhost::kSetMemTable, bytes_of(9U, 0U), {Fd::kMemory}},
      {"TableOfTooMany",
       vhost::kSetMemTable,
       joined(bytes_of(~0U, 0U), describe(low(0))),
       {Fd::kMemory}},
      {"TableOverlapsInTheGuest",
       vhost::kSetMemTable,
       table({low(0), low(kMiB / 2, kMiB, 0x7200'0000'0000)}),
       {Fd::kMemory, Fd::kMemory}},
      {"TableOverlapsInTheFrontEnd",
       vhost::kSetMemTable,
       table({low(0), low(4 * kMiB, kMiB, 0x7100'0000'0000 + kMiB / 2)}),
       {Fd::kMemory, Fd::kMemory}},
      {"TableWhoseSecondIsBad",
       vhost::kSetMemTable,
       table({low(0), low(4 * kMiB, 0)}),
       {Fd::kMemory, Fd::kMemory}},
      {"RegionWithoutASlot", vhost::kRemMemReg, slot(low(0))},
  };
  const std::vector<std::pair<std::string, SharedRegion>> regions{
      {"Empty", low(16 * kMiB, 0)},
      {"UnalignedSize", low(16 * kMiB, 100)},
      {"UnalignedGuest", low(16 * kMiB + 8)},
      {"UnalignedUser", low(16 * kMiB, kMiB, 0x7100'0000'0010)},
      {"UnalignedOffset", low(16 * kMiB, kMiB, 0x7100'0000'0000, 512)},
      {"BehindTheFile", low(16 * kMiB, kMiB, 0x7100'0000'0000, SharedGuestMemory::kFileBytes)},
      {"AcrossTheEndOfTheFile", low(16 * kMiB, SharedGuestMemory::kFileBytes + kPageSize)},
      {"OffsetThatWraps", low(16 * kMiB, kMiB, 0x7100'0000'0000, kHighest)},
      {"SizeThatWraps", low(16 * kMiB, kHighest)},
      {"GuestThatWraps", low(kHighest, 2 * kPageSize)},
      {"GuestUpToTheEnd", low(kHighest, kPageSize)},
      {"UserThatWraps", low(16 * kMiB, 2 * kPageSize, kHighest)},
      {"OverlapsInTheGuest", low(3 * kMiB, 2 * kMiB)},
      {"OverlapsInTheFrontEnd", low(16 * kMiB, kMiB, SharedGuestMemory::kLow.user + kPageSize)},
  };
  for (const auto& [name, region] : regions) {
    all.push_back({"Region" + name, vhost::kAddMemReg, slot(region), {Fd::kMemory}});
  }
  all.push_back({"RegionOf2TiB",
                 vhost::kAddMemReg,
                 slot(low(1ULL << 42, 1ULL << 41, 1ULL << 43)),
                 {Fd::kSparse}});
  return all;
}

std::vector<Refused> wrong_values() {
  const std::uint64_t inside = SharedGuestMemory::kLow.user;
  const Features offered = Features{Feature::kVersion1, Feature::kMustTellHost};
  return {
      {"FeaturesThatAreNotOffered", vhost::kSetFeatures,
       u64(offered.with(Feature::kInOrder).with_bit(vhost::kProtocolFeaturesBit).bits())},
      {"FeaturesWithoutVersion1", vhost::kSetFeatures, u64(0)},
      {"OtherFeaturesWhileRingsRun", vhost::kSetFeatures, u64(offered.bits())},
      {"ProtocolFeaturesThatAreNotOffered", vhost::kSetProtocolFeatures, u64(1ULL << 40)},
      {"InbandAlone", vhost::kSetProtocolFeatures, u64(vhost::kInband)},
      {"InbandWithoutReplyAck", vhost::kSetProtocolFeatures,
       u64(vhost::kInband | vhost::kBackendReq)},
      {"NumOfARingThatRuns", vhost::kSetVringNum, state(0, 64)},
      {"NumOfNoRing", vhost::kSetVringNum, state(kMaxBalloonQueues, 64)},
      {"NumOfAFarRing", vhost::kSetVringNum, state(~0U, 64)},
      {"NumOfNothing", vhost::kSetVringNum, state(3, 0)},
      {"NumThatIsNoPowerOfTwo", vhost::kSetVringNum, state(3, 63)},
      {"NumTooLarge", vhost::kSetVringNum, state(3, 2048)},
      {"NumThatLooksSmall", vhost::kSetVringNum, state(3, 0x10040)},
      {"BaseOfARingThatRuns", vhost::kSetVringBase, state(0, 0)},
      {"BaseOfNoRing", vhost::kSetVringBase, state(kMaxBalloonQueues, 0)},
      {"BaseOfASplitRingTooLarge", vhost::kSetVringBase, state(3, 0x10000)},
      {"BaseToldOfNoRing", vhost::kGetVringBase, state(0x10000, 0)},
      {"AddressesOfARingThatRuns", vhost::kSetVringAddr, addresses(0, inside, inside, inside)},
      {"AddressesOfNoRing", vhost::kSetVringAddr, addresses(99, inside, inside, inside)},
      {"DescriptorsOutside", vhost::kSetVringAddr, addresses(3, 0x1000, inside, inside)},
      {"UsedOutside", vhost::kSetVringAddr, addresses(3, inside, ~0ULL, inside)},
      {"AvailableOutside", vhost::kSetVringAddr,
       addresses(3, inside, inside, inside + SharedGuestMemory::kLow.bytes)},
      {"GuestAddresses", vhost::kSetVringAddr, addresses(3, 0, 0, 0)},
      {"KickOfNoRing", vhost::kSetVringKick, u64(kMaxBalloonQueues), {Fd::kEvent}},
      {"CallOfNoRing", vhost::kSetVringCall, u64(0xFF), {Fd::kEvent}},
      {"ErrorOfNoRing", vhost::kSetVringErr, u64(0xFF), {Fd::kEvent}},
      {"EnableOfNoRing", vhost::kSetVringEnable, state(kMaxBalloonQueues, 1)},
      {"EnableOfTwo", vhost::kSetVringEnable, state(0, 2)},
      {"KickMessageOfNoRing", vhost::kVringKick, state(kMaxBalloonQueues, 0)},
      {"KickMessageWithoutInband", vhost::kVringKick, state(0, 0)},
      {"ConfigShorterThanItSays", vhost::kSetConfig, config(4, 4, 3)},
      {"ConfigOfTheTarget", vhost::kSetConfig, config(0, 4, 4)},
      {"ConfigOfAHalf", vhost::kSetConfig, config(4, 2, 2)},
      {"ConfigBehindItsEnd", vhost::kSetConfig, config(16, 4, 4)},
      {"ConfigFarAway", vhost::kSetConfig, config(~0U, 4, 4)},
      {"ConfigThatIsTooLarge", vhost::kSetConfig, config(0, 300, 300)},
      {"ConfigReadShorterThanItSays", vhost::kGetConfig, config(0, 8, 4)},
      {"ConfigReadFarAway", vhost::kGetConfig, config(~0U, 4, 4)},
      {"ConfigReadThatIsTooLarge", vhost::kGetConfig, config(250, 8, 8)},
      {"StatusThatIsNoByte", vhost::kSetStatus, u64(0x100)},
      {"StatusThatWasNotNegotiated", vhost::kSetStatus, u64(1)},
  };
}

std::vector<Refused> refused_messages() {
  std::vector<Refused> all = wrong_sizes();
  for (const auto& more : {wrong_descriptors(), wrong_memory(), wrong_values()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

class VhostUserRefusedTest : public ::testing::TestWithParam<Refused> {
 protected:
  VhostUserRefusedTest() {
    guest_.start().inflate({5});
    guest_.deflate({5});
    EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u));
  }

  // One that the test keeps, so that it counts the same before and after.
  int open(Fd kind) {
    std::array<int, 2> ends{-1, -1};
    switch (kind) {
      case Fd::kMemory:
        return guest_.memory().fd();
      case Fd::kReadOnlyMemory:
        kept_.emplace_back(
            ::open(("/proc/self/fd/" + std::to_string(guest_.memory().fd())).c_str(), O_RDONLY));
        break;
      case Fd::kSparse:
        kept_.emplace_back(memfd_create("sparse", MFD_CLOEXEC));
        EXPECT_EQ(ftruncate(kept_.back().get(), std::int64_t{1} << 42), 0);
        break;
      case Fd::kEvent:
        kept_.emplace_back(eventfd(0, EFD_CLOEXEC));
        break;
      case Fd::kPipe:
        EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
        kept_.emplace_back(ends[0]);
        kept_.emplace_back(ends[1]);
        break;
      case Fd::kSocket:
        return guest_.socket().fd();
    }
    return kept_.back().get();
  }
  std::vector<int> descriptors() {
    std::vector<int> fds;
    for (const Fd kind : GetParam().fds) fds.push_back(open(kind));
    return fds;
  }

  TestBackEnd back_end_{{.features = Features{Feature::kMustTellHost, Feature::kStatsVq}}};
  VhostUserGuest guest_{
      back_end_,
      {.front_end = {.protocol_features = vhost::kPlainProtocolFeatures | vhost::kMultiqueue |
                                          vhost::kMemSlots | vhost::kResetDeviceFeature},
       .packed = false}};
  std::vector<UniqueFd> kept_;
};

INSTANTIATE_TEST_SUITE_P(Messages, VhostUserRefusedTest, ::testing::ValuesIn(refused_messages()),
                         [](const auto& refused) { return refused.param.name; });

// Whether it was refused by a reply that says so. Otherwise the connection has to be closed.
::testing::AssertionResult is_error(const std::optional<vhost::Message>& reply) {
  if (!reply) return ::testing::AssertionFailure() << "no reply";
  const bool says_so =
      reply->request == vhost::kGetConfig ? reply->payload.empty() : reply->u64() != 0;
  if (says_so && reply->flags == 5) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "a reply that is no error";
}

TEST_P(VhostUserRefusedTest, EndsInAnErrorReplyOrAClosedConnectionAndNothingMore) {
  const std::vector<int> fds = descriptors();
  const std::size_t files = testing::open_file_count();
  const auto ballooned = back_end_.device().ballooned_pages();

  (void)guest_.socket().send(GetParam().request, GetParam().payload, fds,
                             vhost::kVersion | vhost::kNeedReply);
  back_end_.work();
  const auto reply = guest_.socket().receive();

  if (reply) {
    EXPECT_TRUE(is_error(reply));
    EXPECT_EQ(testing::open_file_count(), files) << "what came along is closed";
    EXPECT_EQ(back_end_.device().memory_bytes(), 8 * kMiB);
    guest_.inflate({6});
    EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u));
    EXPECT_EQ(back_end_.device().ballooned_pages(), ballooned + 1);
  } else {
    EXPECT_TRUE(guest_.socket().is_closed());
  }
}

TEST_P(VhostUserRefusedTest, NextFrontEndFindsABackEndThatWorksAndHasLostNothing) {
  const std::vector<int> fds = descriptors();
  guest_.connect_anew();
  const std::size_t files = testing::open_file_count();
  guest_.start();

  (void)guest_.socket().send(GetParam().request, GetParam().payload, fds, vhost::kVersion);
  back_end_.work();
  guest_.connect_anew();
  EXPECT_EQ(testing::open_file_count(), files);
  guest_.start().inflate({6});

  EXPECT_THAT(guest_.completed(kInflateQueue), ElementsAre(0u));
  EXPECT_EQ(back_end_.device().ballooned_pages(), 1u);
}

// ---- headers -----------------------------------------------------------------------------------

class VhostUserHeaderTest : public ::testing::Test {
 protected:
  bool closes_on(std::uint32_t flags, std::uint32_t size, std::uint32_t request = 1) {
    EXPECT_TRUE(guest_.socket().send_raw(bytes_of(request, flags, size)));
    back_end_.work();
    return guest_.socket().is_closed();
  }

  TestBackEnd back_end_;
  VhostUserGuest guest_{back_end_};
};

TEST_F(VhostUserHeaderTest, WithoutAVersionClosesTheConnection) { EXPECT_TRUE(closes_on(0, 0)); }

TEST_F(VhostUserHeaderTest, WithAnotherVersionClosesTheConnection) { EXPECT_TRUE(closes_on(2, 0)); }

TEST_F(VhostUserHeaderTest, OfAReplyClosesTheConnection) { EXPECT_TRUE(closes_on(5, 0)); }

TEST_F(VhostUserHeaderTest, OfALargeMessageClosesTheConnection) { EXPECT_TRUE(closes_on(1, 4096)); }

TEST_F(VhostUserHeaderTest, OfTheLargestMessageClosesTheConnection) {
  EXPECT_TRUE(closes_on(1, ~0U));
}

TEST_F(VhostUserHeaderTest, ThatEndsInItsMiddleIsTheEndOfTheFrontEnd) {
  ASSERT_TRUE(guest_.socket().send_raw(vhost::Bytes(5)));

  guest_.connect_anew().start();

  EXPECT_THAT(back_end_.connections, ElementsAre(true, false, true));
}

TEST_F(VhostUserHeaderTest, DescriptorsThatComeByteForByteAreCountedTogether) {
  const UniqueFd event(eventfd(0, EFD_CLOEXEC));
  const std::vector<int> fds(5, event.get());
  const vhost::Bytes header = bytes_of(vhost::kSetOwner, 1U, 0U);
  const std::size_t files = testing::open_file_count();

  ASSERT_TRUE(guest_.socket().send_raw(std::span(header).first(1), fds));
  ASSERT_TRUE(guest_.socket().send_raw(std::span(header).subspan(1, 1), fds));
  back_end_.work();

  EXPECT_TRUE(guest_.socket().is_closed());
  EXPECT_LT(testing::open_file_count(), files) << "those of the session are closed too";
}

TEST_F(VhostUserHeaderTest, UnfinishedMessageKeepsNobodyBusy) {
  ASSERT_TRUE(guest_.socket().send_raw(bytes_of(1U, 1U)));

  back_end_.work();

  EXPECT_FALSE(back_end_.has_work());
  EXPECT_FALSE(guest_.socket().is_closed());
}

// ---- order -------------------------------------------------------------------------------------

class VhostUserOrderTest : public ::testing::Test {
 protected:
  // Before anything was negotiated.
  bool closes_on(std::uint32_t request, const vhost::Bytes& payload = {},
                 std::vector<int> fds = {}) {
    EXPECT_TRUE(socket_.send(request, payload, fds, vhost::kVersion));
    back_end_.work();
    return socket_.is_closed();
  }

  TestBackEnd back_end_;
  testing::VhostUserSocket socket_ = testing::VhostUserSocket::connect(back_end_.path());
  SharedGuestMemory memory_;
};

TEST_F(VhostUserOrderTest, BaseBeforeFeaturesIsRefused) {
  EXPECT_TRUE(closes_on(vhost::kSetVringBase, state(0, 0)));
}

TEST_F(VhostUserOrderTest, EnableBeforeFeaturesIsRefused) {
  EXPECT_TRUE(closes_on(vhost::kSetVringEnable, state(0, 1)));
}

TEST_F(VhostUserOrderTest, AddressesBeforeMemoryAreRefused) {
  EXPECT_TRUE(closes_on(vhost::kSetVringAddr, addresses(0, 0, 0, 0)));
}

TEST_F(VhostUserOrderTest, EnableWithoutTheBitOfProtocolFeaturesIsRefused) {
  ASSERT_TRUE(socket_.send(vhost::kSetFeatures, u64(Features{Feature::kVersion1}.bits())));

  EXPECT_TRUE(closes_on(vhost::kSetVringEnable, state(0, 1)));
}

TEST_F(VhostUserOrderTest, KickBeforeAnythingElseIsHeldUntilThereIsARing) {
  const UniqueFd kick(eventfd(1, EFD_CLOEXEC));

  EXPECT_FALSE(closes_on(vhost::kSetVringKick, u64(0), {kick.get()}));
  EXPECT_FALSE(back_end_.has_work());
}

struct Needy {
  std::string name;
  std::uint32_t request;
  vhost::Bytes payload{};
  bool fd = false;
};
class VhostUserFeatureOrderTest : public VhostUserOrderTest,
                                  public ::testing::WithParamInterface<Needy> {};

INSTANTIATE_TEST_SUITE_P(
    Messages, VhostUserFeatureOrderTest,
    ::testing::Values(Needy{"GetQueueNum", vhost::kGetQueueNum},
                      Needy{"SetBackendReqFd", vhost::kSetBackendReqFd, {}, true},
                      Needy{"SetConfig", vhost::kSetConfig, config(4, 4, 4)},
                      Needy{"ResetDevice", vhost::kResetDevice},
                      Needy{"VringKick", vhost::kVringKick, state(0, 0)},
                      Needy{"GetMaxMemSlots", vhost::kGetMaxMemSlots},
                      Needy{"AddMemReg", vhost::kAddMemReg, slot(SharedGuestMemory::kLow), true},
                      Needy{"RemMemReg", vhost::kRemMemReg, slot(SharedGuestMemory::kLow)},
                      Needy{"SetStatus", vhost::kSetStatus, u64(1)},
                      Needy{"GetStatus", vhost::kGetStatus}),
    [](const auto& needy) { return needy.param.name; });

TEST_P(VhostUserFeatureOrderTest, IsRefusedWithoutItsProtocolFeature) {
  const std::vector<int> fds = GetParam().fd ? std::vector{memory_.fd()} : std::vector<int>{};

  EXPECT_TRUE(closes_on(GetParam().request, GetParam().payload, fds));
}

}  // namespace
}  // namespace vballoon
