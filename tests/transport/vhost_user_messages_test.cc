// SPDX-License-Identifier: MIT
// What each message of vhost-user does, and how it is answered
// (src/transport/vhost_user_session.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>

#include "transport/vhost_user_rig.h"
#include "vballoon/balloon_registers.h"

namespace vballoon {
namespace {

using ::testing::Optional;
using testing::TestBackEnd;
using testing::VhostUserSocket;
namespace vhost = testing::vhost;
using vhost::Message;

constexpr std::uint32_t kReply = 5;  // version 1, and the bit of a reply

// A front end that says what the test wants and nothing else.
class VhostUserMessagesTest : public ::testing::Test {
 protected:
  VhostUserMessagesTest() { back_end_.work(); }

  std::optional<Message> exchange(std::uint32_t request, const vhost::Bytes& payload = {},
                                  std::uint32_t flags = vhost::kVersion) {
    EXPECT_TRUE(socket_.send(request, payload, {}, flags));
    back_end_.work();
    return socket_.receive();
  }
  std::optional<Message> exchange_acknowledged(std::uint32_t request,
                                               const vhost::Bytes& payload = {}) {
    return exchange(request, payload, vhost::kVersion | vhost::kNeedReply);
  }
  void negotiate_protocol(std::uint64_t features) {
    EXPECT_EQ(exchange(vhost::kSetProtocolFeatures, vhost::u64(features)), std::nullopt);
    ASSERT_FALSE(socket_.is_closed());
  }
  static Message acknowledged(std::uint32_t request) { return {request, kReply, vhost::u64(0)}; }

  static constexpr Features kOffered{Feature::kMustTellHost, Feature::kStatsVq,
                                     Feature::kPagePoison, Feature::kRingPacked};
  TestBackEnd back_end_{{.features = kOffered}};
  VhostUserSocket socket_ = VhostUserSocket::connect(back_end_.path());
};

// ---- replies -----------------------------------------------------------------------------------

TEST_F(VhostUserMessagesTest, VHU_D_01_ReplyHasTheRequestTheFlags5AndItsOwnSize) {
  const std::uint64_t features =
      kOffered.with(Feature::kVersion1).with_bit(vhost::kProtocolFeaturesBit).bits();

  EXPECT_EQ(exchange(vhost::kGetFeatures),
            (Message{vhost::kGetFeatures, kReply, vhost::u64(features)}));
  EXPECT_EQ(
      exchange(vhost::kGetProtocolFeatures),
      (Message{vhost::kGetProtocolFeatures, kReply, vhost::u64(vhost::kEveryProtocolFeature)}));
}

TEST_F(VhostUserMessagesTest, VHU_D_01_ReplyToAMessageThatAsksForOneTwiceIsOne) {
  negotiate_protocol(vhost::kPlainProtocolFeatures);

  const auto reply = exchange_acknowledged(vhost::kGetFeatures);

  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->flags, kReply);
  EXPECT_EQ(socket_.receive(), std::nullopt);
}

TEST_F(VhostUserMessagesTest, VHU_D_02_MessageWithoutAReplyOfItsOwnIsAcknowledgedWithZero) {
  negotiate_protocol(vhost::kPlainProtocolFeatures);

  EXPECT_EQ(exchange_acknowledged(vhost::kSetOwner), acknowledged(vhost::kSetOwner));
  EXPECT_EQ(
      exchange_acknowledged(vhost::kSetFeatures, vhost::u64(Features{Feature::kVersion1}.bits())),
      acknowledged(vhost::kSetFeatures));
}

// user-mode-linux sets the flag from the message on that negotiates it.
TEST_F(VhostUserMessagesTest, VHU_D_02_MessageThatNegotiatesAcknowledgementsIsAcknowledged) {
  EXPECT_EQ(
      exchange_acknowledged(vhost::kSetProtocolFeatures, vhost::u64(vhost::kPlainProtocolFeatures)),
      acknowledged(vhost::kSetProtocolFeatures));
}

TEST_F(VhostUserMessagesTest, VHU_D_02_WithoutReplyAckNothingIsAcknowledged) {
  negotiate_protocol(vhost::kConfig);

  EXPECT_EQ(exchange_acknowledged(vhost::kSetOwner), std::nullopt);
  EXPECT_FALSE(socket_.is_closed());
}

TEST_F(VhostUserMessagesTest, VHU_D_02_RefusedMessageIsAnsweredWithSomethingElse) {
  negotiate_protocol(vhost::kPlainProtocolFeatures);

  const auto reply = exchange_acknowledged(vhost::kSetVringNum, vhost::state(99, 64));

  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->request, vhost::kSetVringNum);
  EXPECT_EQ(reply->flags, kReply);
  EXPECT_EQ(reply->payload.size(), 8u);
  EXPECT_NE(reply->u64(), 0u);
  EXPECT_FALSE(socket_.is_closed());
}

TEST_F(VhostUserMessagesTest, RefusedMessageThatCannotBeAnsweredEndsTheConnection) {
  EXPECT_EQ(exchange(vhost::kSetVringNum, vhost::state(99, 64)), std::nullopt);

  EXPECT_TRUE(socket_.is_closed());
}

TEST_F(VhostUserMessagesTest, VHU_D_04_UnknownMessageIsAnsweredWithAnError) {
  negotiate_protocol(vhost::kPlainProtocolFeatures);

  const auto reply = exchange_acknowledged(77, vhost::u64(5));

  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->request, 77u);
  EXPECT_EQ(reply->flags, kReply);
  EXPECT_NE(reply->u64(), 0u);
  EXPECT_TRUE(exchange(vhost::kGetFeatures));
}

TEST_F(VhostUserMessagesTest, VHU_D_04_UnknownMessageThatWantsNoAnswerIsIgnored) {
  EXPECT_EQ(exchange(77, vhost::u64(5)), std::nullopt);

  EXPECT_TRUE(exchange(vhost::kGetFeatures));
}

TEST_F(VhostUserMessagesTest, VHU_D_04_UnknownMessageIsIgnoredWhereNoErrorCanBeSaid) {
  EXPECT_EQ(exchange_acknowledged(77, vhost::u64(5)), std::nullopt) << "without REPLY_ACK";

  EXPECT_TRUE(exchange(vhost::kGetFeatures));
}

TEST_F(VhostUserMessagesTest, MessagesThatComeTogetherAreAnsweredInOrder) {
  const vhost::Bytes two = vhost::joined(vhost::bytes_of(vhost::kGetFeatures, 1U, 0U),
                                         vhost::bytes_of(vhost::kGetProtocolFeatures, 1U, 0U));
  ASSERT_TRUE(socket_.send_raw(two));
  back_end_.work();

  const auto first = socket_.receive();
  const auto second = socket_.receive();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->request, vhost::kGetFeatures);
  EXPECT_EQ(second->request, vhost::kGetProtocolFeatures);
}

TEST_F(VhostUserMessagesTest, MessageThatComesByteForByteIsOne) {
  for (const std::byte byte :
       vhost::joined(vhost::bytes_of(vhost::kSetProtocolFeatures, 9U, 8U), vhost::u64(8))) {
    ASSERT_TRUE(socket_.send_raw(std::span(&byte, 1)));
    back_end_.work();
  }

  EXPECT_EQ(socket_.receive(), acknowledged(vhost::kSetProtocolFeatures));
}

// ---- negotiation -------------------------------------------------------------------------------

TEST_F(VhostUserMessagesTest, FeaturesThatAreAcceptedAreNegotiated) {
  const Features accepted{Feature::kVersion1, Feature::kStatsVq};

  (void)exchange(vhost::kSetFeatures,
                 vhost::u64(accepted.with_bit(vhost::kProtocolFeaturesBit).bits()));

  EXPECT_EQ(back_end_.device().negotiated_features(), accepted);
}

TEST_F(VhostUserMessagesTest, ThereAreAsManyQueuesAsAnyDriverAsksFor) {
  negotiate_protocol(vhost::kMultiqueue);

  const auto reply = exchange(vhost::kGetQueueNum);

  ASSERT_TRUE(reply);
  EXPECT_GE(reply->u64(), 5u);
}

TEST_F(VhostUserMessagesTest, ResetOwnerIsIgnored) {
  negotiate_protocol(vhost::kPlainProtocolFeatures);

  EXPECT_EQ(exchange_acknowledged(vhost::kResetOwner), acknowledged(vhost::kResetOwner));
}

// ---- configuration -----------------------------------------------------------------------------

class VhostUserConfigTest : public VhostUserMessagesTest {
 protected:
  VhostUserConfigTest() { negotiate_protocol(vhost::kPlainProtocolFeatures); }

  static vhost::Bytes config(std::uint32_t offset, std::uint32_t size, vhost::Bytes bytes) {
    return vhost::joined(vhost::bytes_of(offset, size, 0U), bytes);
  }
  std::optional<Message> get(std::uint32_t offset, std::uint32_t size) {
    return exchange(vhost::kGetConfig, config(offset, size, vhost::Bytes(size)));
  }
};

TEST_F(VhostUserConfigTest, TargetIsRead) {
  ASSERT_TRUE(back_end_.device().set_target_pages(0x1234));

  EXPECT_EQ(get(0, 4),
            (Message{vhost::kGetConfig, kReply, config(0, 4, vhost::bytes_of(0x1234U))}));
}

TEST_F(VhostUserConfigTest, AllOfItIsReadAtOnce) {
  ASSERT_TRUE(back_end_.device().set_target_pages(7));
  back_end_.device().write_config(kActualOffset, vhost::bytes_of(5U));

  EXPECT_EQ(get(0, 8), (Message{vhost::kGetConfig, kReply, config(0, 8, vhost::bytes_of(7U, 5U))}));
}

TEST_F(VhostUserConfigTest, PartIsRead) {
  back_end_.device().write_config(kActualOffset, vhost::bytes_of(5U));

  EXPECT_EQ(get(4, 4), (Message{vhost::kGetConfig, kReply, config(4, 4, vhost::bytes_of(5U))}));
}

TEST_F(VhostUserConfigTest, WhatLiesBehindItIsZero) {
  EXPECT_EQ(get(200, 4), (Message{vhost::kGetConfig, kReply, config(200, 4, vhost::bytes_of(0U))}));
}

TEST_F(VhostUserConfigTest, SizeThatDoesNotFitItsMessageIsAnErrorOfSizeZero) {
  EXPECT_EQ(exchange(vhost::kGetConfig, config(0, 8, vhost::Bytes(4))),
            (Message{vhost::kGetConfig, kReply, {}}));
  EXPECT_FALSE(socket_.is_closed());
}

TEST_F(VhostUserConfigTest, ActualIsWritten) {
  EXPECT_EQ(exchange_acknowledged(vhost::kSetConfig, config(4, 4, vhost::bytes_of(77U))),
            acknowledged(vhost::kSetConfig));

  EXPECT_EQ(back_end_.device().actual_pages(), 77u);
}

TEST_F(VhostUserConfigTest, TargetIsNotWritten) {
  const auto reply = exchange_acknowledged(vhost::kSetConfig, config(0, 4, vhost::bytes_of(77U)));

  ASSERT_TRUE(reply);
  EXPECT_NE(reply->u64(), 0u);
  EXPECT_EQ(back_end_.device().target_pages(), 0u);
}

TEST_F(VhostUserConfigTest, WriteThatTouchesTheTargetToo) {
  const auto reply =
      exchange_acknowledged(vhost::kSetConfig, config(0, 8, vhost::bytes_of(77U, 78U)));

  ASSERT_TRUE(reply);
  EXPECT_NE(reply->u64(), 0u);
  EXPECT_EQ(back_end_.device().actual_pages(), 0u);
}

TEST_F(VhostUserConfigTest, PoisonIsWrittenBeforeTheDriverBegins) {
  (void)exchange(vhost::kSetFeatures,
                 vhost::u64(Features{Feature::kVersion1, Feature::kPagePoison}.bits()));

  EXPECT_EQ(exchange_acknowledged(vhost::kSetConfig, config(12, 4, vhost::bytes_of(0xAAAAAAAAU))),
            acknowledged(vhost::kSetConfig));

  EXPECT_EQ(get(12, 4),
            (Message{vhost::kGetConfig, kReply, config(12, 4, vhost::bytes_of(0xAAAAAAAAU))}));
}

// ---- status ------------------------------------------------------------------------------------

class VhostUserStatusTest : public VhostUserMessagesTest {
 protected:
  static constexpr std::uint8_t kAsked = kStatusAcknowledge | kStatusDriver;

  VhostUserStatusTest() { negotiate_protocol(vhost::kStatus | vhost::kReplyAck); }

  std::optional<Message> set(std::uint64_t status) {
    return exchange_acknowledged(vhost::kSetStatus, vhost::u64(status));
  }
  std::uint64_t get() { return exchange(vhost::kGetStatus).value().u64(); }
  void accept(Features features) {
    EXPECT_EQ(exchange_acknowledged(vhost::kSetFeatures, vhost::u64(features.bits())),
              acknowledged(vhost::kSetFeatures));
  }
};

TEST_F(VhostUserStatusTest, StatusIsReadAsItWasWritten) {
  EXPECT_EQ(get(), 0u);

  EXPECT_EQ(set(kAsked), acknowledged(vhost::kSetStatus));

  EXPECT_EQ(get(), kAsked);
}

TEST_F(VhostUserStatusTest, FeaturesThatAreNotOfferedLeaveFeaturesOkClear) {
  set(kAsked);
  accept(Features{Feature::kVersion1, Feature::kInOrder});

  set(kAsked | kStatusFeaturesOk);

  EXPECT_EQ(get(), kAsked);
}

TEST_F(VhostUserStatusTest, FeaturesBeforeFeaturesOkAreNotSettled) {
  set(kAsked);
  accept(Features{Feature::kVersion1});
  EXPECT_EQ(back_end_.device().negotiated_features(), Features());
  accept(Features{Feature::kVersion1, Feature::kStatsVq});

  set(kAsked | kStatusFeaturesOk);

  EXPECT_EQ(back_end_.device().negotiated_features(),
            (Features{Feature::kVersion1, Feature::kStatsVq}));
}

// As QEMU does it: nothing but FEATURES_OK at first.
TEST_F(VhostUserStatusTest, FeaturesOkNeedsNothingBeforeIt) {
  accept(Features{Feature::kVersion1}.with_bit(vhost::kProtocolFeaturesBit));

  set(kStatusFeaturesOk);
  set(kStatusFeaturesOk | kAsked | kStatusDriverOk);

  EXPECT_EQ(get(), kStatusFeaturesOk | kAsked | kStatusDriverOk);
}

TEST_F(VhostUserStatusTest, ZeroResets) {
  accept(Features{Feature::kVersion1});
  set(kAsked | kStatusFeaturesOk);

  EXPECT_EQ(set(0), acknowledged(vhost::kSetStatus));

  EXPECT_EQ(get(), 0u);
  EXPECT_EQ(back_end_.device().negotiated_features(), Features());
}

TEST_F(VhostUserStatusTest, StatusThatIsNoByteIsRefused) {
  const auto reply = set(0x100);

  ASSERT_TRUE(reply);
  EXPECT_NE(reply->u64(), 0u);
}

}  // namespace
}  // namespace vballoon
