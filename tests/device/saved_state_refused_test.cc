// SPDX-License-Identifier: MIT
// States that are refused, and what becomes of the device then (src/device/device_state.cc,
// src/device/save_restore.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "device/saved_state.h"
#include "device/saved_state_fixture.h"

namespace vballoon {
namespace {

using ::testing::AllOf;
using testing::Bytes;
using ::testing::HasSubstr;
using testing::numbers;
using testing::pfn_message;
using testing::Rig;

// A device with something of everything.
class RefusedStateTest : public testing::SavedStateFixture {
 protected:
  RefusedStateTest() {
    rig_.start().send(kStatsQueue, stats(4, 0x1234));
    rig_.serve(kStatsQueue);
    rig_.inflate({5, 6, 0x900});
    rig_.device().inhibit_discards();
    rig_.inflate({8});
    hint_command(rig_.device().start_hints().value());
    rig_.send(kInflateQueue, pfn_message(numbers(0x100, 0x180)));
    (void)rig_.device().process(kInflateQueue);
  }

  // Why a fresh device does not take it; empty if it does.
  std::string refusal(std::span<const std::byte> state) { return refusal_of(options(), state); }
  static std::string refusal_of(
      const BalloonOptions& options, std::span<const std::byte> state,
      std::shared_ptr<const GuestMemory> memory = testing::memory_with_hole()) {
    Rig fresh({.device = options, .memory = std::move(memory)});
    const auto before = fresh.device().save();
    const auto restored = fresh.device().restore(state);
    if (restored) return {};
    EXPECT_EQ(restored.error().code, Errc::kBadSavedState);
    EXPECT_EQ(fresh.device().save(), before);
    EXPECT_TRUE(fresh.discarded().empty());
    return restored.error().message();
  }
  template <typename Change>
  std::string refusal_when(Change change) {
    return refusal(changed_state(change));
  }
};

// ---- damaged -----------------------------------------------------------------------------------

TEST_F(RefusedStateTest, StateThatWasNotTouchedIsTaken) {
  EXPECT_EQ(refusal(rig_.device().save()), "");
}

TEST_F(RefusedStateTest, StateIsRefusedHoweverMuchOfItIsMissing) {
  const auto state = rig_.device().save();
  Rig fresh({.device = options()});
  std::size_t taken = 0;

  for (std::size_t size = 0; size < state.size(); ++size) {
    taken += fresh.device().restore(std::span(state).first(size)).has_value();
  }

  EXPECT_EQ(taken, 0u);
}

TEST_F(RefusedStateTest, StateIsRefusedWhicheverBitIsWrong) {
  auto state = rig_.device().save();
  Rig fresh({.device = options()});
  std::size_t taken = 0;

  for (std::size_t bit = 0; bit < state.size() * 8; ++bit) {
    const auto mask = std::byte{1} << bit % 8;
    state[bit / 8] ^= mask;
    taken += fresh.device().restore(state).has_value();
    state[bit / 8] ^= mask;
  }

  EXPECT_EQ(taken, 0u);
  EXPECT_TRUE(fresh.device().restore(state));
}

TEST_F(RefusedStateTest, StateIsRefusedWithSomethingBehindIt) {
  auto state = rig_.device().save();
  state.push_back(std::byte{0});

  EXPECT_THAT(refusal(state), HasSubstr("cut off or added to"));
}

TEST_F(RefusedStateTest, DamageIsSaidToBeDamage) {
  auto state = rig_.device().save();
  state[40] ^= std::byte{1};

  EXPECT_THAT(refusal(state), AllOf(HasSubstr("checksum"), HasSubstr("damaged on its way")));
}

TEST_F(RefusedStateTest, SomethingElseIsSaidToBeNoState) {
  EXPECT_THAT(refusal(Bytes(100)), HasSubstr("do not begin as a saved state does"));
}

TEST_F(RefusedStateTest, OtherVersionIsRefusedByItsNumber) {
  auto state = rig_.device().save();
  state[12] = std::byte{9};

  EXPECT_THAT(refusal(state), HasSubstr("of version 9 and this library reads version 2"));
}

TEST_F(RefusedStateTest, StateOfATransportIsRefused) {
  EXPECT_THAT(refusal(seal(StateKind::kMmioTransport, {})), HasSubstr("of kind 2 and not 1"));
}

// ---- of another device -------------------------------------------------------------------------

TEST_F(RefusedStateTest, OtherFeaturesAreRefused) {
  BalloonOptions other = options();
  other.features = other.features.with(Feature::kEventIdx);

  EXPECT_THAT(refusal_of(other, rig_.device().save()), HasSubstr("offered features"));
}

TEST_F(RefusedStateTest, OtherDialectIsRefused) {
  BalloonOptions bitmap = options();
  bitmap.dialect = Dialect::kPageBitmap;
  bitmap.dialect_bit = 20;
  BalloonOptions chunk = bitmap;
  chunk.dialect = Dialect::kScatterGather;
  Rig saved({.device = bitmap});

  EXPECT_THAT(refusal_of(chunk, saved.device().save()), HasSubstr("spoke dialect 1 (bit 20)"));
}

TEST_F(RefusedStateTest, OtherNumberingIsRefused) {
  BalloonOptions other = options();
  other.numbering = QueueNumbering::kFixed;

  EXPECT_THAT(refusal_of(other, rig_.device().save()), HasSubstr("numbered queues"));
}

TEST_F(RefusedStateTest, OtherMemoryIsRefused) {
  const auto larger = GuestMemory::allocate(std::vector<RegionLayout>{
      {0, testing::kLowPages * kPageSize}, {testing::kHigh * kPageSize, 0x401 * kPageSize}});

  EXPECT_THAT(refusal_of(options(), rig_.device().save(), larger.value()),
              AllOf(HasSubstr("0x800000"), HasSubstr("create the device with the memory")));
}

TEST_F(RefusedStateTest, OtherNumberOfRegionsIsRefused) {
  const auto one = GuestMemory::allocate(std::vector<RegionLayout>{{0, 0x800 * kPageSize}});

  EXPECT_THAT(refusal_of(options(), rig_.device().save(), one.value()),
              HasSubstr("had 2 regions and this one has 1"));
}

TEST_F(RefusedStateTest, DriverThatShouldHaveAcceptedMustTellHostIsRefused) {
  Rig saved(
      {.device = options(),
       .accepted = options().features.with(Feature::kVersion1).without(Feature::kMustTellHost)});
  saved.start();
  BalloonOptions strict = options();
  strict.require_must_tell_host = true;

  EXPECT_THAT(refusal_of(strict, saved.device().save()), HasSubstr("registers"));
}

TEST_F(RefusedStateTest, DeviceThatADriverUsesTakesNoState) {
  const auto state = rig_.device().save();

  const auto restored = rig_.device().restore(state);

  ASSERT_FALSE(restored);
  EXPECT_EQ(restored.error().code, Errc::kInvalidArgument);
  EXPECT_EQ(rig_.device().save(), state);
}

TEST_F(RefusedStateTest, DeviceThatWasResetTakesAState) {
  const auto state = rig_.device().save();
  rig_.reset();

  EXPECT_TRUE(rig_.device().restore(state));
}

// ---- impossible, with a checksum that is right -------------------------------------------------

TEST_F(RefusedStateTest, ImpossibleRegistersAreRefused) {
  EXPECT_THAT(refusal_when([](DeviceState& s) { s.registers.status = kStatusDriverOk; }),
              HasSubstr("registers"));
  EXPECT_THAT(refusal_when([](DeviceState& s) { s.registers.negotiated = Features(); }),
              HasSubstr("registers"));
  EXPECT_THAT(
      refusal_when([](DeviceState& s) { s.registers.negotiated = Features(~std::uint64_t{0}); }),
      HasSubstr("registers"));
}

TEST_F(RefusedStateTest, TargetLargerThanMemoryIsRefused) {
  EXPECT_THAT(refusal_when([](DeviceState& s) { s.registers.config[3] = std::byte{1}; }),
              HasSubstr("larger than guest memory"));
}

TEST_F(RefusedStateTest, PoisonWithoutItsFeatureIsRefused) {
  EXPECT_THAT(refusal_when([](DeviceState& s) {
                s.registers.negotiated = s.registers.negotiated.without(Feature::kPagePoison);
                s.registers.config[kPoisonValueOffset] = std::byte{1};
              }),
              HasSubstr("registers"));
}

TEST_F(RefusedStateTest, ImpossibleRoundOfHintsIsRefused) {
  EXPECT_THAT(refusal_when([](DeviceState& s) { s.hint_id += 1; }), HasSubstr("hints"));
  EXPECT_THAT(refusal_when([](DeviceState& s) { s.hint_state = HintState{5}; }),
              HasSubstr("none that a device can have"));
}

TEST_F(RefusedStateTest, HintsOfARoundThatIsOverAreRefused) {
  EXPECT_THAT(refusal_when([](DeviceState& s) {
                s.hint_state = HintState::kExhausted;
                s.queues[kHintQueue]->pages = {{5, 1}};
              }),
              HasSubstr("hints of a round that is over"));
}

TEST_F(RefusedStateTest, ImpossibleStatisticsAreRefused) {
  EXPECT_NE(refusal_when([](DeviceState& s) { s.stats.wanted = s.stats.asked = true; }), "");
  EXPECT_NE(refusal_when([](DeviceState& s) { s.stats.deadline = kSecond; }), "");
  EXPECT_NE(
      refusal_when([](DeviceState& s) { s.stats.latest->unknown = {{.tag = 3, .value = 0}}; }), "");
  EXPECT_NE(refusal_when([](DeviceState& s) { s.stats.latest->unknown.resize(300, {99, 0}); }), "");
}

TEST_F(RefusedStateTest, RingOutsideMemoryIsRefused) {
  EXPECT_THAT(refusal_when([](DeviceState& s) {
                s.queues[kReportQueue]->config.used_ring = std::uint64_t{1} << 40;
              }),
              HasSubstr("queue 4 cannot be where it says"));
}

TEST_F(RefusedStateTest, RingOfAnImpossibleSizeIsRefused) {
  EXPECT_NE(refusal_when([](DeviceState& s) { s.queues[kReportQueue]->config.size = 2048; }), "");
  EXPECT_NE(refusal_when([](DeviceState& s) { s.queues[kReportQueue]->config.size = 0; }), "");
}

TEST_F(RefusedStateTest, ImpossiblePositionIsRefused) {
  EXPECT_THAT(refusal_when([](DeviceState& s) { s.queues[kReportQueue]->position.next_used = 1; }),
              HasSubstr("queue 4 cannot be where it says"));
}

TEST_F(RefusedStateTest, ChainsThatAreNotInFlightAreRefused) {
  EXPECT_THAT(refusal_when([](DeviceState& s) { s.queues[kStatsQueue]->held.clear(); }),
              HasSubstr("queue 2 holds what it cannot hold"));
  EXPECT_THAT(refusal_when([](DeviceState& s) { s.queues[kReportQueue]->held.push_back({}); }),
              HasSubstr("queue 4 holds what it cannot hold"));
}

TEST_F(RefusedStateTest, TwoStatisticsBuffersAreRefused) {
  EXPECT_THAT(refusal_when([](DeviceState& s) {
                ++s.queues[kStatsQueue]->position.next_available;
                s.queues[kStatsQueue]->held.push_back({});
              }),
              HasSubstr("queue 2 holds what it cannot hold"));
}

TEST_F(RefusedStateTest, PagesOfAQueueThatNamesNoneAreRefused) {
  EXPECT_THAT(refusal_when([](DeviceState& s) {
                s.queues[kStatsQueue]->pages = {{5, 1}};
              }),
              HasSubstr("queue 2 holds what it cannot hold"));
}

TEST_F(RefusedStateTest, PagesOutOfOrderAreRefused) {
  EXPECT_NE(refusal_when([](DeviceState& s) {
              s.queues[kInflateQueue]->pages = {{5, 1}, {4, 1}};
            }),
            "");
  EXPECT_NE(refusal_when([](DeviceState& s) { s.queues[kInflateQueue]->pages = {{5, 0}}; }), "");
  EXPECT_NE(refusal_when([](DeviceState& s) {
              s.queues[kInflateQueue]->pages = {{5, ~Pfn{0}}};
            }),
            "");
}

TEST_F(RefusedStateTest, QueuesBeforeFeaturesAreRefused) {
  Rig idle({.device = options()});
  const DeviceMake make{.offered = idle.device().offered_features(),
                        .regions = idle.memory().regions()};
  DeviceState state = decode(idle.device().save(), make).value();
  state.queues[0].emplace().config = idle.ring_config(0);

  EXPECT_THAT(refusal(encode(state, make)), HasSubstr("queue 0"));
}

TEST_F(RefusedStateTest, BalloonWithoutADriverIsRefused) {
  Rig idle({.device = options()});
  const DeviceMake make{.offered = idle.device().offered_features(),
                        .regions = idle.memory().regions()};
  DeviceState state = decode(idle.device().save(), make).value();
  Ledger::Booked booked;
  state.ledger.inflate(0, 1, booked);

  EXPECT_THAT(refusal(encode(state, make)), HasSubstr("in a balloon that no driver has"));
}

TEST_F(RefusedStateTest, OwedPageThatIsNotInTheBalloonIsRefused) {
  EXPECT_THAT(refusal_when([](DeviceState& s) {
                s.ledger.owe(PageRange{0x200, 1});
              }),
              HasSubstr("none that a device can have"));
}

TEST_F(RefusedStateTest, OwedPageWithoutMustTellHostIsRefused) {
  EXPECT_THAT(refusal_when([](DeviceState& s) {
                s.registers.negotiated = s.registers.negotiated.without(Feature::kMustTellHost);
              }),
              HasSubstr("MUST_TELL_HOST"));
}

// Whatever stands in a state, a device either refuses it or can be used and reset afterwards.
TEST_F(RefusedStateTest, RandomChangesAreRefusedOrHarmless) {
  const auto state = rig_.device().save();
  const auto content = unseal(StateKind::kBalloonDevice, state).value();
  std::mt19937 random(7);
  Rig fresh({.device = options(), .memory = rig_.shared_memory()});
  int taken = 0;
  for (int i = 0; i < 2000; ++i) {
    StateWriter changed;
    changed.put(content);
    for (int k = 0; k < 1 + i % 3; ++k) {
      changed.bytes()[random() % content.size()] = static_cast<std::byte>(random());
    }
    if (!fresh.device().restore(seal(StateKind::kBalloonDevice, std::move(changed)))) continue;
    ++taken;
    for (std::uint16_t queue = 0; queue < kMaxBalloonQueues; ++queue) {
      for (int turn = 0; turn < 10; ++turn) (void)fresh.device().process(queue);
    }
    (void)fresh.device().tick();
    (void)fresh.device().save();
    fresh.reset();
    EXPECT_EQ(fresh.device().ballooned_pages(), 0u);
  }
  EXPECT_GT(taken, 0);
  EXPECT_LT(taken, 2000);
}

}  // namespace
}  // namespace vballoon
